"""Adjusting: what a person changes about a running subscription, from its next period on and never before."""

from datetime import date, datetime, time
from typing import Any

from sqlalchemy import Connection

from schedules.calendar.periods import kept_month_day
from schedules.errors import Code
from schedules.subscriptions.cursor import Cursor, first_cursor
from schedules.subscriptions.plans import due_at
from schedules.subscriptions.verbs import Verb
from worker.charging import dunning
from worker.charging.close import pause_subscription, resume_subscription
from worker.charging.current_card import move
from worker.customers.adjustments import (
    Became,
    CardChange,
    Moved,
    MovedDebt,
    Paused,
    PlanChange,
    Resumed,
    Skipped,
    Undoable,
    Undone,
)
from worker.customers.admit import CannotAdjust, admit
from worker.customers.cards import try_at_once
from worker.customers.enrollment import LATEST_ANCHOR, plan_on_sale
from worker.customers.next_charges import (
    cursor_at,
    goes_on,
    next_if_on,
    next_of,
    own_plan,
    tell_changed,
    told_at,
    write,
)
from worker.renewals.one_per_plan import why_not
from worker.services import Services
from worker.store.charging import attempts, charges
from worker.store.charging.charges import Charge
from worker.store.customers import customers, plans, subscriptions
from worker.store.customers.customers import StoredKey
from worker.store.customers.plans import StoredPlan
from worker.store.customers.rival_subscriptions import Wanted
from worker.store.outbox import event_log

Row = dict[str, Any]
MOST_SKIPPED = 12  # periods at once; more is a pause


def pause(services: Services, key: str, actor: str, why: str) -> Paused:
    """Open no period until it is resumed; what is owed already is still collected."""
    now = services.clock.now()
    with services.act(key) as db:
        admitted = admit(services, db, key, Verb.PAUSE, now)
        not_charged = next_of(db, admitted.row)
        pause_subscription(db, admitted.row["id"], why, now)
        event_log.record(db, actor, "pause", key, why, now)
    return Paused(admitted.opened, not_charged)


def resume(services: Services, key: str, actor: str, why: str) -> Resumed:
    """Go on with the next period that comes; each one meanwhile gets a charge that is waived."""
    now = services.clock.now()
    with services.act(key) as db:
        row = admit(services, db, key, Verb.RESUME, now).row
        passed = resume_subscription(db, row["id"], why, now)
        event_log.record(db, actor, "resume", key, why, now, not_charged=len(passed))
        resumed = subscriptions.by_key(db, key)
        return Resumed(passed, None if resumed is None else next_if_on(db, resumed))


def undo(services: Services, key: str, actor: str, why: str, what: Undoable | None = None) -> Undone:
    """Take back an end that has not come, or what is to be skipped; it must be said which when both are there.

    Debts whose ladder the end had stopped are tried again, no sooner than a ladder would.
    """
    now = services.clock.now()
    with services.act(key) as db:
        before = _known(db, key)
        both = before["ends_at"] is not None and (before["skip_to"] or 0) > before["next_period_no"]
        if what is None and both:
            raise CannotAdjust(
                Code.CONFLICT, f"subscription {key} ends, and skips a period; say which to undo: end or skip"
            )
        what = what or (Undoable.SKIP if before["ends_at"] is None else Undoable.END)
        verb = Verb.UNDO_END if what is Undoable.END else Verb.UNDO_SKIP
        admitted, tried = admit(services, db, key, verb, now), 0
        row = admitted.row
        ended_at, skip_to = row["ends_at"], row["skip_to"]
        if what is Undoable.END:
            _refuse_second(db, row, row["plan_code"], "goes on")
            row["ends_at"] = None
        else:
            row["skip_to"] = None
        write(db, row, plans.by_id(db, row["plan_id"]), "undo", now)
        if what is Undoable.END:
            tried = dunning.start_ladders(db, row["id"], now)
        event_log.record(db, actor, "undo", key, why, now, undone=what.value, tried=tried)
        following = next_if_on(db, row)
    if what is Undoable.END:
        return Undone(what, ended_at, None, tried, following, admitted.opened)
    return Undone(what, None, skip_to, 0, following, admitted.opened)


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
            raise CannotAdjust(
                Code.CONFLICT, f"period {skipped} of subscription {key} is not the next one, {following}"
            )
        if skipped == following:
            if skipped - row["next_period_no"] >= MOST_SKIPPED:
                raise CannotAdjust(
                    Code.LIMIT,
                    f"{MOST_SKIPPED} periods of subscription {key} are skipped already; pause it instead",
                )
            row["skip_to"] = skipped + 1
            write(db, row, plan, "skip", now)
            event_log.record(db, actor, "skip", key, why, now, period_no=skipped)
        at, price = cursor_at(row, plan, skipped), plan.plan.price
        return Skipped(
            skipped, at.period_date, at.due_at, price.amount, price.currency, next_of(db, row), admitted.opened
        )


