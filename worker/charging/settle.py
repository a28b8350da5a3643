"""Settling: the one function that moves a charge, whatever way the answer came."""

import logging
from dataclasses import replace
from datetime import datetime
from typing import Any, assert_never

from sqlalchemy import Connection

from schedules.charging.charges import AttemptState, ChargeStatus, KeyedIn, TriedBy
from schedules.charging.outcomes import Declined, NotSent, Outcome, Paid, Refused, Unknown, Voided
from schedules.charging.unknown_outcomes import next_ask_at
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
from schedules.dunning.declines import Placed
from worker.charging import decline_rules, dunning
from worker.charging.circuit_breaker import count_refusal
from worker.charging.close import close, collected, set_aside
from worker.charging.current_card import move_to_current_card
from worker.failpoints import Failpoint, hit
from worker.services import Services
from worker.store.charging import attempts, charges
from worker.store.charging.attempts import Attempt
from worker.store.charging.charges import Charge
from worker.store.customers import customers, subscriptions

log = logging.getLogger("again.settling")


def settle(
    services: Services, attempt: Attempt, before: AttemptState, outcome: Outcome, quiet_answers: int = 0
) -> AttemptState | None:
    """Write an answer under the attempt's fence, and what follows for its charge; None when the fence moved.

    `before` is the state that the attempt was claimed in: sending by a call, unknown by asking.
    """
    now = services.clock.now()
    with services.engine.begin() as db:
        if not isinstance(outcome, Unknown):
            # It may change the subscription, or move the debt to its card: locked in the order of the verbs, so
            # that a change of card that is being written is seen.
            subscriptions.lock_of_charge(db, attempt.charge_id)
        charge = charges.locked(db, attempt.charge_id)
        if charge is None:
            raise LookupError(f"attempt {attempt.merchant_uid} has no charge")
        if isinstance(outcome, Paid) and attempts.has_paid(db, charge.id):
            outcome = Unknown(f"{outcome.imp_uid} is a second payment for one debt", mismatch=True)
        outcome = decline_rules.asked_first(outcome, before, charge.pg_provider)
        placed = decline_rules.placed(outcome, charge.pg_provider)
        values = _attempt_values(attempt, before, outcome, placed, now) | {"quiet_answers": quiet_answers}
        if not attempts.settle(db, attempt, before, outcome, now, values):
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
    log.info("%s: %s %s", attempt.merchant_uid, values["state"], values.get("reason") or "")
    return AttemptState(values["state"])


def _attempt_values(
    attempt: Attempt, before: AttemptState, outcome: Outcome, placed: Placed | None, now: datetime
) -> dict[str, Any]:
    match outcome:
        case Paid(imp_uid, _, pg_provider):
            seen: dict[str, Any] = {"imp_uid": imp_uid, "pg_provider": pg_provider, "reason": None}
            return _ended(AttemptState.PAID, now) | seen
        case Declined(reason, pg_code, imp_uid, pg_provider):
            seen = {"reason": reason, "pg_code": pg_code, "imp_uid": imp_uid, "pg_provider": pg_provider}
            # A text that decides nothing leaves the uid to be sent again; a new one could be a second charge.
            again = placed is not None and not placed.definite
            state = AttemptState.NOT_SENT if again else AttemptState.DECLINED
            return _ended(state, now) | seen | decline_rules.columns(placed)
        case Voided(reason):
            return _ended(AttemptState.DECLINED, now) | {"reason": reason}
        case Refused(reason) if before is AttemptState.SENDING and attempt.sends > 1:
            # Nothing ended the sendings before this one, so a payment of theirs may still show: the uid is kept.
            return _ended(AttemptState.NOT_SENT, now) | {"reason": reason} | decline_rules.REFUSED_AGAIN
        case Refused(reason):
            return _ended(AttemptState.REFUSED, now) | {"reason": reason}
        case NotSent(reason):
            return _ended(AttemptState.NOT_SENT, now) | {"reason": reason}
        case Unknown():
            return in_doubt(attempt, outcome, now)
        case _:
            assert_never(outcome)


def in_doubt(attempt: Attempt, outcome: Unknown, now: datetime) -> dict[str, Any]:
    """The columns of an attempt whose outcome is unknown: it is asked about."""
    since = attempt.unknown_since or now
    return {
        "state": AttemptState.UNKNOWN.value,
        "unknown_since": since,
        "next_ask_at": next_ask_at(since, now),
        "reason": outcome.reason,
        # One that had ended is no longer settled.
        "settled_at": None,
        "decline_class": None,
        "decline_rule": None,
    }


def _ended(state: AttemptState, now: datetime) -> dict[str, Any]:
    return {"state": state.value, "settled_at": now, "next_ask_at": None}


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
            if charge.status.is_owed and charge.keyed_in is not None:
                _end_keyed(db, answer, now)
            elif charge.status.is_owed and _is_canceled(db, charge):
                close(db, charge.id, ChargeStatus.CANCELED, "the subscription was canceled", now)
            elif charge.status.is_owed:
                _go_on(db, answer, decision, now)
        case _:
            assert_never(decision)


def _end_keyed(db: Connection, answer: dunning.Answer, now: datetime) -> None:
    """End a charge whose card was typed in: nobody can try it again."""
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


def _go_on(
    db: Connection,
    answer: dunning.Answer,
    decision: SendAgain | TryAgain | WaitForCard | GiveUp | SetAside,
    now: datetime,
) -> None:
    """Set what comes next of a debt that is still owed."""
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


def _is_canceled(db: Connection, charge: Charge) -> bool:
    return charge.subscription_id is not None and subscriptions.is_canceled(db, charge.subscription_id)
