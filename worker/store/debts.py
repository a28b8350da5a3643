"""Debts of one customer beside each other, and those that the passing of time changes something for."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, bindparam, select, text, tuple_, update

from schedules.charges import ChargeKind, TriedBy
from schedules.policies import FinalAction
from worker.store.charges import Charge
from worker.store.schema import OWED, billing_keys, charges
from worker.store.schema.base import INSTANT


@dataclass(frozen=True, slots=True)
class Ahead:
    """An older debt of the same customer that goes first."""

    key: str
    next_attempt_at: datetime | None
    waits: bool


def _ahead() -> Select[Any]:
    c, k, own = charges.c, billing_keys.c, billing_keys.alias("own")
    same = select(own.c.customer_id).where(own.c.id == bindparam("billing_key")).scalar_subquery()
    return (
        select(c.key, c.next_attempt_at, c.waits)
        .join_from(charges, billing_keys)
        .where(k.customer_id == same, text(OWED), c.kind == ChargeKind.RENEWAL.value, c.held_why.is_(None))
        .where(tuple_(c.due_at, c.id) < tuple_(bindparam("due_at", type_=INSTANT), bindparam("charge")))
        .where(c.given_up.is_distinct_from(FinalAction.KEEP.value))
        .order_by(c.due_at, c.id)
        .limit(1)
    )


def _behind() -> Select[Any]:
    c, k, other, own = charges.c, billing_keys.c, charges.alias("ended"), billing_keys.alias("own")
    same = (
        select(own.c.customer_id)
        .join_from(other, own, own.c.id == other.c.billing_key_id)
        .where(other.c.id == bindparam("ended"))
    )
    now = bindparam("now", type_=INSTANT)
    return (
        select(c.id)
        .join_from(charges, billing_keys)
        .where(k.customer_id == same.scalar_subquery(), text(f"charges.{OWED}"), c.id != bindparam("ended"))
        .where((c.attempts == 0) | (c.tried_by == TriedBy.CARD.value))
        .where(c.kind == ChargeKind.RENEWAL.value, c.next_attempt_at > now, c.due_at <= now)
        .with_for_update(skip_locked=True, of=charges)
    )


# Statements of the hot path are built once: building one costs as much as running it.
_AHEAD = _ahead()
_BEHIND = _behind()


def ahead_of(db: Connection, charge: Charge) -> Ahead | None:
    """The oldest renewal that the customer owes beside this one and before it.

    One that waits for an operator stands in nobody's way, nor does one that was given up and is kept.
    """
    this = {"billing_key": charge.billing_key_id, "due_at": charge.due_at, "charge": charge.id}
    row = db.execute(_AHEAD, this).first()
    return Ahead(row.key, row.next_attempt_at, row.waits is not None) if row else None


def wake_behind(db: Connection, charge_id: int, now: datetime) -> None:
    """Let the customer's debts be tried that were not tried yet, or not with a new card: this one went first.

    Those that somebody else works on are left alone: they look again by themselves.
    """
    ids = list(db.execute(_BEHIND, {"ended": charge_id, "now": now}).scalars())
    if ids:
        db.execute(update(charges).where(charges.c.id.in_(ids)).values(next_attempt_at=now))


def owed_by_card(db: Connection, billing_key_id: int) -> list[int]:
    """Row ids of what is owed by a billing key, oldest first."""
    c = charges.c
    query = select(c.id).where(c.billing_key_id == billing_key_id, text(OWED)).order_by(c.due_at, c.id)
    return list(db.execute(query).scalars())


def to_look(db: Connection, now: datetime, after: int, limit: int) -> list[int]:
    """Row ids of the debts that the passing of time has changed something for, after this one."""
    c = charges.c
    query = select(c.id).where(c.look_at.is_not(None), c.look_at <= now, c.id > after).order_by(c.id).limit(limit)
    return list(db.execute(query).scalars())


def others_declined(db: Connection, subscription_id: int, charge_id: int) -> bool:
    """Whether a subscription owes another debt that was declined."""
    c = charges.c
    query = select(c.id).where(c.subscription_id == subscription_id, text(OWED), c.id != charge_id)
    return db.execute(query.where(c.first_declined_at.is_not(None)).limit(1)).first() is not None