def move_anchor(services: Services, key: str, day: date, actor: str, why: str) -> Moved:
    """Count the periods from another day, on which the next one begins; numbers go on, nothing is prorated."""
    now = services.clock.now()
    with services.act(key) as db:
        admitted = admit(services, db, key, Verb.MOVE_ANCHOR, now)
        row, plan = admitted.row, plans.by_id(db, admitted.row["plan_id"])
        next_before, before = next_of(db, row), row["anchor"]
        row.update(anchor=day, anchor_no=row["next_period_no"], anchor_day=None)
        cursor = first_cursor(own_plan(plan, row), day, None, row["anchor_no"])
        if not now < cursor.due_at < now + LATEST_ANCHOR:
            raise CannotAdjust(
                Code.INVALID,
                f"anchor {day} would charge subscription {key} at {cursor.due_at:%Y-%m-%d %H:%M}Z; "
                "give a day that comes, within five years",
            )
        write(db, row, plan, "anchor", now, cursor)
        event_log.record(db, actor, "move-anchor", key, why, now, before=str(before), after=str(day))
        return Moved(next_of(db, row), next_before, admitted.opened)


def move_time(services: Services, key: str, at: time | None, actor: str, why: str) -> Moved:
    """Bill it at another time of day than its plan, or at its plan's again."""
    now = services.clock.now()
    with services.act(key) as db:
        admitted = admit(services, db, key, Verb.MOVE_TIME, now)
        row, plan = admitted.row, plans.by_id(db, admitted.row["plan_id"])
        next_before, before = next_of(db, row), row["billing_time"]
        row["billing_time"], day = at, row["next_period_date"]
        own = own_plan(plan, row)  # a time that is no wall time to the minute is refused here
        cursor = Cursor(row["next_period_no"], day, due_at(own, day))
        write(db, row, plan, "time", now, cursor)
        event_log.record(db, actor, "move-time", key, why, now, before=str(before), after=str(at))
        return Moved(next_of(db, row), next_before, admitted.opened)


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
        admitted = admit(services, db, key, Verb.CHANGE_PLAN, now)
        row, next_before = admitted.row, next_of(db, admitted.row)
        plan, before = plan_on_sale(db, code), plans.by_id(db, row["plan_id"])
        if plan.id == before.id:
            raise CannotAdjust(
                Code.ALREADY_DONE, f"subscription {key} is on plan {code!r} version {plan.plan.version} already"
            )
        if plan.plan.price.currency != before.plan.price.currency and not other_currency:
            raise CannotAdjust(
                Code.CONFLICT,
                f"plan {code!r} version {plan.plan.version} costs {plan.plan.price}, subscription {key} costs "
                f"{before.plan.price}; say --other-currency to charge in another currency",
            )
        if another:
            row["another"] = True
        elif code != before.plan.code:
            _refuse_second(db, row | {"another": False}, code, "changes its plan")
        row["plan_id"] = plan.id
        cursor = _next_under(plan, before, row)
        write(db, row, plan, "plan", now, cursor)
        words = {"before": f"{before.plan.code}/{before.plan.version}", "after": f"{code}/{plan.plan.version}"}
        prices = {"price_before": str(before.plan.price), "price_after": str(plan.plan.price)}
        event_log.record(db, actor, "change-plan", key, why, now, **words, **prices)
        return PlanChange(next_of(db, row), next_before, before.plan, plan.plan, admitted.opened)


