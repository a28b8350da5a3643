"""Queries of refunds: one for each request key, one at a time for a charge, updated under a fence."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict, Unpack

from sqlalchemy import Connection, and_, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from schedules.charging.charges import AttemptState
from schedules.requests.refunds import RefundState
from worker.store.rows import read_all, read_first
from worker.store.tables import REFUND_OPEN, attempts, charges, refunds


@dataclass(frozen=True, slots=True)
class Refund:
    """A row of refunds."""

    id: int
    request_key: str
    request_fingerprint: str
    charge_id: int
    account: str
    merchant_uid: str
    imp_uid: str
    amount: int
    currency: str
    balance: int
    reason: str
    actor: str
    state: RefundState
    fence: int
    sends: int
    words: str | None
    created_at: datetime
    ended_at: datetime | None


class NewRefund(TypedDict):
    """The columns of a refund that is requested."""

    request_key: str
    request_fingerprint: str
    charge_id: int
    account: str
    merchant_uid: str
    imp_uid: str
    amount: int
    currency: str
    balance: int
    reason: str
    actor: str
    state: str
    created_at: datetime


class RefundColumns(TypedDict, total=False):
    """The columns of a refund that are written with its state; without `lease_until` its lease ends."""

    lease_until: datetime
    sends: int
    words: str | None
    ended_at: datetime


def add(db: Connection, row: NewRefund) -> Refund | None:
    """Insert a refund; None when its request key exists, or its charge has another open one."""
    statement = insert(refunds).values(**row).on_conflict_do_nothing().returning(refunds)
    return read_first(Refund, db.execute(statement))


def by_request(db: Connection, request_key: str) -> Refund | None:
    """Return the refund with this request key."""
    return read_first(Refund, db.execute(select(refunds).where(refunds.c.request_key == request_key)))


def claim(db: Connection, refund: Refund, now: datetime, lease_until: datetime) -> Refund | None:
    """Claim a refund under the next fence; None when it has changed, or another process has claimed it."""
    r = refunds.c
    statement = (
        update(refunds)
        .where(r.id == refund.id, r.fence == refund.fence, text(REFUND_OPEN))
        .where(r.lease_until.is_(None) | (r.lease_until <= now))
        .values(state=RefundState.SENDING.value, fence=r.fence + 1, lease_until=lease_until)
        .returning(refunds)
    )
    return read_first(Refund, db.execute(statement))


def move(db: Connection, refund: Refund, state: RefundState, **values: Unpack[RefundColumns]) -> Refund | None:
    """Update a refund under its fence; None when the fence has changed."""
    r = refunds.c
    statement = (
        update(refunds)
        .where(r.id == refund.id, r.fence == refund.fence, r.state == refund.state.value)
        .values(state=state.value, fence=r.fence + 1, **{"lease_until": None, **values})
        .returning(refunds)
    )
    return read_first(Refund, db.execute(statement))


def due(db: Connection, now: datetime, limit: int) -> Sequence[Refund]:
    """Return the requested refunds, and those under way whose next look is due; `limit` of each account."""
    r = refunds.c
    place = func.row_number().over(partition_by=r.account, order_by=r.id)
    is_due = and_(text(REFUND_OPEN), (r.lease_until.is_(None)) | (r.lease_until <= now))
    placed = select(r.id, place.label("place")).where(is_due).subquery()
    query = select(refunds).join(placed, placed.c.id == r.id).where(placed.c.place <= limit)
    return read_all(Refund, db.execute(query.order_by(r.id)))


@dataclass(frozen=True, slots=True)
class ListedRefund:
    """A refund with its charge's key, for a list."""

    request_key: str
    charge: str
    amount: int
    currency: str
    state: RefundState
    actor: str
    reason: str
    created_at: datetime
    words: str | None


def listed(db: Connection, *, every: bool, limit: int) -> list[ListedRefund]:
    """Return refunds with their charges' keys: the open ones, oldest first, or the newest of all."""
    query = select(refunds, charges.c.key.label("charge")).join_from(refunds, charges).limit(limit)
    asked = query.order_by(refunds.c.id.desc()) if every else query.where(text(REFUND_OPEN)).order_by(refunds.c.id)
    return read_all(ListedRefund, db.execute(asked))


def paid_attempt(db: Connection, charge_id: int) -> tuple[str, str | None] | None:
    """Return the merchant_uid and the gateway's id of the payment of a charge."""
    a = attempts.c
    query = select(a.merchant_uid, a.imp_uid).where(a.charge_id == charge_id, a.state == AttemptState.PAID.value)
    row = db.execute(query).first()
    return (row.merchant_uid, row.imp_uid) if row else None


def refunded(db: Connection, charge_id: int) -> int:
    """Return the refunded minor units of a charge."""
    return int(db.execute(select(charges.c.refunded).where(charges.c.id == charge_id)).scalar_one())


def made(db: Connection, charge_id: int) -> int:
    """Return the minor units of a charge that refunds in this database returned."""
    r = refunds.c
    query = select(func.coalesce(func.sum(r.amount), 0)).where(r.charge_id == charge_id)
    return int(db.execute(query.where(r.state == RefundState.MADE.value)).scalar_one())
