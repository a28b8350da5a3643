"""Change a running subscription from its next period on: pause, skip, anchor, time, plan, card."""

from dataclasses import replace
from datetime import date, datetime, time

from sqlalchemy import Connection

from schedules.calendar.periods import kept_month_day
from schedules.errors import Code
from schedules.masking import named_card
from schedules.outbox.events import in_json
from schedules.subscriptions.cursor import first_cursor
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
    announce_at,
    cursor_at,
    enqueue_changed,
    goes_on,
    next_if_on,
    next_of,
    own_plan,
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
from worker.store.customers.subscriptions import Subscription, SubscriptionColumns
from worker.store.outbox import event_log

MOST_SKIPPED = 12  # periods at once; more is a pause


def pause(services: Services, key: str, actor: str, why: str) -> Paused:
    """Open no further period until the subscription is resumed; open debts are still collected."""
    now = services.clock.now()
    with services.act(key) as db:
        admitted = admit(services, db, key, Verb.PAUSE, now)
        not_charged = next_of(db, admitted.row)
        pause_subscription(db, admitted.row.id, why, now)
        stops = {"period_no": not_charged.period_no, "due_at": in_json(not_charged.due_at)}
        event_log.record(db, actor, "pause", key, why, now, **stops)
    return Paused(admitted.opened, not_charged)


def resume(services: Services, key: str, actor: str, why: str) -> Resumed:
    """Continue with the next period; each period of the pause gets a charge that is waived."""
    now = services.clock.now()
    with services.act(key) as db:
        row = admit(services, db, key, Verb.RESUME, now).row
        passed = resume_subscription(db, row.id, why, now)
        event_log.record(db, actor, "resume", key, why, now, not_charged=len(passed))
        resumed = subscriptions.by_key(db, key)
        return Resumed(passed, None if resumed is None else next_if_on(db, resumed))


def undo(services: Services, key: str, actor: str, why: str, what: Undoable | None = None) -> Undone:
    """Undo a planned end or a skip. `what` is required when the subscription has both.

    Undoing an end restarts the ladders that it stopped, with the usual waits between attempts.
    """
    now = services.clock.now()
    with services.act(key) as db:
        before = subscriptions.by_key(db, key, lock=True)  # `admit` raises the error of an unknown key
        ends = before is not None and before.ends_at is not None
        both = ends and before is not None and (before.skip_to or 0) > before.next_period_no
        if what is None and both:
            raise CannotAdjust(
                Code.CONFLICT, f"subscription {key} ends, and skips a period; say which to undo: end or skip"
            )
        what = what or (Undoable.END if ends else Undoable.SKIP)
        verb = Verb.UNDO_END if what is Undoable.END else Verb.UNDO_SKIP
        admitted, tried = admit(services, db, key, verb, now), 0
        row = admitted.row
        ended_at, skip_to = row.ends_at, row.skip_to
        if what is Undoable.END:
            _refuse_second(db, row, row.code, "goes on")
            row = replace(row, ends_at=None)
        else:
            row = replace(row, skip_to=None)
        write(db, row, plans.by_id(db, row.plan_id), "undo", now)
        if what is Undoable.END:
            tried = dunning.start_ladders(db, row.id, now)
        was = in_json(ended_at if what is Undoable.END else skip_to)
        event_log.record(db, actor, "undo", key, why, now, undone=what.value, was=was, tried=tried)
        following = next_if_on(db, row)
    if what is Undoable.END:
        return Undone(what, ended_at, None, tried, following, admitted.opened)
    return Undone(what, None, skip_to, 0, following, admitted.opened)


def skip(services: Services, key: str, actor: str, why: str, period_no: int | None = None) -> Skipped:
    """Let one period pass without a charge: `period_no`, or the next one that is not skipped.

    With `period_no`, a repeated call skips the same period once. Without it, each call skips one more.
    """
    now = services.clock.now()
    with services.act(key) as db:
        admitted = admit(services, db, key, Verb.SKIP, now)
        row, plan = admitted.row, plans.by_id(db, admitted.row.plan_id)
        following = max(row.skip_to or 0, row.next_period_no)
        skipped = following if period_no is None else period_no
        if not row.next_period_no <= skipped <= following:
            raise CannotAdjust(
                Code.CONFLICT, f"period {skipped} of subscription {key} is not the next one, {following}"
            )
        if skipped == following:
            if skipped - row.next_period_no >= MOST_SKIPPED:
                raise CannotAdjust(
                    Code.LIMIT,
                    f"{MOST_SKIPPED} periods of subscription {key} are skipped already; pause it instead",
                )
            row = replace(row, skip_to=skipped + 1)
            write(db, row, plan, "skip", now)
            due = in_json(cursor_at(row, plan, skipped).due_at)
            event_log.record(db, actor, "skip", key, why, now, period_no=skipped, due_at=due)
        at, price = cursor_at(row, plan, skipped), plan.plan.price
        return Skipped(
            skipped, at.period_date, at.due_at, price.amount, price.currency, next_of(db, row), admitted.opened
        )