def _refuse_second(db: Connection, row: Row, code: str, act: str) -> None:
    """CannotAdjust when the customer has another subscription to the plan, unless this one was asked for so."""
    if row["another"]:
        return
    wanted = Wanted(customer_id=row["customer_id"], plan=code, starts_at=row["next_due_at"], but=row["id"])
    rival = why_not(db, wanted)
    if rival is not None:
        raise CannotAdjust(Code.CONFLICT, f"subscription {row['key']} {act} only alone: its customer {rival}")


def change_card(services: Services, key: str, customer_uid: str, actor: str, why: str) -> CardChange:
    """Charge another card of the same customer from now on; what it owes moves to that card and is tried at once.

    A debt whose attempt is under way or unclear moves when that attempt is answered unpaid. A debt of another
    gateway account keeps its card.
    """
    now = services.clock.now()
    with services.act(key) as db:
        admitted = admit(services, db, key, Verb.CHANGE_CARD, now)
        row = admitted.row
        card = _other_card(db, row, customer_uid)
        before, row["customer_uid"] = row["customer_uid"], customer_uid
        plan = plans.by_id(db, row["plan_id"])
        tell = {"tell_at": told_at(row, plan)} if goes_on(row) else {}
        subscriptions.change(db, row["id"], billing_key_id=card.id, **tell)
        following = next_if_on(db, row)
        tell_changed(db, row, plan, "card", now, following)
        owed = [charges.locked(db, each["id"]) for each in charges.of_subscription(db, row["id"], owed_only=True)]
        debts = tuple(_move_debt(db, charge, card, now) for charge in owed if charge is not None)
        change = CardChange(debts, following, admitted.opened)
        tried = change.counts[Became.TRIED]
        event_log.record(db, actor, "change-card", key, why, now, before=before, after=customer_uid, tried=tried)
    return change


def _move_debt(db: Connection, charge: Charge, card: StoredKey, now: datetime) -> MovedDebt:
    """Move a debt, which the caller has locked, to the new card of its subscription, and try it at once."""
    if charge.account != card.account:
        became = Became.LEFT
    elif attempts.is_under_way(db, charge.id):
        became = Became.UNDER_WAY
    else:
        move(db, charge, card.id, now)
        became = Became.TRIED if try_at_once(db, charge, now, is_new=True) else Became.MOVED
    money = charge.money
    return MovedDebt(charge.key, charge.due_at, money.amount, money.currency, became)


def _other_card(db: Connection, row: Row, customer_uid: str) -> StoredKey:
    """The card with this customer_uid, which must be another one of the subscription's customer."""
    card = customers.key_by_uid(db, customer_uid)
    if card is None or card.deleted_at is not None:
        raise CannotAdjust(Code.NOT_FOUND, f"customer_uid {customer_uid!r} is not known, or was deleted")
    if card.customer_id != row["customer_id"]:
        raise CannotAdjust(
            Code.CONFLICT,
            f"customer_uid {customer_uid!r} is another customer's; "
            f"`again customer add {customer_uid} --of {row['customer_uid']}` makes it this one's",
        )
    if card.id == row["billing_key_id"]:
        raise CannotAdjust(Code.ALREADY_DONE, f"subscription {row['key']} is charged to {customer_uid!r} already")
    return card


def _known(db: Connection, key: str) -> Row:
    row = subscriptions.by_key(db, key, lock=True)
    return row or {"ends_at": None, "skip_to": None, "next_period_no": 0}  # admit says that it is not known


def _next_under(plan: StoredPlan, before: StoredPlan, row: Row) -> Cursor:
    """The next period under another plan, whose number and, if it can be, whose date it keeps."""
    own, number, day = own_plan(plan, row), row["next_period_no"], row["next_period_date"]
    if plan.plan.cadence == before.plan.cadence:
        return Cursor(number, day, due_at(own, day))
    month_day = kept_month_day(
        row["anchor"], row["anchor_day"], before.plan.cadence, day, is_new=number == row["anchor_no"]
    )
    row.update(anchor=day, anchor_no=number, anchor_day=month_day)
    return first_cursor(own, day, None, number, month_day=month_day)
