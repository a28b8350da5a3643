"""Adjusting: what a person changes about a running subscription, from its next period on and never before."""

from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any

from sqlalchemy import Connection

from schedules import events
from schedules.charges import SubscriptionStatus
from schedules.errors import ToldInWords
from schedules.periods import kept_month_day
from schedules.plans import Plan, at_own_time, due_at
from schedules.subscriptions import Cursor, advance, first_cursor
from worker.store import attempts, charges, customers, debts, notes, plans, subscriptions
from worker.store.customers import StoredKey
from worker.store.plans import StoredPlan
from worker.store.rivals import Wanted
from worker.workflows.cards import try_at_once
from worker.workflows.closing import pause_subscription, resume_subscription
from worker.workflows.current_card import move
from worker.workflows.enrolling import LATEST_ANCHOR, plan_on_sale
from worker.workflows.rivals import why_not
from worker.workflows.services import Services

Row = dict[str, Any]
MOST_SKIPPED = 12  # periods at once; more is a pause


@dataclass(frozen=True, slots=True)
class CardChange:
    """What became of the debts of a subscription whose card was changed, each counted once."""

    tried: int  # moved to the new card and tried at once
    moved: int  # moved, and not tried: held, not due, or declined before a person ended the subscription
    under_way: int  # moved as soon as the attempt is answered unpaid
    left: int  # of another gateway account


class CannotAdjust(ToldInWords):
    """The change does not fit the state that the subscription is in; nothing has been done."""


def pause(services: Services, key: str, actor: str, why: str) -> None:
    """Open no period until it is resumed; what is owed already is still collected."""
    now = services.clock.now()
    with services.act(key) as db:
        row = _live(db, key)
        if row["status"] == SubscriptionStatus.PAUSED.value:
            raise CannotAdjust(f"subscription {key} is paused already")
        _refuse_due(row, now)
        pause_subscription(db, row["id"], why, now)
        notes.record(db, actor, "pause", key, why, now)


def resume(services: Services, key: str, actor: str, why: str) -> datetime:
    """Go on with the next period that comes, which is when it answers; those meanwhile are not charged."""
    now = services.clock.now()
    with services.act(key) as db:
        row = _live(db, key)
        if row["status"] != SubscriptionStatus.PAUSED.value:
            raise CannotAdjust(f"subscription {key} is not paused; nothing to resume")
        rests_for = debts.rests_for(db, row["id"])
        if rests_for is not None:
            raise CannotAdjust(
                f"subscription {key} rests until charge {rests_for} is paid; "
                "`again try`, `waive` or `paid-elsewhere` ends that, and the pause with it"
            )
        resume_subscription(db, row["id"], why, now)
        notes.record(db, actor, "resume", key, why, now)
        due: datetime = _live(db, key)["next_due_at"]
    return due


def undo(services: Services, key: str, actor: str, why: str) -> str:
    """Take back what waits for the next period, its end or what is skipped; answers which.

    What was declined before the end was said is not tried again by itself.
    """
    now = services.clock.now()
    with services.act(key) as db:
        row = _live(db, key)
        if row["ends_at"] is not None:
            if row["ends_at"] <= now:
                raise CannotAdjust(f"subscription {key} ended at {row['ends_at']:%Y-%m-%d %H:%M}Z; subscribe anew")
            _refuse_second(db, row, row["plan_code"], "goes on")
            undone = "end"
            row["ends_at"] = None
        elif row["skip_to"] is not None and row["skip_to"] > row["next_period_no"]:
            undone = "skip"
            row["skip_to"] = None
        else:
            raise CannotAdjust(f"subscription {key} neither ends nor skips a period; nothing to undo")
        _write(db, row, plans.by_id(db, row["plan_id"]), "undo", now)
        notes.record(db, actor, "undo", key, why, now, undone=undone)
    return undone


