"""Adjusting: what a person changes about a running subscription, from its next period on and never before."""

from dataclasses import dataclass
from datetime import date, datetime, time
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection

from schedules import events
from schedules.charges import SubscriptionStatus
from schedules.periods import kept_month_day
from schedules.plans import Plan, at_own_time, due_at
from schedules.subscriptions import Cursor, advance, first_cursor
from schedules.verbs import Verb
from worker.store import attempts, charges, customers, notes, plans, subscriptions
from worker.store.customers import StoredKey
from worker.store.plans import StoredPlan
from worker.store.rivals import Wanted
from worker.workflows import dunning
from worker.workflows.admitting import CannotAdjust, admit
from worker.workflows.cards import try_at_once
from worker.workflows.closing import pause_subscription, resume_subscription
from worker.workflows.current_card import move
from worker.workflows.enrolling import LATEST_ANCHOR, plan_on_sale
from worker.workflows.opening import Opened
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


@dataclass(frozen=True, slots=True)
class Next:
    """What a subscription is charged next, unless something changes."""

    period_no: int
    period_date: date
    due_at: datetime
    amount: int  # minor units
    currency: str


@dataclass(frozen=True, slots=True)
class Paused:
    """A subscription that was paused, and the periods that were due and were opened before."""

    opened: tuple[Opened, ...]


@dataclass(frozen=True, slots=True)
class Resumed:
    """A subscription that goes on after a pause."""

    not_charged: tuple[Opened, ...]  # the periods that came due in the pause
    following: Next | None  # None when it ends before that


@dataclass(frozen=True, slots=True)
class Skipped:
    """A period that will not be charged, and what is charged next."""

    period_no: int
    period_date: date
    amount: int  # minor units that are not charged
    currency: str
    following: Next
    opened: tuple[Opened, ...]


class Undoable(StrEnum):
    """What `undo` takes back."""

    END = "end"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Undone:
    """What was taken back, and what is charged next."""

    what: Undoable
    ended_at: datetime | None  # the end that was taken back
    skipped_below: int | None  # periods below this number were to be skipped
    debts_tried: int  # declined before the end was said, and tried again now
    following: Next | None  # None while it is paused


def pause(services: Services, key: str, actor: str, why: str) -> Paused:
    """Open no period until it is resumed; what is owed already is still collected."""
    now = services.clock.now()
    with services.act(key) as db:
        admitted = admit(services, db, key, Verb.PAUSE, now)
        pause_subscription(db, admitted.row["id"], why, now)
        notes.record(db, actor, "pause", key, why, now)
    return Paused(admitted.opened)


def resume(services: Services, key: str, actor: str, why: str) -> Resumed:
    """Go on with the next period that comes; each one meanwhile gets a charge that is waived."""
    now = services.clock.now()
    with services.act(key) as db:
        row = admit(services, db, key, Verb.RESUME, now).row
        passed = resume_subscription(db, row["id"], why, now)
        notes.record(db, actor, "resume", key, why, now, not_charged=len(passed))
        resumed = subscriptions.by_key(db, key)
        goes_on = resumed is not None and _goes_on(resumed)
        return Resumed(passed, _next(db, resumed) if resumed is not None and goes_on else None)