def move_anchor(services: Services, key: str, day: date, actor: str, why: str) -> Moved:
    """Begin the next period on another day, and count later periods from it.

    Period numbers continue; nothing is prorated. Raises CannotAdjust for a day in the past, or more than five
    years away.
    """
    now = services.clock.now()
    with services.act(key) as db:
        admitted = admit(services, db, key, Verb.MOVE_ANCHOR, now)
        row, plan = admitted.row, plans.by_id(db, admitted.row.plan_id)
        next_before, before = next_of(db, row), row.anchor
        row = replace(row, anchor=day, anchor_no=row.next_period_no, anchor_day=None)
        cursor = first_cursor(own_plan(plan, row), day, None, row.anchor_no)
        if not now < cursor.due_at < now + LATEST_ANCHOR:
            raise CannotAdjust(
                Code.INVALID,
                f"anchor {day} would charge subscription {key} at {cursor.due_at:%Y-%m-%d %H:%M}Z; "
                "give a day that comes, within five years",
            )
        row = row.at(cursor)
        write(db, row, plan, "anchor", now)
        event_log.record(db, actor, "move-anchor", key, why, now, before=str(before), after=str(day))
        return Moved(next_of(db, row), next_before, admitted.opened)


def move_time(services: Services, key: str, at: time | None, actor: str, why: str) -> Moved:
    """Bill at another time of day than the plan; None restores the time of the plan."""
    now = services.clock.now()
    with services.act(key) as db:
        admitted = admit(services, db, key, Verb.MOVE_TIME, now)
        row, plan = admitted.row, plans.by_id(db, admitted.row.plan_id)
        next_before, before = next_of(db, row), row.billing_time
        row = replace(row, billing_time=at)
        own = own_plan(plan, row)  # raises for a time that is not a wall time in whole minutes
        row = replace(row, next_due_at=due_at(own, row.next_period_date))
        write(db, row, plan, "time", now)
        event_log.record(db, actor, "move-time", key, why, now, before=str(before), after=str(at))
        return Moved(next_of(db, row), next_before, admitted.opened)


def change_plan(
    services: Services, key: str, code: str, actor: str, why: str, *, another: bool = False,
    other_currency: bool = False,
) -> PlanChange:  # fmt: skip
    """Charge by the newest version of a plan from the next period on; nothing is prorated.

    With the same cadence the dates stay. With another cadence the next date stays, later dates count from it, and
    the day of the month of the anchor is kept. Raises CannotAdjust when the customer has another subscription to
    the plan and `another` is not set, and when the currency changes and `other_currency` is not set.
    """
    now = services.clock.now()
    with services.act(key) as db:
        admitted = admit(services, db, key, Verb.CHANGE_PLAN, now)
        row, next_before = admitted.row, next_of(db, admitted.row)
        plan, before = plan_on_sale(db, code), plans.by_id(db, row.plan_id)
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
            row = replace(row, another=True)
        elif code != before.plan.code:
            _refuse_second(db, replace(row, another=False), code, "changes its plan")
        row = _moved_to(plan, before, row)
        write(db, row, plan, "plan", now)
        words = {"before": f"{before.plan.code}/{before.plan.version}", "after": f"{code}/{plan.plan.version}"}
        prices = {"price_before": str(before.plan.price), "price_after": str(plan.plan.price)}
        dates = {"anchor_before": str(admitted.row.anchor), "anchor_after": str(row.anchor)}
        event_log.record(db, actor, "change-plan", key, why, now, **words, **prices, **dates)
        return PlanChange(next_of(db, row), next_before, before.plan, plan.plan, admitted.opened)


