"""Dunning: apply to a debt, its card and its subscription what follows a decline, and send the events."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, assert_never

from sqlalchemy import Connection

from schedules.charging.charges import ChargeStatus, TriedBy
from schedules.charging.outcomes import Declined, Outcome, Paid, Refused, Unknown
from schedules.dunning.card_limits import limit_span
from schedules.dunning.decisions import LEAST_SPACING, NEEDS_CARD, NOT_THE_CARD, Counter, Debt, Said, counter
from schedules.dunning.declines import DeclineClass, Placed
from schedules.dunning.policies import CardCap, FinalAction
from schedules.dunning.standings import Overdue, next_look, usable_until
from schedules.outbox import events
from worker.charging.close import cancel_subscription, close, pause_subscription
from worker.store.charging import attempts, charges, debts, declines
from worker.store.charging.attempts import Attempt
from worker.store.charging.charges import Charge
from worker.store.charging.columns import ChargeColumns
from worker.store.customers import customers
from worker.store.outbox import event_log

log = logging.getLogger("again.dunning")
CARD_ASKED_AFTER = timedelta(days=1)  # between two look-ups of the card that a debt waits for


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to an attempt at a debt, as the rules read it."""

    charge: Charge
    attempt: Attempt
    outcome: Outcome
    debt: Debt
    said: Said | None  # of a decline

    @property
    def counter(self) -> Counter:
        """The counter that this try adds to."""
        return counter(self.outcome, self.debt, self.said)

    @property
    def is_surely_unpaid(self) -> bool:
        """Whether no money was taken by this attempt, so that another card may be charged."""
        is_definite = self.said is None or not self.said.keeps_uid
        return is_definite and not isinstance(self.outcome, Paid | Unknown)

    @property
    def is_of_card(self) -> bool:
        """Whether the card was declined, and not a call refused for our configuration or a technical fault."""
        is_ours = self.said is not None and self.said.decline_class in NOT_THE_CARD
        return self.said is not None and not is_ours and not self.debt.old_card

    @property
    def tells_of_set_up(self) -> bool:
        """Whether it says that our own configuration is wrong."""
        return isinstance(self.outcome, Refused) or self.counter is Counter.REFUSAL


def read_answer(
    db: Connection,
    charge: Charge,
    attempt: Attempt,
    outcome: Outcome,
    placed: Placed | None,
    now: datetime,
    *,
    shop_zone: str,
) -> Answer:
    """Load the facts that the rules need beside an answer, whose own attempt is already written.

    A debt without a plan is tried within the hours of the shop's zone.
    """
    debt = Debt(
        policy=charge.policy,
        history=charge.history,
        uid=attempt.merchant_uid,
        zone=charge.zone or shop_zone,
        by_person=charge.tried_by is TriedBy.PERSON and charge.history.first_declined_at is not None,
        stopped=charge.ends_at is not None,
        old_card=charge.card_changed_at is not None and attempt.last_sent_at < charge.card_changed_at,
        planned_at=charge.planned_at,
    )
    said = None
    if isinstance(outcome, Declined) and placed is not None:
        free_at = card_free_at(db, charge, now)
        said = Said(placed.decline_class, limit_span(outcome.reason), free_at, placed.definite)
    return Answer(charge, attempt, outcome, debt, said)


def card_free_at(db: Connection, charge: Charge, now: datetime) -> datetime | None:
    """When the cap of a card's declines allows the next try; None for at once."""
    return cards_free_at(db, [charge], now)[charge.id]


def cards_free_at(db: Connection, tried: Sequence[Charge], now: datetime) -> dict[int, datetime | None]:
    """As `card_free_at`, for charges each of which has another card, by their row ids."""
    caps = [(each.billing_key_id, each.policy.cap) for each in tried]
    times = declines.declined_times_of(db, [(card, now - cap.within, cap.declines) for card, cap in caps])
    return {each.id: _free_at(each.policy.cap, times[each.billing_key_id]) for each in tried}


def _free_at(cap: CardCap, times: Sequence[datetime]) -> datetime | None:
    return times[-1] + cap.within if len(times) >= cap.declines else None


def counted(answer: Answer, now: datetime) -> ChargeColumns:
    """The charge's columns after this try; each try adds to one counter alone."""
    history = answer.charge.history
    match answer.counter:
        case Counter.NOTHING:
            return {}
        case Counter.TECHNICAL:
            # What was not sent is no answer: it neither counts nor ends the row of those that say nothing.
            tries: ChargeColumns = {"technical_tries": history.technical_tries + 1}
            return tries if answer.said is None else tries | {"unanswered_tries": history.unanswered_tries + 1}
        case Counter.REFUSAL:
            log.error("charge %s is refused, our set-up is wrong", answer.charge.key)
            return {"refusals": history.refusals + 1, "unanswered_tries": 0}
        case Counter.MANUAL:
            return {"manual_tries": history.manual_tries + 1, "unanswered_tries": 0}
        case Counter.RUNG:
            moved: ChargeColumns = {"declines": history.declines + 1, "technical_tries": 0, "unanswered_tries": 0}
            if answer.charge.status.is_owed:
                moved["status"] = ChargeStatus.PAST_DUE.value
            return moved | begun(answer.charge, now)
        case _:
            assert_never(answer.counter)


