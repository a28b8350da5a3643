"""Settle answers: write them under their attempts' fences, with what follows for their charges.

What an answer changes is decided in `schedules.dunning.settling` and `schedules.dunning.decisions`.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import assert_never

from sqlalchemy import Connection

from schedules.charging.charges import AttemptState, ChargeStatus, KeyedIn, TriedBy
from schedules.charging.outcomes import Declined, Outcome, Paid, Unknown
from schedules.dunning.decisions import (
    AskGateway,
    Collected,
    Decision,
    GiveUp,
    SendAgain,
    SetAside,
    TryAgain,
    WaitForCard,
    decide,
)
from schedules.dunning.settling import Course, Sent, after_payment, attempt_columns, believed, unpaid_course
from worker.charging import decline_rules, dunning
from worker.charging.circuit_breaker import count_refusal
from worker.charging.close import close, collected, paid_dedupe, paid_event, set_aside
from worker.charging.current_card import move_to_current_card
from worker.failpoints import Failpoint, hit
from worker.services import Services
from worker.store.charging import attempts, charges, payments
from worker.store.charging.attempts import Attempt
from worker.store.charging.payments import Payable, PlainPayment
from worker.store.customers import customers, subscriptions
from worker.store.failures import DATABASE_ERRORS, summary

log = logging.getLogger("again.settle")


@dataclass(frozen=True, slots=True)
class Answered:
    """An attempt and its outcome."""

    attempt: Attempt
    before: AttemptState  # in which it was claimed: sending by a call, unknown by a look-up
    outcome: Outcome
    quiet_answers: int = 0  # look-ups in a row, this one included, that found no payment


def settle(
    services: Services, attempt: Attempt, before: AttemptState, outcome: Outcome, quiet_answers: int = 0
) -> AttemptState | None:
    """Write one answer under its attempt's fence, and what follows for its charge; None when the fence moved.

    `before` is the state that the attempt was claimed in: sending by a call, unknown by a look-up.
    """
    return settle_one(services, Answered(attempt, before, outcome, quiet_answers))


def settle_one(services: Services, answered: Answered) -> AttemptState | None:
    """As `settle`."""
    return settle_plain(services, [answered])[0] or settle_alone(services, answered)


def settle_plain(services: Services, answered: Sequence[Answered]) -> list[AttemptState | None]:
    """Write, in one transaction, the payments that change nothing but their own charges; None for all others.

    A charge that another transaction has locked is passed over, so that the batch waits for no row. Of two answers
    for one charge the second is left.
    """
    paid = {each.attempt.charge_id: each for each in reversed(answered) if isinstance(each.outcome, Paid)}
    done: set[int] = set()
    try:
        if paid:
            done = _write_plain(services, paid)
    except DATABASE_ERRORS as error:
        # One row cannot be written, or the database failed: each is written alone, as its fence allows.
        log.warning("%d payments are written one by one: %s", len(paid), summary(error))
    written = [paid.get(each.attempt.charge_id) is each and each.attempt.id in done for each in answered]
    uids = [each.attempt.merchant_uid for each, is_written in zip(answered, written, strict=True) if is_written]
    for uid in uids:
        hit(Failpoint.SETTLING_COMMITTED, uid)
    if uids:
        log.info("paid: %s", " ".join(uids))
    return [AttemptState.PAID if is_written else None for is_written in written]


def _write_plain(services: Services, paid: Mapping[int, Answered]) -> set[int]:
    now = services.clock.now()
    with services.engine.begin() as db:
        found = payments.lock(db, list(paid))
        plain = [
            payment
            for charge_id, each in paid.items()
            if charge_id in found and (payment := _plain(each, found[charge_id], now)) is not None
        ]
        done = payments.settle(db, plain, now) if plain else set[int]()
        for payment in plain:
            if payment.attempt.id in done:
                hit(Failpoint.SETTLING_WRITTEN, payment.attempt.merchant_uid)
    return done


def _plain(answered: Answered, payable: Payable, now: datetime) -> PlainPayment | None:
    """What to write for a payment that has no further effect; None for any other."""
    attempt, before = answered.attempt, answered.before
    outcome = believed(answered.outcome, before, None, has_paid=payable.has_paid)
    then = after_payment(payable.facts, by_attempt=True)
    if not isinstance(outcome, Paid) or not then.is_plain:
        return None
    columns = attempt_columns(outcome, _sent(answered), None, now)
    event = paid_event(payable, attempt.merchant_uid, then)
    return PlainPayment(attempt, before, outcome, columns, event, paid_dedupe(payable.key))


def settle_alone(services: Services, answered: Answered) -> AttemptState | None:
    """Write one answer in a transaction of its own; None when the fence moved."""
    now = services.clock.now()
    attempt, before, outcome = answered.attempt, answered.before, answered.outcome
    with services.engine.begin() as db:
        if not isinstance(outcome, Unknown):
            # It may change the subscription, or move the debt to its card: locked in the order of the verbs, so
            # that a change of card that is being written is seen.
            subscriptions.lock_of_charge(db, attempt.charge_id)
        charge = charges.locked(db, attempt.charge_id)
        if charge is None:
            raise LookupError(f"attempt {attempt.merchant_uid} has no charge")
        has_paid = isinstance(outcome, Paid) and attempts.has_paid(db, charge.id)
        outcome = believed(outcome, before, decline_rules.placed(outcome, charge.pg_provider), has_paid=has_paid)
        placed = decline_rules.placed(outcome, charge.pg_provider)
        columns = attempt_columns(outcome, _sent(answered), placed, now)
        if not attempts.settle(db, attempt, before, outcome, now, columns):
            log.warning("%s: a stale answer (%s) is left out", attempt.merchant_uid, type(outcome).__name__)
            return None
        shop_zone = services.settings.zone
        answer = dunning.read_answer(db, charge, attempt, outcome, placed, now, shop_zone=shop_zone)
        if answer.is_surely_unpaid and (moved := move_to_current_card(db, charge, now)) != charge:
            of_old_card = replace(answer.debt, history=moved.history, planned_at=None, old_card=True)
            answer = replace(answer, charge=moved, debt=of_old_card)
        decision = decide(outcome, answer.debt, now, answer.said)
        _move_charge(db, answer, decision, now)
        if answer.tells_of_set_up:
            count_refusal(db, charge, services.settings.breaker_refusals, now)
        hit(Failpoint.SETTLING_WRITTEN, attempt.merchant_uid)
    hit(Failpoint.SETTLING_COMMITTED, attempt.merchant_uid)
    log.info("%s: %s %s", attempt.merchant_uid, columns["state"], columns.get("reason") or "")
    return AttemptState(columns["state"])


def _sent(answered: Answered) -> Sent:
    attempt = answered.attempt
    return Sent(answered.before, attempt.sends, attempt.unknown_since, answered.quiet_answers)


def _move_charge(db: Connection, answer: dunning.Answer, decision: Decision, now: datetime) -> None:
    charge = answer.charge
    match decision:
        case Collected():
            imp_uid = answer.outcome.imp_uid if isinstance(answer.outcome, Paid) else ""
            collected(db, charge, answer.attempt.merchant_uid, now, imp_uid=imp_uid)
        case AskGateway():
            pass  # the attempt's own next_ask_at is the next action
        case SetAside(why) if answer.said is None:
            set_aside(db, charge.key, why, now)
        case SendAgain() | TryAgain() | WaitForCard() | GiveUp() | SetAside():
            charges.change(db, charge.id, **dunning.counted(answer, now))
            _go_on(db, answer, decision, now)
        case _:
            assert_never(decision)


def _go_on(
    db: Connection,
    answer: dunning.Answer,
    decision: SendAgain | TryAgain | WaitForCard | GiveUp | SetAside,
    now: datetime,
) -> None:
    """Apply the decision for a charge that an attempt did not pay."""
    charge = answer.charge
    course = unpaid_course(charge.status, charge.keyed_in, is_of_canceled=charge.is_of_canceled)
    match course:
        case Course.OVER:
            pass
        case Course.ENDS_TYPED:
            _end_keyed(db, answer, now)
        case Course.ENDS_CANCELED:
            close(db, charge.id, ChargeStatus.CANCELED, "the subscription was canceled", now)
        case Course.CONTINUES:
            _follow(db, answer, decision, now)
        case _:
            assert_never(course)


def _end_keyed(db: Connection, answer: dunning.Answer, now: datetime) -> None:
    """Close a charge whose card was typed in: the card is not stored, so it cannot be tried again."""
    charge, outcome = answer.charge, answer.outcome
    if charge.keyed_in is KeyedIn.KEEP:
        customers.change_key(db, charge.billing_key_id, expires_on=None, tell_expiry_at=None)  # it is not stored
    if isinstance(outcome, Declined):
        dunning.tell_failed(db, answer, None, now, needs_card=False)
        close(db, charge.id, ChargeStatus.UNCOLLECTIBLE, outcome.reason, now)
    else:
        why = getattr(outcome, "reason", "no answer")
        close(db, charge.id, ChargeStatus.CANCELED, f"it was not charged, and no card is kept: {why}", now)
    dunning.tell_uncollectible(db, charge, now)


def _follow(
    db: Connection,
    answer: dunning.Answer,
    decision: SendAgain | TryAgain | WaitForCard | GiveUp | SetAside,
    now: datetime,
) -> None:
    """Set the next action of a debt that is still owed."""
    charge = answer.charge
    match decision:
        case SendAgain(at) if answer.said is None:
            charges.change(db, charge.id, next_attempt_at=at, waits=None)
        case SendAgain(at) | TryAgain(at):
            tried_by = TriedBy.CARD.value if answer.debt.old_card else None
            charges.change(db, charge.id, next_attempt_at=at, waits=None, tried_by=tried_by, planned_at=None)
            dunning.tell_of_decline(db, answer, at, now)
        case WaitForCard():
            dunning.wait_for_card(db, charge, now)
            dunning.tell_of_decline(db, answer, None, now)
        case GiveUp(final):
            dunning.tell_of_decline(db, answer, None, now)
            dunning.give_up(db, charge, final, now)
        case SetAside(why):
            set_aside(db, charge.key, f"{why}; `again show {charge.key}`, then `again release {charge.key}`", now)
        case _:
            assert_never(decision)