def _refuse_second(db: Connection, row: Subscription, code: str, act: str) -> None:
    """Raise CannotAdjust when the customer has another subscription to the plan, unless `another` is set."""
    if row.another:
        return
    wanted = Wanted(customer_id=row.customer_id, plan=code, starts_at=row.next_due_at, but=row.id)
    rival = why_not(db, wanted)
    if rival is not None:
        raise CannotAdjust(Code.CONFLICT, f"subscription {row.key} {act} only alone: its customer {rival}")


def change_card(services: Services, key: str, customer_uid: str, actor: str, why: str) -> CardChange:
    """Charge another card of the same customer from now on; open debts move to it and are tried at once.

    A debt with an attempt under way or unknown moves when that attempt ends unpaid. A debt of another gateway
    account keeps its card.
    """
    now = services.clock.now()
    with services.act(key) as db:
        admitted = admit(services, db, key, Verb.CHANGE_CARD, now)
        row = admitted.row
        card = _other_card(db, row, customer_uid)
        before, row = row.customer_uid, replace(row, customer_uid=customer_uid)
        plan = plans.by_id(db, row.plan_id)
        columns: SubscriptionColumns = {"billing_key_id": card.id}
        if goes_on(row):
            columns["tell_at"] = announce_at(row, plan)
        subscriptions.change(db, row.id, **columns)
        following = next_if_on(db, row)
        enqueue_changed(db, row, plan, "card", now, following)
        open_charges = [charges.locked(db, owed.id) for owed in charges.lock_owed_of(db, row.id)]
        debts = tuple(_move_debt(db, charge, card, now) for charge in open_charges if charge is not None)
        change = CardChange(debts, following, admitted.opened)
        tried = change.counts[Became.TRIED]
        shown = {"card_before": _shown(db, admitted.row.billing_key_id), "card_after": _shown(db, card.id)}
        event_log.record(db, actor, "change-card", key, why, now, before=before, after=customer_uid, tried=tried,
                     **shown)  # fmt: skip
    return change


def _shown(db: Connection, key_id: int) -> str | None:
    """A card as the audit names it: issuer and last four digits."""
    facts = customers.card_facts(db, key_id)
    return named_card(facts.card_name, facts.card_number)


def _move_debt(db: Connection, charge: Charge, card: StoredKey, now: datetime) -> MovedDebt:
    """Move a debt that the caller has locked to the new card of its subscription, and try it at once."""
    if charge.account != card.account:
        became = Became.LEFT
    elif attempts.is_under_way(db, charge.id):
        became = Became.UNDER_WAY
    else:
        move(db, charge, card.id, now)
        became = Became.TRIED if try_at_once(db, charge, now, is_new=True) else Became.MOVED
    money = charge.money
    return MovedDebt(charge.key, charge.due_at, money.amount, money.currency, became)


def _other_card(db: Connection, row: Subscription, customer_uid: str) -> StoredKey:
    """The card with this customer_uid, which must be another one of the subscription's customer."""
    card = customers.key_by_uid(db, customer_uid)
    if card is None or card.deleted_at is not None:
        raise CannotAdjust(Code.NOT_FOUND, f"customer_uid {customer_uid!r} is not known, or was deleted")
    if card.customer_id != row.customer_id:
        raise CannotAdjust(
            Code.CONFLICT,
            f"customer_uid {customer_uid!r} is another customer's; "
            f"`again customer add {customer_uid} --of {row.customer_uid}` makes it this one's",
        )
    if card.id == row.billing_key_id:
        raise CannotAdjust(Code.ALREADY_DONE, f"subscription {row.key} is charged to {customer_uid!r} already")
    return card


def _moved_to(plan: StoredPlan, before: StoredPlan, row: Subscription) -> Subscription:
    """Return a subscription on another plan; the next period has the same number and, if possible, date."""
    own, number, day = own_plan(plan, row), row.next_period_no, row.next_period_date
    row = replace(row, plan_id=plan.id)
    if plan.plan.cadence == before.plan.cadence:
        return replace(row, next_due_at=due_at(own, day))
    month_day = kept_month_day(
        row.anchor, row.anchor_day, before.plan.cadence, day, is_new=number == row.anchor_no
    )
    row = replace(row, anchor=day, anchor_no=number, anchor_day=month_day)
    return row.at(first_cursor(own, day, None, number, month_day=month_day))
