"""Opening: insert one charge for each due period of each subscription, and advance its cursor."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from schedules.charging.charges import ChargeKind, ChargeStatus, DueCharge, SubscriptionStatus
from schedules.errors import BROKEN
from schedules.outbox import events
from schedules.subscriptions.cursor import LONGEST_SHIFT, open_all_due, pass_over
from schedules.subscriptions.cursor import open_due as open_periods
from schedules.subscriptions.plans import Plan, at_own_time
from worker.failpoints import Failpoint, hit
from worker.services import Services, may_decide
from worker.store.charging import charges
from worker.store.charging.columns import NewCharge
from worker.store.customers import plans as plan_rows
from worker.store.customers import subscriptions
from worker.store.customers.plans import StoredPlan
from worker.store.customers.subscriptions import DueSubscription, Subscription, cursor_columns
from worker.store.outbox import event_log

log = logging.getLogger("again.open_charges")
BATCH = 500  # subscriptions in one transaction: some 50,000 a second, and locks held for milliseconds


def open_due(services: Services, plan_id: int | None = None, going_on: Callable[[], bool] = lambda: True) -> int:
    """Open every due period, of one plan or of all, in batches; return the number of new charges.

    Concurrent calls lock different subscriptions (SKIP LOCKED), and one_charge_for_each_period refuses a second
    charge for a period in every case.
    """
    opened = 0
    while going_on():
        taken, fresh = _open_batch(services, plan_id)
        opened += fresh
        if taken < BATCH:
            break
    if opened:
        log.info("opened %d charges", opened)
    return opened


def _open_batch(services: Services, plan_id: int | None) -> tuple[int, int]:
    now = services.clock.now()
    with services.engine.begin() as db:
        if not may_decide(services, db):
            return 0, 0
        due = subscriptions.take_due(db, plan_id, now, BATCH)
        plans, unreadable = subscriptions.plans_of(db, {subscription.plan_id for subscription in due})
        openings = []
        rows = list[NewCharge]()
        for subscription in due:
            try:
                if subscription.plan_id in unreadable:
                    raise unreadable[subscription.plan_id]
                plan = plans[subscription.plan_id]
                own = at_own_time(plan.plan, subscription.billing_time)
                opening = open_periods(own, subscription.series, subscription.cursor, now)
                rows += [_row(subscription, plan, charge, now) for charge in opening.charges]
            except BROKEN as broken:
                _quarantine(db, subscription, broken, now)
            else:
                openings.append((subscription, opening, plan.policy.upcoming))
        keys = charges.open_many(db, rows)
        subscriptions.move_cursors(db, openings)
        _tell(db, rows, set(keys), now)
        first = keys[0] if keys else ""
        hit(Failpoint.OPENING_WRITTEN, first)
    hit(Failpoint.OPENING_COMMITTED, first)
    return len(due), len(keys)


@dataclass(frozen=True, slots=True)
class Opened:
    """A period that was opened before a verb changed its subscription."""

    charge: str
    period_no: int
    due_at: datetime
    amount: int  # minor units
    currency: str
    status: ChargeStatus  # waived when it is not charged
    closed_why: str | None = None  # why it is not charged


def open_first(db: Connection, row: Subscription, now: datetime) -> tuple[Subscription, tuple[Opened, ...]]:
    """Open every due period of one subscription, whose row the caller has locked, and advance its cursor.

    Return the subscription with its new cursor, and the periods. Nothing is opened for a paused, ended or
    quarantined subscription.
    """
    active = row.status is SubscriptionStatus.ACTIVE and row.held_why is None
    if not active or row.next_due_at > now or (row.ends_at or now + LONGEST_SHIFT) <= row.next_due_at:
        return row, ()
    due, stored, own = _as_due(db, row)
    opening, not_before = open_all_due(own, due.series, due.cursor, now)
    rows = [_row(due, stored, each, now) for each in opening.charges]
    for made, at in zip(rows, not_before, strict=True):
        if made["next_attempt_at"] is not None:
            made["next_attempt_at"] = max(made["next_attempt_at"], at)
    keys = set(charges.open_many(db, rows))
    subscriptions.move_cursors(db, [(due, opening, stored.policy.upcoming)])
    _tell(db, rows, keys, now)
    return row.at(opening.cursor), _opened(rows)


def pass_over_paused(
    db: Connection, row: Subscription, why: str, now: datetime
) -> tuple[Subscription, tuple[Opened, ...]]:
    """Insert a waived charge for each period that came due during a pause, and advance the cursor past them.

    The caller has locked the row. Return the subscription with its new cursor, and the periods. Nothing is written
    for a subscription that is not paused, or that is quarantined.
    """
    is_paused = row.status is SubscriptionStatus.PAUSED and row.held_why is None
    if not is_paused or row.next_due_at >= now:
        return row, ()
    due, stored, own = _as_due(db, row)
    opening = pass_over(own, due.series, due.cursor, now, why)
    rows = [_row(due, stored, each, now) for each in opening.charges]
    keys = set(charges.open_many(db, rows))
    subscriptions.change(db, row.id, **cursor_columns(opening.cursor))
    _tell(db, rows, keys, now)
    return row.at(opening.cursor), _opened(rows)


def _as_due(db: Connection, row: Subscription) -> tuple[DueSubscription, StoredPlan, Plan]:
    """Return a subscription for opening, its plan, and the plan at the subscription's own time of day."""
    stored = plan_rows.by_id(db, row.plan_id)
    due = DueSubscription(
        row.id, row.key, row.billing_key_id, row.account, row.plan_id, row.anchor, row.cursor,
        row.ends_at, row.anchor_no, row.billing_time, row.skip_to, row.anchor_day,
    )  # fmt: skip
    return due, stored, at_own_time(stored.plan, row.billing_time)