def begun(charge: Charge, now: datetime) -> ChargeColumns:
    """The columns for when dunning and its ladder began, and for when the debt is checked next."""
    history = charge.history
    first, ladder = history.first_declined_at or now, history.ladder_began_at or now
    seen = replace(overdue(charge), first_declined_at=first, ladder_began_at=ladder)
    look = _look_at(charge, seen, now) if charge.status.is_owed else None
    return {"first_declined_at": first, "ladder_began_at": ladder, "look_at": look}


def _look_at(charge: Charge, seen: Overdue, now: datetime) -> datetime | None:
    """When to check a debt next; `now` if it waits and the time of its final action has passed."""
    is_overdue = seen.waits and charge.given_up is None and charge.held_why is None
    return next_look(seen, now) or (now if is_overdue else None)


def overdue(charge: Charge) -> Overdue:
    """The facts of a debt that the rules of standing read."""
    history = charge.history
    return Overdue(
        charge.policy, charge.due_at, history.first_declined_at, history.ladder_began_at, charge.waits,
        charge.given_up,
    )  # fmt: skip


def wait_for_card(db: Connection, charge: Charge, now: datetime) -> None:
    """Stop the tries with this card. The final action is taken when it is due, unless it was taken before."""
    first, ladder = charge.history.first_declined_at or now, charge.history.ladder_began_at or now
    seen = replace(overdue(charge), first_declined_at=first, ladder_began_at=ladder, waits=True)
    charges.change(
        db,
        charge.id,
        status=ChargeStatus.PAST_DUE.value,
        first_declined_at=first,
        ladder_began_at=ladder,
        waits="card",
        next_attempt_at=None,
        queued_until=None,
        tried_by=None,
        planned_at=None,
        look_at=_look_at(charge, seen, now),
    )
    customers.change_key(db, charge.billing_key_id, ask_at=now + CARD_ASKED_AFTER)


def tell_failed(
    db: Connection, answer: Answer, next_attempt_at: datetime | None, now: datetime, *, needs_card: bool
) -> None:
    """Send the event of a failed attempt, with the gateway's own text."""
    charge, said = answer.charge, answer.said
    if said is None or not isinstance(answer.outcome, Declined):
        return
    failed = events.ChargeFailed(
        charge=charge.key, subscription=charge.subscription, customer_uid=charge.customer_uid,
        merchant_uid=answer.attempt.merchant_uid, amount=charge.money.amount, currency=charge.money.currency,
        decline_class=said.decline_class.value, reason=answer.outcome.reason, next_attempt_at=next_attempt_at,
        needs_card=needs_card, request_key=charge.request_key,
    )  # fmt: skip
    # A uid whose text decided nothing is sent again, and may fail more than once.
    sending = f"/{int(answer.attempt.last_sent_at.timestamp())}" if said.keeps_uid else ""
    event_log.enqueue_event(db, failed, f"{answer.attempt.merchant_uid}/failed{sending}", now)


def tell_of_decline(db: Connection, answer: Answer, next_attempt_at: datetime | None, now: datetime) -> None:
    """Send the events of a card's decline, and stop a card that can never pay; nothing for our own faults."""
    charge, said = answer.charge, answer.said
    if said is None or not answer.is_of_card or not isinstance(answer.outcome, Declined):
        return
    needs_card = said.decline_class in NEEDS_CARD
    tell_failed(db, answer, next_attempt_at, now, needs_card=needs_card)
    tell_past_due(db, charge, now)
    if needs_card:
        customers.change_key(db, charge.billing_key_id, stopped_as=said.decline_class.value)
        uid = answer.attempt.merchant_uid
        tell_card(db, charge, said.decline_class.value, answer.outcome.reason, f"{uid}/needs_update", now)


def tell_past_due(db: Connection, charge: Charge, now: datetime) -> None:
    """Send, once for a debt, the event that its subscription is past due, with the end of its grace."""
    if charge.subscription is None:
        return
    first = charge.history.first_declined_at or now
    until = usable_until(replace(overdue(charge), first_declined_at=first))
    late = events.SubscriptionPastDue(
        subscription=charge.subscription, customer_uid=charge.customer_uid, charge=charge.key, usable_until=until
    )
    event_log.enqueue_event(db, late, f"{charge.key}/past_due", now)


def tell_card(
    db: Connection, charge: Charge, decline_class: str, reason: str | None, dedupe: str, now: datetime
) -> None:
    """Send the event that asks for another card."""
    needed = events.CardNeedsUpdate(
        customer_uid=charge.customer_uid, charge=charge.key, decline_class=decline_class, reason=reason
    )
    event_log.enqueue_event(db, needed, dedupe, now)