def skip(services: Services, key: str, actor: str, why: str, period_no: int | None = None) -> int:
    """Let one period pass without a charge, the next one unless its number is given; answers which.

    With a number the same said twice skips one period, so whoever may send it twice gives it.
    """
    now = services.clock.now()
    with services.act(key) as db:
        row = _active(db, key, now)
        following = max(row["skip_to"] or 0, row["next_period_no"])
        skipped = following if period_no is None else period_no
        if row["next_period_no"] <= skipped < following:
            return skipped
        if skipped != following:
            raise CannotAdjust(f"period {skipped} of subscription {key} is not the next one, {following}")
        if skipped - row["next_period_no"] >= MOST_SKIPPED:
            raise CannotAdjust(
                f"{MOST_SKIPPED} periods of subscription {key} are skipped already; pause it instead"
            )
        row["skip_to"] = skipped + 1
        _write(db, row, plans.by_id(db, row["plan_id"]), "skip", now)
        notes.record(db, actor, "skip", key, why, now, period_no=skipped)
    return skipped


def move_anchor(services: Services, key: str, day: date, actor: str, why: str) -> Cursor:
    """Count the periods from another day, on which the next one begins; numbers go on, nothing is prorated."""
    now = services.clock.now()
    with services.act(key) as db:
        row = _active(db, key, now)
        plan = plans.by_id(db, row["plan_id"])
        before, _ = row["anchor"], row.update(anchor=day, anchor_no=row["next_period_no"], anchor_day=None)
        cursor = first_cursor(_own(plan, row), day, None, row["anchor_no"])
        if not now < cursor.due_at < now + LATEST_ANCHOR:
            raise CannotAdjust(
                f"anchor {day} would charge subscription {key} at {cursor.due_at:%Y-%m-%d %H:%M}Z; "
                "give a day that comes, within five years"
            )
        _write(db, row, plan, "anchor", now, cursor)
        notes.record(db, actor, "move-anchor", key, why, now, before=str(before), after=str(day))
    return cursor


def move_time(services: Services, key: str, at: time | None, actor: str, why: str) -> datetime:
    """Bill it at another time of day than its plan, or at its plan's again; answers when it is due next."""
    now = services.clock.now()
    with services.act(key) as db:
        row = _active(db, key, now)
        plan = plans.by_id(db, row["plan_id"])
        before, row["billing_time"] = row["billing_time"], at
        day = row["next_period_date"]
        own = _own(plan, row)  # a time that is no wall time to the minute is refused here
        cursor = Cursor(row["next_period_no"], day, due_at(own, day))
        _write(db, row, plan, "time", now, cursor)
        notes.record(db, actor, "move-time", key, why, now, before=str(before), after=str(at))
    return cursor.due_at


@dataclass(frozen=True, slots=True)
class PlanChange:
    """What a subscription is charged by from its next period on, and was before."""

    next: Cursor
    before: Plan
    after: Plan


def change_plan(
    services: Services, key: str, code: str, actor: str, why: str, *, another: bool = False,
    other_currency: bool = False,
) -> PlanChange:  # fmt: skip
    """Charge by the newest version of a plan from the next period on; nothing is prorated.

    With the same cadence the dates stay. With another one the next date stays, and the others count from it; the
    day of the month that was asked for is kept. A customer who is on the other plan is refused, unless `another`
    is wanted; so is a price in another currency, unless `other_currency` is.
    """
    now = services.clock.now()
    with services.act(key) as db:
        row = _active(db, key, now)
        plan, before = plan_on_sale(db, code), plans.by_id(db, row["plan_id"])
        if plan.id == before.id:
            raise CannotAdjust(f"subscription {key} is on plan {code!r} version {plan.plan.version} already")
        if plan.plan.price.currency != before.plan.price.currency and not other_currency:
            raise CannotAdjust(
                f"plan {code!r} version {plan.plan.version} costs {plan.plan.price}, subscription {key} costs "
                f"{before.plan.price}; say --other-currency to charge in another currency"
            )
        if another:
            row["another"] = True
        elif code != before.plan.code:
            _refuse_second(db, row | {"another": False}, code, "changes its plan")
        row["plan_id"] = plan.id
        cursor = _next_under(plan, before, row)
        _write(db, row, plan, "plan", now, cursor)
        words = {"before": f"{before.plan.code}/{before.plan.version}", "after": f"{code}/{plan.plan.version}"}
        prices = {"price_before": str(before.plan.price), "price_after": str(plan.plan.price)}
        notes.record(db, actor, "change-plan", key, why, now, **words, **prices)
    return PlanChange(cursor, before.plan, plan.plan)