def _opened(rows: list[NewCharge]) -> tuple[Opened, ...]:
    return tuple(
        Opened(
            made["key"], made["period_no"], made["due_at"], made["amount"], made["currency"],
            ChargeStatus(made["status"]), made["closed_why"],
        )
        for made in rows
    )  # fmt: skip


def _quarantine(db: Connection, subscription: DueSubscription, broken: Exception, now: datetime) -> None:
    """Quarantine a subscription whose row breaks a rule, with an event; the others continue."""
    why = f"opening cannot work on it: {broken}"
    log.error("subscription %s is set aside, a person must look: %s", subscription.key, why)
    subscriptions.change(db, subscription.id, open_at=None, tell_at=None, held_why=why)
    dedupe = f"{subscription.key}/held/{now.isoformat()}"
    event_log.enqueue_event(db, events.SubscriptionHeld(subscription=subscription.key, why=why), dedupe, now)


def _row(subscription: DueSubscription, plan: StoredPlan, charge: DueCharge, now: datetime) -> NewCharge:
    waived = charge.waived is not None
    return {
        "key": charge.key,
        "kind": ChargeKind.RENEWAL.value,
        "subscription_id": subscription.id,
        "period_no": charge.period_no,
        "billing_key_id": subscription.billing_key_id,
        "account": subscription.account,
        "amount": charge.money.amount,
        "currency": charge.money.currency,
        "name": plan.plan.statement_name,
        "policy_id": plan.policy_id,
        "status": (ChargeStatus.WAIVED if waived else ChargeStatus.OPEN).value,
        "due_at": charge.due_at,
        "next_attempt_at": None if waived else charge.due_at,
        "held_why": charge.held,
        "created_at": now,
        "closed_at": now if waived else None,
        "closed_why": charge.waived,
    }


def _tell(db: Connection, rows: list[NewCharge], fresh: set[str], now: datetime) -> None:
    for row in rows:
        if row["key"] in fresh and (why := row["closed_why"] or row["held_why"]):
            told = events.ChargeWaived if row["closed_why"] else events.ChargeHeld
            event_log.enqueue_event(db, told(charge=row["key"], why=why), f"{row['key']}/{told.kind}/opening", now)
