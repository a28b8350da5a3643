"""The queue: which due charges get a message next."""

from datetime import datetime, timedelta

from sqlalchemy import Connection, TextClause, text

from worker.store.tables import DUE_ADHOC, DUE_AGAIN, IS_DUE, UNDER_CALL

ROUNDS = 4  # statements for each kind of charge; more are needed only where a card has many due charges


def _queue_first(which: str) -> TextClause:
    """Queue the first charge of each card among so many due charges of one kind.

    Charges whose card has another charge queued, or a call of another one under way, are passed over.
    """
    return text(
        f"""
        WITH due AS MATERIALIZED (
            SELECT c.id, c.billing_key_id, c.next_attempt_at
            FROM charges c
            WHERE {which} AND c.account = :account AND c.next_attempt_at <= :now
                AND (c.queued_until IS NULL OR c.queued_until <= :now)
                AND c.billing_key_id NOT IN (SELECT q.billing_key_id FROM charges q
                    WHERE q.account = :account AND q.queued_until IS NOT NULL AND q.queued_until > :now)
                -- OFFSET 0 prevents a join, which would sort all charges that are due
                AND NOT EXISTS (SELECT FROM attempts a
                    WHERE a.billing_key_id = c.billing_key_id AND {UNDER_CALL} AND a.charge_id <> c.id OFFSET 0)
            ORDER BY c.next_attempt_at
            LIMIT :limit
            FOR UPDATE OF c SKIP LOCKED
        )
        UPDATE charges SET queued_until = :until
        WHERE id IN (SELECT DISTINCT ON (billing_key_id) id FROM due ORDER BY billing_key_id, next_attempt_at, id)
        RETURNING id, kind, next_attempt_at, (SELECT count(*) FROM due) AS read
        """  # noqa: S608 # the parts put in are constants of the schema
    )


# Statements of the hot path are built once: building one costs as much time as executing it.
FIRST_THINGS_FIRST = [
    _queue_first(which) for which in (DUE_ADHOC, DUE_AGAIN, f"kind = 'renewal' AND attempts = 0 AND {IS_DUE}")
]


def queue_due(
    db: Connection, account: str, now: datetime, patience: timedelta, limit: int
) -> list[tuple[int, str]]:
    """Mark due charges of an account as queued, longest due first; return (id, kind) of each.

    At most one charge of each card is queued at a time, and none while a call of the card is under way: the others
    take no room. Requested charges take at most half of the room while others are due, so that renewals do not
    wait for a batch.
    """
    asked_for, *others = FIRST_THINGS_FIRST
    half = limit - limit // 2
    queued = _queue_due(db, asked_for, account, now, patience, half)
    for statement in (*others, asked_for) if len(queued) == half else others:
        if len(queued) < limit:
            queued += _queue_due(db, statement, account, now, patience, limit - len(queued))
    return queued


def _queue_due(
    db: Connection, statement: TextClause, account: str, now: datetime, patience: timedelta, limit: int
) -> list[tuple[int, str]]:
    queued: list[tuple[int, str]] = []
    for _ in range(ROUNDS):
        room = limit - len(queued)
        values = {"account": account, "now": now, "until": now + patience, "limit": room}
        found = sorted(db.execute(statement, values), key=lambda row: row.next_attempt_at)
        queued += [(row.id, row.kind) for row in found]
        if len(found) == room or not found or found[0].read < room:
            break  # no more room, or no more charges; otherwise some cards had more than one
    return queued
