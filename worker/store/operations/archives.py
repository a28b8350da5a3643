"""The archive: select charges whose attempts can be archived, and move them there and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Table, exists, or_, select, text, update

from schedules.charging.charges import UNRESOLVED, AttemptState, ChargeKind
from worker.store.tables import (
    TO_ARCHIVE,
    archived_attempt_events,
    archived_attempts,
    archived_outbox,
    attempt_events,
    attempts,
    charges,
    findings,
    outbox,
    refunds,
)

SETTLED = sorted(state.value for state in set(AttemptState) - UNRESOLVED)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of rows by row id: those that may be old enough, and the start of the next page."""

    ids: Sequence[int]
    last: int
    is_too_young: bool  # every row in it is newer than the month, and so is every later row


@dataclass(frozen=True, slots=True)
class Ended:
    """A charge whose attempts may be archived."""

    id: int
    key: str
    closed_at: datetime


@dataclass(frozen=True, slots=True)
class Moved:
    """The number of rows that were moved."""

    attempts: int = 0
    events: int = 0
    notices: int = 0


def charges_after(db: Connection, charge_id: int, before: datetime, limit: int) -> Page | None:
    """The next renewals that ended and are not archived, through ix_charges_to_archive; None when none is left."""
    c = charges.c
    query = (
        select(c.id, c.created_at, c.closed_at)
        .where(text(TO_ARCHIVE), c.id > charge_id)
        .order_by(c.id)
        .limit(limit)
    )
    rows = db.execute(query).all()
    old = [row.id for row in rows if row.closed_at < before]
    return Page(old, rows[-1].id, all(row.created_at >= before for row in rows)) if rows else None


def notices_after(db: Connection, notice_id: int, before: datetime, limit: int) -> Page | None:
    """The next notices by number; None when none is left."""
    o = outbox.c
    query = select(o.id, o.created_at, o.delivered_at).where(o.id > notice_id).order_by(o.id).limit(limit)
    rows = db.execute(query).all()
    old = [row.id for row in rows if row.delivered_at is not None and row.delivered_at < before]
    return Page(old, rows[-1].id, all(row.created_at >= before for row in rows)) if rows else None


def ended_before(db: Connection, ids: Sequence[int], before: datetime, *, lock: bool) -> Sequence[Ended]:
    """Lock and return those of these charges whose attempts can be archived; a locked charge is skipped.

    The other conditions are read after the lock. A writer of a refund or a finding of a charge holds its lock, so
    its row is seen here, or the writer waits and finds the charge archived.
    """
    c = charges.c
    if lock:
        free = select(c.id).where(c.id.in_(ids)).order_by(c.id).with_for_update(skip_locked=True)
        ids = list(db.execute(free).scalars())
    query = select(c.id, c.key, c.closed_at).where(c.id.in_(ids), text(TO_ARCHIVE), c.closed_at < before)
    needed = or_(_has_unsettled(before), _has_refund(before), _has_finding(before))
    return [Ended(*row) for row in db.execute(query.where(~needed).order_by(c.id))]


def _has_unsettled(before: datetime) -> ColumnElement[bool]:
    a = attempts.c
    is_over = a.state.in_(SETTLED) & (a.settled_at < before) & (a.last_sent_at < before)
    is_over &= a.lease_until.is_(None) & a.next_ask_at.is_(None)
    return exists().where(a.charge_id == charges.c.id, is_over.is_not(True))


def _has_refund(before: datetime) -> ColumnElement[bool]:
    r = refunds.c
    return exists().where(r.charge_id == charges.c.id, r.ended_at.is_(None) | (r.ended_at >= before))


def _has_finding(before: datetime) -> ColumnElement[bool]:
    f, a = findings.c, attempts.c
    by_charge = exists().where(f.charge_key == charges.c.key, f.ended_at.is_(None) | (f.ended_at >= before))
    of_it = select(a.merchant_uid).where(a.charge_id == charges.c.id)
    return or_(by_charge, exists().where(f.ended_at.is_(None), f.merchant_uid.in_(of_it)))


