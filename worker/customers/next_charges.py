"""The next charge of a subscription; writing a change of it, with its event."""

from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Connection

from schedules.charging.charges import SubscriptionStatus
from schedules.outbox import events
from schedules.subscriptions.cursor import Cursor, advance
from schedules.subscriptions.plans import Plan, at_own_time
from worker.store.customers import plans, subscriptions
from worker.store.customers.plans import StoredPlan
from worker.store.customers.subscriptions import Subscription, SubscriptionColumns
from worker.store.outbox import event_log


@dataclass(frozen=True, slots=True)
class Next:
    """What a subscription is charged next, unless something changes."""

    period_no: int
    period_date: date
    due_at: datetime
    amount: int  # minor units
    currency: str


def goes_on(row: Subscription) -> bool:
    """Whether a subscription has a next charge: it is neither paused nor canceled, and has no end date."""
    return row.status is SubscriptionStatus.ACTIVE and row.ends_at is None


def next_of(db: Connection, row: Subscription) -> Next:
    """The next period that is not skipped, whether or not the subscription goes on."""
    return _next(row, plans.by_id(db, row.plan_id))


def next_if_on(db: Connection, row: Subscription) -> Next | None:
    """The next charge of a subscription; None when there is none."""
    return next_of(db, row) if goes_on(row) else None


def _next(row: Subscription, plan: StoredPlan) -> Next:
    cursor, price = cursor_at(row, plan, row.skip_to or 0), plan.plan.price
    return Next(cursor.period_no, cursor.period_date, cursor.due_at, price.amount, price.currency)


def cursor_at(row: Subscription, plan: StoredPlan, number: int) -> Cursor:
    """The next period, or a later one with this number."""
    cursor = row.cursor
    while cursor.period_no < number:
        cursor = advance(own_plan(plan, row), row.anchor, cursor, row.anchor_no, month_day=row.anchor_day)
    return cursor


def own_plan(plan: StoredPlan, row: Subscription) -> Plan:
    """A subscription's plan at its own time of day."""
    return at_own_time(plan.plan, row.billing_time)


def write(db: Connection, row: Subscription, plan: StoredPlan, what: str, now: datetime) -> None:
    """Write the subscription and when it is next opened and announced."""
    stored = subscriptions.by_key(db, row.key)
    before = None if stored is None else next_if_on(db, stored)
    values: SubscriptionColumns = {
        "plan_id": row.plan_id, "another": row.another, "anchor": row.anchor, "anchor_no": row.anchor_no,
        "anchor_day": row.anchor_day, "billing_time": row.billing_time, "skip_to": row.skip_to,
        "ends_at": row.ends_at, "next_period_no": row.next_period_no,
        "next_period_date": row.next_period_date, "next_due_at": row.next_due_at,
    }  # fmt: skip
    if goes_on(row):
        values |= {"open_at": row.next_due_at, "tell_at": announce_at(row, plan)}
        if values["tell_at"] is None:
            values["told_as"] = None
    subscriptions.change(db, row.id, **values)
    enqueue_changed(db, row, plan, what, now, before)


def announce_at(row: Subscription, plan: StoredPlan) -> datetime | None:
    """When the next charge is announced. A time in the past means at once; None while the period is skipped."""
    ahead, skipped = plan.policy.upcoming, row.next_period_no < (row.skip_to or 0)
    return None if ahead is None or skipped else row.next_due_at - ahead


def enqueue_changed(
    db: Connection, row: Subscription, plan: StoredPlan, what: str, now: datetime, before: Next | None
) -> None:
    """Enqueue the event of a change, with the next charge before and after it."""
    after = _facts(_next(row, plan) if goes_on(row) else None)
    old = _facts(before)
    changed = events.SubscriptionChanged(
        subscription=row.key, customer_uid=row.customer_uid, what=what, plan=plan.plan.code,
        next_due_at=after[0], amount=after[1], currency=after[2],
        old_due_at=old[0], old_amount=old[1], old_currency=old[2],
    )  # fmt: skip
    event_log.enqueue_event(db, changed, f"{row.key}/changed/{what}/{now.isoformat()}", now)


def _facts(charge: Next | None) -> tuple[datetime, int, str] | tuple[None, None, None]:
    return (None, None, None) if charge is None else (charge.due_at, charge.amount, charge.currency)
