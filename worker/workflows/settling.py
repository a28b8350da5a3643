"""Settling: the one function that moves a charge, whatever way the answer came."""

import logging
from datetime import datetime
from typing import Any, assert_never

from sqlalchemy import Connection

from schedules.asking import next_ask_at
from schedules.charges import AttemptState, ChargeStatus
from schedules.dunning import (
    AskGateway,
    Collected,
    Decision,
    FinalAction,
    GiveUp,
    SendAgain,
    SetAside,
    TryAgain,
    decide,
)
from schedules.outcomes import Declined, NotSent, Outcome, Paid, Refused, Unknown, Voided
from worker.points import Point, reach
from worker.store import attempts, charges, notes, subscriptions
from worker.store.attempts import Attempt
from worker.store.charges import Charge
from worker.workflows import classing
from worker.workflows.breaking import count_refusal
from worker.workflows.closing import cancel_subscription, close, set_aside
from worker.workflows.services import Services

log = logging.getLogger("again.settling")


def settle(
    services: Services, attempt: Attempt, before: AttemptState, outcome: Outcome, quiet_answers: int = 0
) -> AttemptState | None:
    """Write an answer under the attempt's fence, and what follows for its charge; None when the fence moved.

    `before` is the state that the attempt was claimed in: sending by a call, unknown by asking.
    """
    now = services.clock.now()
    with services.engine.begin() as db:
        if isinstance(outcome, Declined):
            # It may be the last, and cancel the subscription: locked in the order of a person's verbs.
            subscriptions.lock_of_charge(db, attempt.charge_id)
        charge = charges.locked(db, attempt.charge_id)
        if charge is None:
            raise LookupError(f"attempt {attempt.merchant_uid} has no charge")
        if isinstance(outcome, Paid) and attempts.has_paid(db, charge.id):
            outcome = Unknown(f"{outcome.imp_uid} is a second payment for one debt", mismatch=True)
        values = _attempt_values(attempt, charge, outcome, now) | {"quiet_answers": quiet_answers}
        if not attempts.settle(db, attempt, before, outcome, now, values):
            log.warning("%s: a stale answer (%s) is left out", attempt.merchant_uid, type(outcome).__name__)
            return None
        decision = decide(outcome, charge.history, charge.policy, attempt.merchant_uid, now)
        _move_charge(db, charge, attempt, outcome, decision, now)
        if isinstance(outcome, Refused):
            count_refusal(db, charge.account, services.settings.breaker_refusals, now)
        reach(Point.SETTLING_WRITTEN, attempt.merchant_uid)
    reach(Point.SETTLING_COMMITTED, attempt.merchant_uid)
    log.info("%s: %s %s", attempt.merchant_uid, values["state"], values.get("reason") or "")
    return AttemptState(values["state"])


def _attempt_values(attempt: Attempt, charge: Charge, outcome: Outcome, now: datetime) -> dict[str, Any]:
    match outcome:
        case Paid(imp_uid, _, pg_provider):
            seen: dict[str, Any] = {"imp_uid": imp_uid, "pg_provider": pg_provider, "reason": None}
            return _ended(AttemptState.PAID, now) | seen
        case Declined(reason, pg_code, imp_uid, pg_provider):
            seen = {"reason": reason, "pg_code": pg_code, "imp_uid": imp_uid, "pg_provider": pg_provider}
            return (
                _ended(AttemptState.DECLINED, now)
                | seen
                | classing.columns(reason, pg_provider or charge.pg_provider)
            )
        case Voided(reason):
            return _ended(AttemptState.DECLINED, now) | {"reason": reason}
        case Refused(reason):
            return _ended(AttemptState.REFUSED, now) | {"reason": reason}
        case NotSent(reason):
            return _ended(AttemptState.NOT_SENT, now) | {"reason": reason}
        case Unknown(reason):
            since = attempt.unknown_since or now
            return {
                "state": AttemptState.UNKNOWN.value,
                "unknown_since": since,
                "next_ask_at": next_ask_at(since, now),
                "reason": reason,
            }
        case _:
            assert_never(outcome)


