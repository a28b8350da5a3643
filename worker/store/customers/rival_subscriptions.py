"""Rivals: active or starting subscriptions of a customer to a plan, and used trials."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import ColumnElement, Connection, or_, select, text

from schedules.charging.charges import SubscriptionStatus
from worker.store.tables import OWED, billing_keys, charges, customers, signups, subscriptions, takeovers


class RivalKind(StrEnum):
    """The kind of a rival."""

    SUBSCRIPTION = "subscription"
    SIGNUP = "signup"  # its first payment is under way
    TAKEOVER = "takeover"  # the gateway's schedules are being revoked


@dataclass(frozen=True, slots=True)
class Rival:
    """An active or starting subscription of a customer."""

    kind: RivalKind
    key: str  # of the subscription; of the charge for a signup
    ends_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A subscription that starts or is imported."""

    customer_id: int
    plan: str  # the plan's code
    starts_at: datetime  # its first charge, or its next one
    but: int = 0  # row id of the subscription itself
    but_card: int = 0  # row id of the billing key whose takeover it is
    but_deliberate: bool = False  # those that were requested beside another one do not count


def lock_customer(db: Connection, customer_id: int) -> None:
    """Lock a customer until the transaction ends, so that its subscriptions start one at a time."""
    lock_customers(db, (customer_id,))


def lock_customers(db: Connection, customer_ids: Collection[int]) -> None:
    """Lock customers, in the order of their ids, as `lock_customer` does with one."""
    c = customers.c
    db.execute(select(c.id).where(c.id.in_(customer_ids)).order_by(c.id).with_for_update(key_share=True))


def find(db: Connection, wanted: Wanted) -> Rival | None:
    """Return a subscription that conflicts with the wanted one: active, or about to start."""
    s = subscriptions.c
    runs: ColumnElement[bool] = or_(s.ends_at.is_(None), s.ends_at > wanted.starts_at)
    live = (
        select(s.key, s.ends_at)
        .where(s.customer_id == wanted.customer_id, s.plan_code == wanted.plan, s.id != wanted.but)
        .where(s.status != SubscriptionStatus.CANCELED.value, runs)
        .order_by(s.ends_at.desc().nulls_first())
    )
    if wanted.but_deliberate:
        live = live.where(s.another.is_(False))
    row = db.execute(live.limit(1)).first()
    if row is not None:
        return Rival(RivalKind.SUBSCRIPTION, row.key, row.ends_at)
    return _signup(db, wanted) or _takeover(db, wanted)


def _signup(db: Connection, wanted: Wanted) -> Rival | None:
    k, c = billing_keys.c, charges.c
    made = (
        select(signups.c.charge_id)
        .join_from(billing_keys, signups, signups.c.billing_key_id == k.id)
        .where(k.customer_id == wanted.customer_id, signups.c.plan == wanted.plan)
    )
    ids = list(db.execute(made).scalars())  # by row id: not by a scan of all debts
    owed = select(c.key).where(c.id.in_(ids), text(OWED)).limit(1)
    key = db.execute(owed).scalar() if ids else None
    return None if key is None else Rival(RivalKind.SIGNUP, key, None)


def _takeover(db: Connection, wanted: Wanted) -> Rival | None:
    k, t = billing_keys.c, takeovers.c
    begun = (
        select(t.subscription_key)
        .join_from(billing_keys, takeovers, t.billing_key_id == k.id)
        .where(k.customer_id == wanted.customer_id, t.plan == wanted.plan, t.taken_at.is_(None))
        .where(k.id != wanted.but_card)
        .limit(1)
    )
    key = db.execute(begun).scalar()
    return None if key is None else Rival(RivalKind.TAKEOVER, key, None)


def trial_used(db: Connection, customer_id: int, code: str) -> str | None:
    """Return the key of a customer's subscription that used the trial of a plan, in any state."""
    s = subscriptions.c
    return db.execute(
        select(s.key).where(s.customer_id == customer_id, s.trial_of == code).order_by(s.id).limit(1)
    ).scalar()
