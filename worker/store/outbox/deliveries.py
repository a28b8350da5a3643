"""Delivery of events: which wait, their leases, the results, replay and skip."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, case, func, literal, select, update

from schedules.outbox.event_fields import Payload
from worker.store.rows import read_all, read_first
from worker.store.tables import archived_outbox, outbox

MOST_COUNTED = 10_000  # dead events: a count of more says no more


class Standing(StrEnum):
    """The delivery state of an event."""

    WAITING = "waiting"  # for its first or its next try
    DELIVERED = "delivered"
    DEAD = "dead"  # out of tries; `again events replay` tries it again
    SKIPPED = "skipped"  # by a person, or it is older than the delivery feature


@dataclass(frozen=True, slots=True)
class Taken:
    """An event that this worker delivers under a lease."""

    id: int
    dedupe_key: str
    kind: str
    subject: str
    payload: Payload
    version: int
    created_at: datetime
    tries: int
    leased_until: datetime


@dataclass(frozen=True, slots=True)
class Listed:
    """An event for display."""

    id: int
    dedupe_key: str
    kind: str
    subject: str
    payload: Payload
    version: int
    created_at: datetime
    standing: Standing
    tries: int
    next_try_at: datetime | None
    last_answer: str | None
    delivered_at: datetime | None
    dead_at: datetime | None


def take_due(db: Connection, now: datetime, until: datetime, limit: int) -> Sequence[Taken]:
    """Lease the events that wait longest until an instant, in their order; leased ones are skipped."""
    o = outbox.c
    due = (
        select(o.id, o.next_try_at)
        .where(o.next_try_at <= now)
        .order_by(o.next_try_at, o.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("due")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    statement = (
        update(outbox)
        .where(o.id == due.c.id)
        .values(next_try_at=until)
        .returning(
            o.id, o.dedupe_key, o.kind, o.subject, o.payload, o.version, o.created_at, o.tries,
            o.next_try_at, due.c.next_try_at.label("was_due_at"),
        )
    )  # fmt: skip
    rows = sorted(db.execute(statement), key=lambda row: (row.was_due_at, row.id))
    return [Taken(*row[:-1]) for row in rows]


def write(
    db: Connection, taken: Taken, answer: str, *, delivered_at: datetime | None = None,
    next_try_at: datetime | None = None, dead_at: datetime | None = None,
) -> bool:  # fmt: skip
    """Write the result of a try; False when the event was leased, replayed or skipped since."""
    values = {"delivered_at": delivered_at, "next_try_at": next_try_at, "dead_at": dead_at}
    statement = _still_ours(taken).values(tries=taken.tries + 1, last_answer=answer, **values)
    return db.execute(statement).rowcount == 1


def give_back(db: Connection, unsent: Sequence[Taken], now: datetime) -> None:
    """Release leased events that were definitely not sent."""
    for taken in unsent:
        db.execute(_still_ours(taken).values(next_try_at=now))


def _still_ours(taken: Taken) -> Any:
    # next_try_at is the lease and the guard: leasing, replay and skip change it.
    return update(outbox).where(outbox.c.id == taken.id, outbox.c.next_try_at == taken.leased_until)


def listed(
    db: Connection,
    limit: int,
    *,
    standing: Standing | None = None,
    kind: str | None = None,
    subject: str | None = None,
) -> Sequence[Listed]:
    """Return events, newest first, optionally by delivery state, kind and subject."""
    query = select(*_columns()).order_by(outbox.c.id.desc()).limit(limit)
    match standing:
        case Standing.WAITING:
            query = query.where(outbox.c.next_try_at.is_not(None))
        case Standing.DEAD:
            query = query.where(outbox.c.dead_at.is_not(None))
        case _:
            pass
    if kind is not None:
        query = query.where(outbox.c.kind == kind)
    if subject is not None:
        query = query.where(outbox.c.subject == subject)
    return read_all(Listed, db.execute(query))


def dead_count(db: Connection) -> int:
    """Return how many events are dead, counted up to MOST_COUNTED, with ix_outbox_dead."""
    some = select(outbox.c.id).where(outbox.c.dead_at.is_not(None)).limit(MOST_COUNTED).subquery()
    return int(db.execute(select(func.count()).select_from(some)).scalar_one())


def by_number(db: Connection, number: int, *, lock: bool = False) -> Listed | None:
    """One event; None when there is none of this number."""
    query = select(*_columns()).where(outbox.c.id == number)
    return read_first(Listed, db.execute(query.with_for_update() if lock else query))


def archived(db: Connection, number: int) -> Listed | None:
    """Return one archived event; None when there is none of this number."""
    return read_first(Listed, db.execute(select(*_columns(archived_outbox)).where(archived_outbox.c.id == number)))


def replay(db: Connection, numbers: Sequence[int], now: datetime) -> None:
    """Reset these events, so that they are delivered as new ones."""
    db.execute(update(outbox).where(outbox.c.id.in_(numbers)).values(_afresh(now)))


def replay_dead(db: Connection, now: datetime) -> int:
    """Reset every dead event, so that it is delivered as a new one; return how many."""
    return db.execute(update(outbox).where(outbox.c.dead_at.is_not(None)).values(_afresh(now))).rowcount


def skip_before(db: Connection, before: datetime) -> int:
    """Skip the waiting events that were written before an instant; return how many."""
    o = outbox.c
    statement = update(outbox).where(o.next_try_at.is_not(None), o.created_at < before).values(next_try_at=None)
    return db.execute(statement).rowcount


def _afresh(now: datetime) -> dict[str, Any]:
    return {"next_try_at": now, "tries": 0, "delivered_at": None, "dead_at": None}


def _columns(table: Table = outbox) -> list[ColumnElement[Any]]:
    o = table.c
    standing = case(
        (o.next_try_at.is_not(None), literal(Standing.WAITING.value)),
        (o.delivered_at.is_not(None), literal(Standing.DELIVERED.value)),
        (o.dead_at.is_not(None), literal(Standing.DEAD.value)),
        else_=literal(Standing.SKIPPED.value),
    )
    return [
        o.id, o.dedupe_key, o.kind, o.subject, o.payload, o.version, o.created_at, standing.label("standing"),
        o.tries, o.next_try_at, o.last_answer, o.delivered_at, o.dead_at,
    ]  # fmt: skip