def undo(services: Services, key: str, actor: str, why: str, what: Undoable | None = None) -> Undone:
    """Take back an end that has not come, or what is to be skipped; it must be said which when both are there.

    Debts whose ladder the end had stopped are tried again, no sooner than a ladder would.
    """
    now = services.clock.now()
    with services.act(key) as db:
        before = _known(db, key)
        both = before["ends_at"] is not None and (before["skip_to"] or 0) > before["next_period_no"]
        if what is None and both:
            raise CannotAdjust(f"subscription {key} ends, and skips a period; say which to undo: end or skip")
        what = what or (Undoable.SKIP if before["ends_at"] is None else Undoable.END)
        verb = Verb.UNDO_END if what is Undoable.END else Verb.UNDO_SKIP
        row, tried = admit(services, db, key, verb, now).row, 0
        ended_at, skip_to = row["ends_at"], row["skip_to"]
        if what is Undoable.END:
            _refuse_second(db, row, row["plan_code"], "goes on")
            row["ends_at"] = None
        else:
            row["skip_to"] = None
        _write(db, row, plans.by_id(db, row["plan_id"]), "undo", now)
        if what is Undoable.END:
            tried = dunning.start_ladders(db, row["id"], now)
        notes.record(db, actor, "undo", key, why, now, undone=what.value, tried=tried)
        following = _next(db, row) if _goes_on(row) else None
    if what is Undoable.END:
        return Undone(what, ended_at, None, tried, following)
    return Undone(what, None, skip_to, 0, following)


def skip(services: Services, key: str, actor: str, why: str, period_no: int | None = None) -> Skipped:
    """Let one period pass without a charge, the next one unless its number is given; answers which.

    With a number the same said twice skips one period, so whoever may send it twice gives it.
    """
    now = services.clock.now()
    with services.act(key) as db:
        admitted = admit(services, db, key, Verb.SKIP, now)
        row, plan = admitted.row, plans.by_id(db, admitted.row["plan_id"])
        following = max(row["skip_to"] or 0, row["next_period_no"])
        skipped = following if period_no is None else period_no
        if not row["next_period_no"] <= skipped <= following:
            raise CannotAdjust(f"period {skipped} of subscription {key} is not the next one, {following}")
        if skipped == following:
            if skipped - row["next_period_no"] >= MOST_SKIPPED:
                raise CannotAdjust(
                    f"{MOST_SKIPPED} periods of subscription {key} are skipped already; pause it instead"
                )
            row["skip_to"] = skipped + 1
            _write(db, row, plan, "skip", now)
            notes.record(db, actor, "skip", key, why, now, period_no=skipped)
        day, price = _cursor_at(row, plan, skipped).period_date, plan.plan.price
        return Skipped(skipped, day, price.amount, price.currency, _next(db, row), admitted.opened)


def move_anchor(services: Services, key: str, day: date, actor: str, why: str) -> Cursor:
    """Count the periods from another day, on which the next one begins; numbers go on, nothing is prorated."""
    now = services.clock.now()
    with services.act(key) as db:
        row = admit(services, db, key, Verb.MOVE_ANCHOR, now).row
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
        row = admit(services, db, key, Verb.MOVE_TIME, now).row
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
        row = admit(services, db, key, Verb.CHANGE_PLAN, now).row
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
        row = admit(services, db, key, Verb.CHANGE_CARD, now).row
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


def _known(db: Connection, key: str) -> Row:
    row = subscriptions.by_key(db, key, lock=True)
    return row or {"ends_at": None, "skip_to": None, "next_period_no": 0}  # admit says that it is not known


def _next(db: Connection, row: Row) -> Next:
    """The next period that is not skipped."""
    plan = plans.by_id(db, row["plan_id"])
    cursor, price = _cursor_at(row, plan, row["skip_to"] or 0), plan.plan.price
    return Next(cursor.period_no, cursor.period_date, cursor.due_at, price.amount, price.currency)


def _cursor_at(row: Row, plan: StoredPlan, number: int) -> Cursor:
    """The next period, or a later one with this number."""
    cursor = Cursor(row["next_period_no"], row["next_period_date"], row["next_due_at"])
    while cursor.period_no < number:
        cursor = advance(_own(plan, row), row["anchor"], cursor, row["anchor_no"], month_day=row["anchor_day"])
    return cursor


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
    row = subscriptions.by_key(db, key)
    return _NextCharge() if row is None else _next_charge(row, plans.by_id(db, row["plan_id"]))


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
    return _cursor_at(row, plan, row["skip_to"] or 0).due_at