def _ended(state: AttemptState, now: datetime) -> dict[str, Any]:
    return {"state": state.value, "settled_at": now, "next_ask_at": None}


def _move_charge(
    db: Connection, charge: Charge, attempt: Attempt, outcome: Outcome, decision: Decision, now: datetime
) -> None:
    match decision:
        case Collected():
            _collected(db, charge, attempt, now)
        case AskGateway():
            pass  # the attempt's own next_ask_at is the next action
        case SetAside(why):
            set_aside(db, charge.key, why, now)
        case SendAgain(at):
            _again(db, charge, at, now, technical_tries=charge.history.technical_tries + 1)
        case TryAgain(at):
            _again(db, charge, at, now, **_counted(charge, outcome, now))
            _failed_notice(db, charge, attempt, outcome, at, now)
        case GiveUp(final):
            _give_up(db, charge, attempt, outcome, final, now)
        case _:
            assert_never(decision)


def _collected(db: Connection, charge: Charge, attempt: Attempt, now: datetime) -> None:
    if not charge.status.is_owed:
        log.error("charge %s was %s and is paid now by %s", charge.key, charge.status, attempt.merchant_uid)
        told = {"was": charge.status.value, "merchant_uid": attempt.merchant_uid}
        notes.owe_notice(db, "charge.paid_after_end", charge.key, f"{charge.key}/paid_after_end", told, now)
    close(db, charge.id, ChargeStatus.PAID, None, now)
    notes.owe_notice(
        db,
        "charge.paid",
        charge.key,
        f"{charge.key}/paid",
        {
            "merchant_uid": attempt.merchant_uid,
            "amount": charge.money.amount,
            "currency": charge.money.currency,
        },
        now,
    )


def _again(db: Connection, charge: Charge, at: datetime, now: datetime, **counters: Any) -> None:
    """Set the next attempt, if there is still anything to collect."""
    if not charge.status.is_owed:
        charges.change(db, charge.id, **{k: v for k, v in counters.items() if k != "status"})
        return
    if _is_canceled(db, charge):
        charges.change(db, charge.id, **counters)
        close(db, charge.id, ChargeStatus.CANCELED, "the subscription was canceled", now)
        return
    charges.change(db, charge.id, next_attempt_at=at, **counters)


def _counted(charge: Charge, outcome: Outcome, now: datetime) -> dict[str, Any]:
    if isinstance(outcome, Voided):
        return {}  # a person undid a payment; no rung is used up
    if isinstance(outcome, Refused):
        log.error("charge %s is refused, our set-up is wrong: %s", charge.key, outcome.reason)
        return {"refusals": charge.history.refusals + 1}
    return {
        "declines": charge.history.declines + 1,
        "first_declined_at": charge.history.first_declined_at or now,
        "technical_tries": 0,
        "status": ChargeStatus.PAST_DUE.value,
    }


def _give_up(
    db: Connection, charge: Charge, attempt: Attempt, outcome: Outcome, final: FinalAction, now: datetime
) -> None:
    _again(db, charge, now, now, **_counted(charge, outcome, now))
    if charge.status.is_owed and charge.held_why is None and not _is_canceled(db, charge):
        close(db, charge.id, ChargeStatus.UNCOLLECTIBLE, "the ladder has ended", now)
        if final is FinalAction.CANCEL and charge.subscription_id is not None:
            cancel_subscription(db, charge.subscription_id, now)
    _failed_notice(db, charge, attempt, outcome, None, now)


def _is_canceled(db: Connection, charge: Charge) -> bool:
    return charge.subscription_id is not None and subscriptions.is_canceled(db, charge.subscription_id)


def _failed_notice(
    db: Connection, charge: Charge, attempt: Attempt, outcome: Outcome, at: datetime | None, now: datetime
) -> None:
    if not (isinstance(outcome, Declined) and charge.status.is_owed):
        return
    payload = {
        "merchant_uid": attempt.merchant_uid,
        "reason": outcome.reason,
        "next_attempt_at": at.isoformat() if at else None,
    }
    notes.owe_notice(db, "charge.failed", charge.key, f"{attempt.merchant_uid}/failed", payload, now)