def give_up(db: Connection, charge: Charge, final: FinalAction, now: datetime) -> None:
    """Take the final action, once; a debt that stays owed waits for another card, or for a person."""
    if charge.held_why is not None or charge.given_up is not None:
        wait_for_card(db, charge, now)
        return
    log.info("charge %s: the ladder has ended, %s", charge.key, final)
    event_log.enqueue_event(
        db, _ended(charge, final), f"{charge.key}/ended/{charge.history.ladder_began_at or now}", now
    )
    match final:
        case FinalAction.CANCEL | FinalAction.WRITE_OFF:
            close(db, charge.id, ChargeStatus.UNCOLLECTIBLE, "the ladder has ended", now)
            if final is FinalAction.CANCEL and charge.subscription_id is not None:
                cancel_subscription(db, charge.subscription_id, "a renewal was not paid", now)
        case FinalAction.PAUSE | FinalAction.UNPAID | FinalAction.KEEP:
            charges.change(db, charge.id, given_up=final.value)
            wait_for_card(db, replace(charge, given_up=final), now)
            debts.wake_behind(db, charge.id, now)
            if final is FinalAction.PAUSE and charge.subscription_id is not None:
                pause_subscription(db, charge.subscription_id, "a renewal was not paid", now)
            elif final is FinalAction.UNPAID:
                tell_suspended(db, charge, "a renewal was not paid", now)
        case _:
            assert_never(final)


def tell_suspended(db: Connection, charge: Charge, why: str, now: datetime) -> None:
    """Send, once for a debt, the event that its subscription is no longer usable."""
    if charge.subscription is None:
        return
    suspended = events.SubscriptionSuspended(
        subscription=charge.subscription, customer_uid=charge.customer_uid, charge=charge.key, why=why
    )
    event_log.enqueue_event(db, suspended, f"{charge.key}/suspended", now)


def tell_uncollectible(db: Connection, charge: Charge, now: datetime) -> None:
    """Send the event of a debt that is given up, as at the end of the ladder."""
    event_log.enqueue_event(
        db, _ended(charge, FinalAction.WRITE_OFF), f"{charge.key}/ended/{now.isoformat()}", now
    )


def _ended(charge: Charge, final: FinalAction) -> events.Event:
    whose: dict[str, Any] = {
        "charge": charge.key, "subscription": charge.subscription, "customer_uid": charge.customer_uid,
        "amount": charge.money.amount, "currency": charge.money.currency, "request_key": charge.request_key,
    }  # fmt: skip
    if final in (FinalAction.CANCEL, FinalAction.WRITE_OFF):
        return events.ChargeUncollectible(**whose)
    return events.DunningEnded(**whose, final=final.value)


def stop_trying(db: Connection, charge: Charge, stopped: DeclineClass, now: datetime) -> None:
    """Make a debt wait for another card, because its own can never pay."""
    log.info("charge %s is not tried: its card can never pay (%s)", charge.key, stopped)
    wait_for_card(db, charge, now)
    tell_past_due(db, charge, now)
    tell_card(db, charge, stopped.value, None, f"{charge.key}/needs_update/{charge.card_changed_at}", now)


def is_stopped(charge: Charge) -> bool:
    """Whether it is not retried: it was declined, and a person has set the end of its subscription."""
    return charge.ends_at is not None and charge.history.first_declined_at is not None


def start_ladders(db: Connection, subscription_id: int, now: datetime) -> int:
    """Resume the ladders that `stop_ladders` stopped, because an end was withdrawn; return how many.

    A debt that was given up, is held, or whose card can never pay, goes on waiting. None is tried sooner after a
    decline of its card than a ladder would.
    """
    started = 0
    for owed in charges.lock_owed_of(db, subscription_id):
        charge = charges.locked(db, owed.id)
        if charge is None or not charge.waits or charge.given_up or charge.held_why or charge.card_stopped:
            continue
        last = declines.declined_times(db, charge.billing_key_id, now - LEAST_SPACING, 1)
        at = max([now, *(declined + LEAST_SPACING for declined in last)])
        look_at = next_look(replace(overdue(charge), waits=False), now)
        charges.change(db, charge.id, waits=None, next_attempt_at=at, look_at=look_at)
        started += 1
    return started


def stop_ladders(db: Connection, subscription_id: int, now: datetime) -> None:
    """Stop the ladders of a subscription's declined debts, because a person has set its end."""
    for owed in charges.lock_owed_of(db, subscription_id):
        charge = charges.locked(db, owed.id)
        stops = charge is not None and charge.history.first_declined_at is not None and charge.held_why is None
        if charge is not None and stops and not attempts.is_under_way(db, charge.id):
            wait_for_card(db, charge, now)