def _refuse_second(db: Connection, row: Row, code: str, act: str) -> None:
    """CannotAdjust when the customer has another subscription to the plan, unless this one was asked for so."""
    if row["another"]:
        return
    wanted = Wanted(customer_id=row["customer_id"], plan=code, starts_at=row["next_due_at"], but=row["id"])
    rival = why_not(db, wanted)
    if rival is not None:
        raise CannotAdjust(f"subscription {row['key']} {act} only alone: its customer {rival}")


def change_card(services: Services, key: str, customer_uid: str, actor: str, why: str) -> CardChange:
    """Charge another card of the same customer from now on; what it owes moves to that card and is tried at once.

    A debt whose attempt is under way or unclear moves when that attempt is answered unpaid. A debt of another
    gateway account keeps its card.
    """
    now = services.clock.now()
    with services.act(key) as db:
        row = _live(db, key)
        card = _other_card(db, row, customer_uid)
        before, row["customer_uid"] = row["customer_uid"], customer_uid
        plan = plans.by_id(db, row["plan_id"])
        told_at = {"tell_at": _told_at(row, plan)} if _goes_on(row) else {}
        subscriptions.change(db, row["id"], billing_key_id=card.id, **told_at)
        _tell(db, row, plan, "card", now, _next_charge(row, plan))
        owed = [charges.locked(db, each["id"]) for each in charges.of_subscription(db, row["id"], owed_only=True)]
        here = [charge for charge in owed if charge is not None and charge.account == card.account]
        movable = [charge for charge in here if not attempts.is_under_way(db, charge.id)]
        for charge in movable:
            move(db, charge, card.id, now)
        tried = sum(try_at_once(db, charge, now, is_new=True) for charge in movable)
        change = CardChange(tried, len(movable) - tried, len(here) - len(movable), len(owed) - len(here))
        notes.record(db, actor, "change-card", key, why, now, before=before, after=customer_uid, tried=tried)
    return change


def _other_card(db: Connection, row: Row, customer_uid: str) -> StoredKey:
    """The card with this customer_uid, which must be another one of the subscription's customer."""
    card = customers.key_by_uid(db, customer_uid)
    if card is None or card.deleted_at is not None:
        raise CannotAdjust(f"customer_uid {customer_uid!r} is not known, or was deleted")
    if card.customer_id != row["customer_id"]:
        raise CannotAdjust(
            f"customer_uid {customer_uid!r} is another customer's; "
            f"`again customer add {customer_uid} --of {row['customer_uid']}` makes it this one's"
        )
    if card.id == row["billing_key_id"]:
        raise CannotAdjust(f"subscription {row['key']} is charged to {customer_uid!r} already")
    return card


def _live(db: Connection, key: str) -> Row:
    row = subscriptions.by_key(db, key, lock=True)
    if row is None:
        raise CannotAdjust(f"subscription {key!r} is not known; a subscription's key has 20 characters")
    if row["status"] == SubscriptionStatus.CANCELED.value:
        raise CannotAdjust(f"subscription {key} is canceled")
    if row["held_why"] is not None:
        raise CannotAdjust(f"subscription {key} is set aside: {row['held_why']}; `again release` it first")
    return row


def _active(db: Connection, key: str, now: datetime) -> Row:
    """A subscription that goes on charging, and has no period that is due at this moment."""
    row = _live(db, key)
    if row["status"] != SubscriptionStatus.ACTIVE.value:
        raise CannotAdjust(f"subscription {key} is {row['status']}; `again resume` it first")
    if row["ends_at"] is not None:
        raise CannotAdjust(f"subscription {key} ends at {row['ends_at']:%Y-%m-%d %H:%M}Z; `again undo` that first")
    _refuse_due(row, now)
    return row


