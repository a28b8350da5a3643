"""Queries for the page of one customer: cards, subscriptions, what is owed, and the newest charges."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Connection, func, select, text

from schedules.charging.charges import ChargeKind, ChargeStatus, SubscriptionStatus
from schedules.dunning.declines import DeclineClass
from worker.store.rows import read_all, read_first
from worker.store.tables import OWED, billing_keys, charges, customers, subscriptions


@dataclass(frozen=True, slots=True)
class CustomerRow:
    """A customer."""

    id: int
    reference: str
    name: str | None
    email: str | None
    tel: str | None
    created_at: datetime


def customer(db: Connection, customer_id: int) -> CustomerRow | None:
    """The customer with this row id."""
    return read_first(CustomerRow, db.execute(select(customers).where(customers.c.id == customer_id)))


@dataclass(frozen=True, slots=True)
class CardRow:
    """A stored card: masked facts only."""

    id: int
    customer_uid: str
    account: str
    pg_provider: str | None
    card_name: str | None
    card_number: str | None
    created_at: datetime
    deleted_at: datetime | None
    stopped_as: DeclineClass | None
    expires_on: date | None


def cards_of(db: Connection, customer_id: int, limit: int) -> list[CardRow]:
    """Return a customer's cards: deleted ones last, the newest first."""
    k = billing_keys.c
    query = select(billing_keys).where(k.customer_id == customer_id)
    query = query.order_by(k.deleted_at.is_not(None), k.created_at.desc(), (k.id + 0).desc())
    return read_all(CardRow, db.execute(query.limit(limit)))


def subscriptions_of(db: Connection, customer_id: int, limit: int) -> list[str]:
    """Return the keys of a customer's subscriptions: canceled ones last, the newest first."""
    s = subscriptions.c
    query = select(s.key).where(s.customer_id == customer_id)
    canceled = s.status == SubscriptionStatus.CANCELED.value
    return list(
        db.execute(query.order_by(canceled, s.created_at.desc(), (s.id + 0).desc()).limit(limit)).scalars()
    )


@dataclass(frozen=True, slots=True)
class Owed:
    """What a customer owes in one currency."""

    currency: str
    amount: int  # minor units
    charges: int
    since: datetime  # the oldest due time


def owed_of(db: Connection, customer_id: int, now: datetime) -> list[Owed]:
    """Return the sums of a customer's open charges that have been due, by currency."""
    c = charges.c
    own = select(billing_keys.c.id).where(billing_keys.c.customer_id == customer_id)
    query = select(c.currency, func.sum(c.amount).label("amount"), func.count().label("charges"))
    query = query.add_columns(func.min(c.due_at).label("since"))
    query = query.where(c.billing_key_id.in_(own), text(OWED), c.due_at <= now)
    found = db.execute(query.group_by(c.currency).order_by(c.currency))
    return [Owed(row.currency, int(row.amount), row.charges, row.since) for row in found]


@dataclass(frozen=True, slots=True)
class ChargeOfCustomer:
    """A charge in the list of a customer."""

    key: str
    kind: ChargeKind
    customer_uid: str
    amount: int
    currency: str
    status: ChargeStatus
    due_at: datetime
    next_attempt_at: datetime | None
    held_why: str | None
    closed_at: datetime | None


def newest_charges(db: Connection, customer_id: int, limit: int) -> Sequence[ChargeOfCustomer]:
    """Return a customer's newest charges of all cards, the newest first."""
    c, k = charges.c, billing_keys.c
    query = select(charges, k.customer_uid).join_from(charges, billing_keys, k.id == c.billing_key_id)
    # By due time: by id, the planner could read all newer charges of other cards.
    query = query.where(k.customer_id == customer_id).order_by(c.due_at.desc(), (c.id + 0).desc())
    return read_all(ChargeOfCustomer, db.execute(query.limit(limit)))
