"""Queries of `again status` beside the usual counts; the cost of each grows with the number of due charges."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from schedules.operations.due_work import Unopened
from worker.store.tables import DUE_ADHOC, IS_DUE, UNRESOLVED_STATES

MOST_UNOPENED = 1000  # periods, oldest first, among which each account's oldest is found
BLOCKS = 64  # of 8 kB, that the probe writes
_DUE = text(
    f"""
    SELECT known.name AS account, waiting.due, first.next_attempt_at AS oldest, first.key AS oldest_key,
        requested.next_attempt_at AS oldest_requested, renewal.next_attempt_at AS oldest_renewal,
        breakers.counted_from,
        extract(epoch FROM clock_timestamp() - rate_buckets.next_free_at)::float8 AS last_slot_ago
    FROM unnest(CAST(:accounts AS text[])) AS known (name)
    CROSS JOIN LATERAL (
        SELECT count(*) AS due FROM charges
        WHERE account = known.name AND {IS_DUE} AND next_attempt_at <= :now
    ) AS waiting
    LEFT JOIN LATERAL (
        SELECT key, next_attempt_at FROM charges
        WHERE account = known.name AND {IS_DUE} AND next_attempt_at <= :now
        ORDER BY next_attempt_at LIMIT 1
    ) AS first ON true
    LEFT JOIN LATERAL (
        SELECT next_attempt_at FROM charges
        WHERE account = known.name AND {DUE_ADHOC} AND next_attempt_at <= :now
        ORDER BY next_attempt_at LIMIT 1
    ) AS requested ON true
    LEFT JOIN LATERAL (
        SELECT next_attempt_at FROM charges
        WHERE account = known.name AND {IS_DUE} AND kind = 'renewal' AND next_attempt_at <= :now
        ORDER BY next_attempt_at LIMIT 1
    ) AS renewal ON true
    LEFT JOIN breakers ON breakers.account = known.name
    LEFT JOIN rate_buckets ON rate_buckets.account = known.name
    ORDER BY known.name
    """  # noqa: S608 # a constant of ours
)
# An indefinite decline has a class, and an attempt that was looked up without a result has quiet answers: both
# were sent. The literal states select the index of unresolved attempts.
_UNSENT = text(
    f"""
    SELECT charge.account, count(*) AS unsent, min(attempt.created_at) AS oldest
    FROM attempts AS attempt
    JOIN charges AS charge ON charge.id = attempt.charge_id
    WHERE attempt.{UNRESOLVED_STATES} AND attempt.state IN ('ready', 'not_sent')
        AND attempt.decline_class IS NULL AND attempt.quiet_answers = 0
        AND charge.next_attempt_at <= :until AND charge.held_why IS NULL
    GROUP BY charge.account
    """  # noqa: S608 # a constant of ours
)
# By created_at: an attempt becomes unknown again after each call, and is sent again after look-ups without a
# result.
_UNKNOWN = text("SELECT min(created_at) FROM attempts WHERE state = 'unknown'")
# The account is looked up for each of the oldest: a join with all accounts' cards could read these through.
_UNOPENED = text(
    """
    WITH oldest AS MATERIALIZED (
        SELECT key, open_at, created_at,
            (SELECT card.account FROM billing_keys AS card WHERE card.id = subscription.billing_key_id) AS account
        FROM subscriptions AS subscription
        WHERE status = 'active' AND open_at <= :now
        ORDER BY open_at LIMIT :most
    )
    SELECT DISTINCT ON (account) account, key AS subscription, open_at AS due_at,
        greatest(open_at, created_at) AS since
    FROM oldest ORDER BY account, greatest(open_at, created_at)
    """
)
_COMPARED = text(
    """
    SELECT known.name AS account, kinds.name AS kind, last.ended_at
    FROM unnest(CAST(:accounts AS text[])) AS known (name)
    CROSS JOIN unnest(CAST(:kinds AS text[])) WITH ORDINALITY AS kinds (name, place)
    LEFT JOIN LATERAL (
        SELECT ended_at FROM reconciliations
        WHERE account = known.name AND kind = kinds.name AND ended_at IS NOT NULL
        ORDER BY id DESC LIMIT 1
    ) AS last ON true
    ORDER BY known.name, kinds.place
    """
)
_RELEASED = text("SELECT greatest(bound_at, restored_at) FROM installation")
# The lock serializes probes; it is released with the transaction.
_ALONE = text("SELECT pg_try_advisory_xact_lock(hashtextextended('again write probe', 0))")
_EMPTY = text("TRUNCATE write_probe")
_FILL = text("INSERT INTO write_probe (filler) SELECT repeat('x', 7900) FROM generate_series(1, :blocks)")


@dataclass(frozen=True, slots=True)
class Due:
    """The charges of an account that are due."""

    account: str
    due: int
    oldest: datetime | None
    oldest_key: str | None
    oldest_requested: datetime | None
    oldest_renewal: datetime | None
    counted_from: datetime | None  # when a person last resumed its charging
    last_slot_ago: float | None  # seconds


def due(db: Connection, accounts: Collection[str], now: datetime) -> list[Due]:
    """Return the due charges of each of these accounts."""
    return [Due(**row) for row in db.execute(_DUE, {"accounts": sorted(accounts), "now": now}).mappings()]


def unsent(db: Connection, until: datetime) -> dict[str, tuple[int, datetime]]:
    """Return, by account, the unsent charges that are tried again by then, and when the oldest was claimed."""
    return {row.account: (row.unsent, row.oldest) for row in db.execute(_UNSENT, {"until": until})}


def oldest_unknown(db: Connection) -> datetime | None:
    """Return the start of the oldest attempt with an unknown outcome, with ix_attempts_to_ask."""
    at: datetime | None = db.execute(_UNKNOWN).scalar()
    return at


def unopened(db: Connection, now: datetime) -> list[Unopened]:
    """Return each account's oldest period that is due and not opened, among the oldest of all accounts."""
    return [Unopened(**row) for row in db.execute(_UNOPENED, {"now": now, "most": MOST_UNOPENED}).mappings()]


def compared(
    db: Connection, accounts: Collection[str], kinds: Collection[str]
) -> list[tuple[str, str, datetime | None]]:
    """Return, for each account and kind of reconciliation, when the newest run that has ended ended."""
    values = {"accounts": sorted(accounts), "kinds": list(kinds)}
    return [(row.account, row.kind, row.ended_at) for row in db.execute(_COMPARED, values)]


def released_at(db: Connection) -> datetime | None:
    """Return since when charges can be sent: the newest binding, or the end of the last hold."""
    at: datetime | None = db.execute(_RELEASED).scalar()
    return at


def write_blocks(db: Connection) -> None:
    """Write new blocks to a table; the database's error is raised when it cannot store more.

    An update could use room in an existing block, and a transaction that is rolled back writes no log.
    """
    if db.execute(_ALONE).scalar_one():
        db.execute(_EMPTY)
        db.execute(_FILL, {"blocks": BLOCKS})