def attempts_of(db: Connection, ended: Sequence[Ended]) -> Sequence[int]:
    """The row ids of the attempts at these charges."""
    query = select(attempts.c.id).where(attempts.c.charge_id.in_([charge.id for charge in ended]))
    return list(db.execute(query).scalars())


def count_events(db: Connection, attempt_ids: Sequence[int]) -> int:
    """Return the number of events of these attempts."""
    query = select(attempt_events.c.id).where(attempt_events.c.attempt_id.in_(attempt_ids))
    return len(db.execute(query).all())


def notices_about(db: Connection, keys: Sequence[str], before: datetime, *, lock: bool) -> Sequence[int]:
    """Lock and return the numbers of the delivered notices about these charges; a locked notice is skipped."""
    o = outbox.c
    query = select(o.id).where(o.subject.in_(keys), o.delivered_at < before, ~_told_before())
    return list(db.execute(query.with_for_update(skip_locked=True) if lock else query).scalars())


def other_notices(db: Connection, ids: Sequence[int], before: datetime, *, lock: bool) -> Sequence[int]:
    """Return the delivered ones of these notices, without those about a charge that is not archived.

    A charge keeps its notices for as long as it keeps its attempts: their dedupe keys are a guard.
    """
    o, c = outbox.c, charges.c
    stays = (c.kind == ChargeKind.RENEWAL.value) & c.archived_at.is_(None)
    lives = c.closed_at.is_(None) | (c.closed_at >= before)
    needed = exists().where(c.key == o.subject, stays | lives)
    query = select(o.id).where(o.id.in_(ids), o.delivered_at < before, ~needed, ~_told_before())
    return list(db.execute(query.with_for_update(skip_locked=True) if lock else query).scalars())


def _told_before() -> ColumnElement[bool]:
    # Writers of notices do not read the archive. A notice that is written again later stays here.
    return exists().where(archived_outbox.c.dedupe_key == outbox.c.dedupe_key)


def put_away(db: Connection, ended: Sequence[Ended], attempt_ids: Sequence[int], now: datetime) -> Moved:
    """Move the attempts of these charges, which the caller has locked, with their events."""
    events = _move(db, attempt_events, archived_attempt_events, "attempt_id", attempt_ids)
    moved = _move(db, attempts, archived_attempts, "id", attempt_ids)
    c = charges.c
    db.execute(update(charges).where(c.id.in_([charge.id for charge in ended])).values(archived_at=now))
    return Moved(moved, events)


def put_notices_away(db: Connection, ids: Sequence[int]) -> int:
    """Move these notices, which the caller has locked; return how many."""
    return _move(db, outbox, archived_outbox, "id", ids)


def bring_back(db: Connection, charge_id: int) -> bool:
    """Lock a charge and move its archived rows back, so that changes are made in one place.

    A function whose rows keep a charge out of the archive calls this first, in the same transaction.
    """
    c = charges.c
    row = db.execute(select(c.key, c.archived_at).where(c.id == charge_id).with_for_update()).first()
    if row is None or row.archived_at is None:
        return False
    db.execute(update(charges).where(c.id == charge_id).values(archived_at=None))
    ids = select(archived_attempts.c.id).where(archived_attempts.c.charge_id == charge_id)
    attempt_ids = list(db.execute(ids).scalars())
    _move(db, archived_attempts, attempts, "id", attempt_ids)
    _move(db, archived_attempt_events, attempt_events, "attempt_id", attempt_ids)
    _move(db, archived_outbox, outbox, "subject", [row.key])
    return True


def _move(db: Connection, source: Table, target: Table, by: str, values: Sequence[int] | Sequence[str]) -> int:
    """Move rows from one table to the other in one statement."""
    if not values:
        return 0
    names = ", ".join(f'"{column.name}"' for column in source.c)
    statement = (
        f"WITH gone AS (DELETE FROM {source.name} WHERE {by} = ANY(:chosen) RETURNING {names}) "  # noqa: S608
        f"INSERT INTO {target.name} ({names}) OVERRIDING SYSTEM VALUE SELECT {names} FROM gone"
    )  # every name in it is from our schema
    return db.execute(text(statement), {"chosen": list(values)}).rowcount
