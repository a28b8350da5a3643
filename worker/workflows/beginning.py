"""Beginning: a subscription's row is written, by a person's word or because its first payment is there."""

from datetime import date, datetime

from sqlalchemy import Connection

from schedules import events
from schedules.charges import SubscriptionStatus
from schedules.subscriptions import Cursor, advance, first_cursor
from worker.store import notes, plans, signups, subscriptions
from worker.store.charges import Charge
from worker.store.plans import StoredPlan


def begin(
    db: Connection, key: str, whose: tuple[int, int], plan: StoredPlan, anchor: date, first: Cursor, now: datetime
) -> None:
    """Write a subscription of a (customer, billing key), whose first charge to be opened is this one."""
    customer_id, billing_key_id = whose
    ahead = plan.policy.upcoming
    subscriptions.add(db, {
        "key": key, "customer_id": customer_id, "billing_key_id": billing_key_id, "plan_id": plan.id,
        "anchor": anchor, "status": SubscriptionStatus.ACTIVE.value, "next_period_no": first.period_no,
        "next_period_date": first.period_date, "next_due_at": first.due_at, "open_at": first.due_at,
        "created_at": now, "tell_at": None if ahead is None else first.due_at - ahead,
    })  # fmt: skip


def begin_signed_up(db: Connection, charge: Charge, now: datetime) -> None:
    """Begin the subscription that waited for this charge, which has just been paid; period 0 is paid by it."""
    signup = signups.of_charge(db, charge.id)
    if signup is None or signup.begun_at is not None:
        return
    plan = plans.by_id(db, signup.plan_id)
    following = advance(plan.plan, signup.anchor, first_cursor(plan.plan, signup.anchor))
    whose = (signup.customer_id, signup.billing_key_id)
    begin(db, signup.subscription_key, whose, plan, signup.anchor, following, now)
    signups.begun(db, signup.id, now)
    began = events.SubscriptionBegan(
        subscription=signup.subscription_key, customer_uid=charge.customer_uid, plan=plan.plan.code,
        charge=charge.key, next_due_at=following.due_at,
    )  # fmt: skip
    notes.owe(db, began, f"{signup.subscription_key}/began", now)
