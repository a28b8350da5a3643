"""Charges that were requested under a request key, and charges that are queued at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects.postgresql import insert

from schedules.charging.charges import ChargeStatus
from worker.store.charging.columns import NewCharge
from worker.store.tables import attempts, charges


@dataclass(frozen=True, slots=True)
class Requested:
    """A charge with a request key."""

    id: int
    key: str
    status: ChargeStatus
    fingerprint: str
    held_why: str | None


def open_one(db: Connection, row: NewCharge) -> bool:
    """Insert a requested charge; False when one_charge_for_each_request_key refuses it."""
    statement = insert(charges).values(**row).on_conflict_do_nothing().returning(charges.c.id)
    return db.execute(statement).scalar() is not None


def by_request(db: Connection, request_key: str) -> Requested | None:
    """Return the charge with this request key."""
    return by_requests(db, [request_key]).get(request_key)


def by_requests(db: Connection, request_keys: Sequence[str]) -> dict[str, Requested]:
    """Return the charges with these request keys."""
    c = charges.c
    query = select(c.id, c.key, c.status, c.request_fingerprint, c.request_key, c.held_why)
    rows = db.execute(query.where(c.request_key.in_(request_keys)))
    return {
        row.request_key: Requested(
            row.id, row.key, ChargeStatus(row.status), row.request_fingerprint, row.held_why
        )
        for row in rows
    }


def outcome(db: Connection, charge_id: int) -> tuple[str, str, str | None, str | None] | None:
    """Return a charge's key, status, reason of its end, and the answer to its newest attempt."""
    c, a = charges.c, attempts.c
    query = (
        select(c.key, c.status, c.closed_why, a.reason)
        .outerjoin(attempts, (a.charge_id == c.id) & (a.number == c.attempts))
        .where(c.id == charge_id)
    )
    row = db.execute(query).first()
    return (row.key, row.status, row.closed_why, row.reason) if row else None


def account_of(db: Connection, charge_id: int) -> str | None:
    """The gateway account of a charge; None when there is no such charge."""
    return db.execute(select(charges.c.account).where(charges.c.id == charge_id)).scalar()


def queue_one(db: Connection, charge_id: int, now: datetime, patience: timedelta) -> str | None:
    """Mark one charge as queued; return its kind, or None when it is not due or is queued already."""
    c = charges.c
    statement = (
        update(charges)
        .where(c.id == charge_id, c.next_attempt_at <= now, c.held_why.is_(None))
        .where(c.queued_until.is_(None) | (c.queued_until <= now))
        .values(queued_until=now + patience)
        .returning(c.kind)
    )
    return db.execute(statement).scalar()


def unqueue_account(db: Connection, account: str, now: datetime) -> None:
    """Clear the queued mark of the account's due charges, so that the next dispatch queues them again.

    The queue bound limits how many rows this changes. A row that another transaction holds is being claimed.
    """
    c = charges.c
    waiting = (
        select(c.id)
        .where(c.account == account, c.queued_until.is_not(None), c.queued_until > now)
        .where(c.next_attempt_at.is_not(None))
        .order_by(c.id)
        .with_for_update(skip_locked=True)
    )
    db.execute(update(charges).where(c.id.in_(waiting)).values(queued_until=None))