def _refuse_due(row: Row, now: datetime) -> None:
    if row["status"] == SubscriptionStatus.ACTIVE.value and row["next_due_at"] <= now and row["ends_at"] is None:
        raise CannotAdjust(
            f"period {row['next_period_no']} of subscription {row['key']} is due and about to be opened; "
            "try again in a minute"
        )


def _own(plan: StoredPlan, row: Row) -> Plan:
    return at_own_time(plan.plan, row["billing_time"])


def _next_under(plan: StoredPlan, before: StoredPlan, row: Row) -> Cursor:
    """The next period under another plan, whose number and, if it can be, whose date it keeps."""
    own, number, day = _own(plan, row), row["next_period_no"], row["next_period_date"]
    if plan.plan.cadence == before.plan.cadence:
        return Cursor(number, day, due_at(own, day))
    month_day = kept_month_day(
        row["anchor"], row["anchor_day"], before.plan.cadence, day, is_new=number == row["anchor_no"]
    )
    row.update(anchor=day, anchor_no=number, anchor_day=month_day)
    return first_cursor(own, day, None, number, month_day=month_day)


def _write(
    db: Connection, row: Row, plan: StoredPlan, what: str, now: datetime, cursor: Cursor | None = None
) -> None:
    """Write the subscription as it is now, with when it is looked at and told of next."""
    if cursor is not None:
        row.update(next_period_no=cursor.period_no, next_period_date=cursor.period_date, next_due_at=cursor.due_at)
    columns = (
        "plan_id", "another", "anchor", "anchor_no", "anchor_day", "billing_time", "skip_to", "ends_at",
        "next_period_no", "next_period_date", "next_due_at",
    )  # fmt: skip
    before = _next_charge_of(db, row["key"])
    values = {name: row[name] for name in columns}
    if _goes_on(row):
        values |= {"open_at": row["next_due_at"], "tell_at": _told_at(row, plan)}
        if values["tell_at"] is None:
            values["told_as"] = None
    subscriptions.change(db, row["id"], **values)
    _tell(db, row, plan, what, now, before)


@dataclass(frozen=True, slots=True)
class _NextCharge:
    """The next charge that is not skipped; all empty when there is none."""

    due_at: datetime | None = None
    amount: int | None = None
    currency: str | None = None


def _next_charge(row: Row, plan: StoredPlan) -> _NextCharge:
    if not _goes_on(row):
        return _NextCharge()
    return _NextCharge(_charged_at(row, plan), plan.plan.price.amount, plan.plan.price.currency)


def _next_charge_of(db: Connection, key: str) -> _NextCharge:
    """The next charge of a subscription as it is written."""
    row = _live(db, key)
    return _next_charge(row, plans.by_id(db, row["plan_id"]))


def _told_at(row: Row, plan: StoredPlan) -> datetime | None:
    """When the next charge is announced; at once when that time has passed, and never while it is skipped."""
    ahead, skipped = plan.policy.upcoming, row["next_period_no"] < (row["skip_to"] or 0)
    return None if ahead is None or skipped else row["next_due_at"] - ahead


def _tell(db: Connection, row: Row, plan: StoredPlan, what: str, now: datetime, before: _NextCharge) -> None:
    after = _next_charge(row, plan)
    changed = events.SubscriptionChanged(
        subscription=row["key"], customer_uid=row["customer_uid"], what=what, plan=plan.plan.code,
        next_due_at=after.due_at, amount=after.amount, currency=after.currency,
        old_due_at=before.due_at, old_amount=before.amount, old_currency=before.currency,
    )  # fmt: skip
    notes.owe(db, changed, f"{row['key']}/changed/{what}/{now.isoformat()}", now)


def _goes_on(row: Row) -> bool:
    return row["status"] == SubscriptionStatus.ACTIVE.value and row["ends_at"] is None


def _charged_at(row: Row, plan: StoredPlan) -> datetime:
    """When the next period is due that is not skipped."""
    cursor = Cursor(row["next_period_no"], row["next_period_date"], row["next_due_at"])
    while cursor.period_no < (row["skip_to"] or 0):
        cursor = advance(_own(plan, row), row["anchor"], cursor, row["anchor_no"], month_day=row["anchor_day"])
    return cursor.due_at
