"""Queries of signups: subscriptions that start with their first payment."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import TypedDict

from sqlalchemy import Connection, func, insert, select, text, update

from worker.store.rows import read_first
from worker.store.tables import OWED, billing_keys, charges, signups


@dataclass(frozen=True, slots=True)
class Signup:
    """A subscription that starts when a charge is paid."""

    id: int
    charge_id: int
    customer_id: int
    billing_key_id: int
    plan_id: int
    subscription_key: str
    anchor: date
    begun_at: datetime | None


class NewSignup(TypedDict):
    """The columns of a signup that begins."""

    charge_id: int
    customer_id: int
    billing_key_id: int
    plan_id: int
    plan: str  # its code
    subscription_key: str
    anchor: date
    created_at: datetime


def add(db: Connection, row: NewSignup) -> None:
    """Write a signup."""
    db.execute(insert(signups).values(row))


def count(db: Connection, billing_key_id: int, plan: str) -> int:
    """Return how often this card was signed up for a plan before."""
    s = signups.c
    query = select(func.count()).where(s.billing_key_id == billing_key_id, s.plan == plan)
    return int(db.execute(query).scalar_one())


def of_charge(db: Connection, charge_id: int) -> Signup | None:
    """The signup that waits for a charge, locked."""
    query = select(signups).where(signups.c.charge_id == charge_id).with_for_update()
    return read_first(Signup, db.execute(query))


def asked_as(db: Connection, charge_id: int) -> tuple[str, str] | None:
    """Return the requested customer_uid and plan code of the signup of a charge."""
    s, k = signups.c, billing_keys.c
    query = select(k.customer_uid, s.plan).join_from(signups, billing_keys, k.id == s.billing_key_id)
    row = db.execute(query.where(s.charge_id == charge_id)).first()
    return (row.customer_uid, row.plan) if row else None


def begun(db: Connection, signup_id: int, now: datetime) -> None:
    """Mark its subscription as started."""
    db.execute(update(signups).where(signups.c.id == signup_id).values(begun_at=now))


def is_under_way(db: Connection, subscription_key: str) -> bool:
    """Whether the subscription with this key starts with a payment that is under way."""
    s, c = signups.c, charges.c
    query = select(s.id).join_from(signups, charges, c.id == s.charge_id)
    query = query.where(s.subscription_key == subscription_key, s.begun_at.is_(None), text(OWED))
    return db.execute(query.limit(1)).first() is not None


def subscription_of(db: Connection, charge_key: str) -> str | None:
    """Return the key of the subscription that starts with this charge."""
    query = select(signups.c.subscription_key).join_from(signups, charges, charges.c.id == signups.c.charge_id)
    return db.execute(query.where(charges.c.key == charge_key)).scalar()
