"""Insert a subscription: requested by a person, or after its first payment."""

import logging
from dataclasses import dataclass, replace
from datetime import date, datetime

from sqlalchemy import Connection

from schedules.charging.charges import SubscriptionStatus
from schedules.outbox import events
from schedules.subscriptions.cursor import Cursor, advance, first_cursor
from worker.renewals.one_per_plan import why_not
from worker.store.charging.charges import Charge
from worker.store.customers import plans, signups, subscriptions
from worker.store.customers.plans import StoredPlan
from worker.store.customers.rival_subscriptions import Wanted
from worker.store.outbox import event_log

log = logging.getLogger("again.begin_subscription")


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """A subscription to insert."""

    key: str
    customer_id: int
    billing_key_id: int
    plan: StoredPlan
    anchor: date
    first: Cursor  # the first charge that is opened
    external_ref: str | None = None
    another: bool = False  # requested beside another one of the same customer and plan
    trial_of: str | None = None  # the plan's code, if the subscription uses its trial
    held_why: str | None = None  # nothing is charged until a person releases it


def begin(db: Connection, what: Beginning, now: datetime) -> bool:
    """Insert a subscription; return False and write nothing when a constraint refuses it.

    The constraints refuse an equal reference, and a second active one of a customer and plan.
    """
    first, ahead = what.first, what.plan.policy.upcoming
    waits = what.held_why is not None
    return subscriptions.add(db, {
        "key": what.key, "customer_id": what.customer_id, "billing_key_id": what.billing_key_id,
        "plan_id": what.plan.id, "anchor": what.anchor, "status": SubscriptionStatus.ACTIVE.value,
        "next_period_no": first.period_no, "next_period_date": first.period_date, "next_due_at": first.due_at,
        "open_at": None if waits else first.due_at,
        "tell_at": None if waits or ahead is None else first.due_at - ahead,
        "created_at": now, "external_ref": what.external_ref, "another": what.another, "trial_of": what.trial_of,
        "held_why": what.held_why,
    })  # fmt: skip


def begin_promised(db: Connection, what: Beginning, wanted: Wanted, now: datetime) -> None:
    """Insert a subscription that was paid for, or whose schedule at the gateway was stopped.

    It can no longer be refused. If its customer has another one, it is held for an operator: `again release`
    continues it beside that one, `again unsubscribe` ends it.
    """
    rival = why_not(db, replace(wanted, but_deliberate=True))
    if rival is not None:
        log.error("subscription %s is set aside: its customer %s", what.key, rival)
        what = replace(what, another=True, held_why=f"its customer {rival}")
    if not begin(db, what, now):
        raise LookupError(f"subscription {what.key} could not be written")
    if what.held_why is not None:
        held = events.SubscriptionHeld(subscription=what.key, why=what.held_why)
        event_log.enqueue_event(db, held, f"{what.key}/held/{now.isoformat()}", now)


def begin_signed_up(db: Connection, charge: Charge, now: datetime) -> None:
    """Insert the subscription of a signup whose charge has just been paid; that charge pays period 0."""
    signup = signups.of_charge(db, charge.id)
    if signup is None or signup.begun_at is not None:
        return
    plan = plans.by_id(db, signup.plan_id)
    following = advance(plan.plan, signup.anchor, first_cursor(plan.plan, signup.anchor))
    signups.begun(db, signup.id, now)
    what = Beginning(
        key=signup.subscription_key, customer_id=signup.customer_id, billing_key_id=signup.billing_key_id,
        plan=plan, anchor=signup.anchor, first=following,
    )  # fmt: skip
    wanted = Wanted(customer_id=signup.customer_id, plan=plan.plan.code, starts_at=following.due_at)
    begin_promised(db, what, wanted, now)
    began = events.SubscriptionBegan(
        subscription=signup.subscription_key, customer_uid=charge.customer_uid, plan=plan.plan.code,
        charge=charge.key, next_due_at=following.due_at,
    )  # fmt: skip
    event_log.enqueue_event(db, began, f"{signup.subscription_key}/began", now)
