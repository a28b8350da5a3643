"""Charging: intent, last look, ask, answer; rows before calls, and no lock held during one."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, assert_never

from sqlalchemy import Connection

from schedules.charges import AttemptState, ChargeStatus
from schedules.errors import BROKEN
from schedules.identity import merchant_uid
from schedules.outcomes import NotSent, Outcome
from worker.clock import elapsed, wait
from worker.gateway.port import ChargeOrder, Gateway
from worker.points import Point, reach
from worker.store import attempts, charges, rates, switches
from worker.store.attempts import Attempt
from worker.store.charges import Charge, Obstacle, Then
from worker.workflows import dunning
from worker.workflows.closing import close, quarantine, set_aside
from worker.workflows.services import Services
from worker.workflows.settling import settle

log = logging.getLogger("again.charging")
RATE_PATIENCE = 5.0  # seconds; longer waits go back to the queue, so that the lease is for the call
HELD_BACK = timedelta(seconds=30)  # until a charge that the last look stopped is looked at again


def attempt(services: Services, charge_id: int) -> AttemptState | None:
    """Try once to collect a charge; None when it is not ours to try now."""
    reach(Point.CHARGING_BEGUN, str(charge_id))
    try:
        claimed = claim(services, charge_id)
    except BROKEN as broken:
        quarantine(services, charge_id, broken)
        return None
    return carry_out(services, claimed) if claimed is not None else None


@dataclass(frozen=True, slots=True)
class Claimed:
    """A charge and the attempt at it that is ours until its lease runs out."""

    charge: Charge
    intent: Attempt


def claim(services: Services, charge_id: int) -> Claimed | None:
    """Take the charge's attempt, or write a new one, under a lease; committed before anything is sent."""
    with services.engine.begin() as db:
        charge = charges.locked(db, charge_id)
        if charge is None or not _is_ours_to_try(services, db, charge):
            return None
        if charge.keyed_in is not None:
            set_aside(db, charge.key, "its card was typed in, and none is kept", now=services.clock.now())
            return None
        if charge.is_archived:
            # What was paid before is not seen from here, so that nothing may be begun.
            set_aside(db, charge.key, "it is owed, and yet its attempts are archived", now=services.clock.now())
            return None
        if attempts.has_paid(db, charge.id):
            set_aside(db, charge.key, "it is owed, and yet an attempt at it is paid", now=services.clock.now())
            return None
        begun = attempts.unresolved(db, charge.id)
        # What was begun is brought to an end; nothing new is begun before an older debt.
        if begun is None and dunning.gives_way(db, charge, services.clock.now()):
            return None
        intent = _take_or_begin(services, db, charge, begun[0] if begun else None)
        if intent is None:
            return None
        attempts_made = max(charge.attempts, intent.number)
        charges.change(db, charge.id, next_attempt_at=None, queued_until=None, attempts=attempts_made)
    return Claimed(charge, intent)


Ask = Callable[[Gateway, ChargeOrder, float], Outcome]


def stored_card(gateway: Gateway, order: ChargeOrder, until: float) -> Outcome:
    """Charge the card that the gateway keeps under the order's customer_uid."""
    return gateway.charge(order, until)


def carry_out(services: Services, claimed: Claimed, ask: Ask = stored_card) -> AttemptState | None:
    """Wait for the rate cap, look a last time, ask the gateway, and settle what it answers."""
    charge, intent = claimed.charge, claimed.intent
    reach(Point.CHARGING_CLAIMED, intent.merchant_uid)
    gateway = services.gateway(charge.account)
    gateway.prepare()
    obstacle = _rate_obstacle(services, charge)
    # Counted from before the last look: a worker that is frozen after it and wakes too late does not send.
    until = elapsed() + services.settings.call_deadline
    obstacle = obstacle or _last_look(services, intent)
    if obstacle is not None:
        return _hold_back(services, charge, intent, obstacle)
    reach(Point.CHARGING_LOOKED, intent.merchant_uid)
    order = ChargeOrder(charge.customer_uid, intent.merchant_uid, intent.money, charge.name)
    outcome = ask(gateway, order, until)
    reach(Point.CHARGING_ANSWERED, intent.merchant_uid)
    return settle(services, intent, AttemptState.SENDING, outcome)


def _is_ours_to_try(services: Services, db: Connection, charge: Charge) -> bool:
    due = charge.next_attempt_at is not None and charge.next_attempt_at <= services.clock.now()
    if not (charge.status.is_owed and charge.held_why is None and due):
        return False
    if charge.account not in services.gateways:
        log.error("charge %s is not sent: no credentials for account %s here", charge.key, charge.account)
        return False
    permission = switches.permission(db, charge.account)
    obstacle = permission.obstacle(services.fingerprint, services.clock)
    if obstacle is not None:
        log.warning("charge %s is not sent: %s", charge.key, obstacle)
    return obstacle is None


def _take_or_begin(
    services: Services, db: Connection, charge: Charge, unresolved: Attempt | None
) -> Attempt | None:
    now = services.clock.now()
    lease_until = now + services.settings.lease_time
    if unresolved is not None:
        # A new merchant_uid only after a definite failure: this one is sent again, or left to its worker.
        return attempts.claim(db, unresolved, now, lease_until)
    return begin_attempt(services, db, charge)


def begin_attempt(services: Services, db: Connection, charge: Charge) -> Attempt | None:
    """Write the next attempt at a charge, claimed, under a uid of its own; None when another worker was faster."""
    now = services.clock.now()
    lease_until = now + services.settings.lease_time
    number = charge.attempts + 1
    row: dict[str, Any] = {
        "charge_id": charge.id,
        "number": number,
        "merchant_uid": merchant_uid(services.settings.environment, charge.key, number),
        "state": AttemptState.SENDING.value,
        "amount": charge.money.amount,
        "currency": charge.money.currency,
        "fence": 1,
        "lease_until": lease_until,
        "sends": 1,
        "last_sent_at": now,
        "created_at": now,
        "tried_by": charge.tried_by.value if charge.tried_by else None,
    }
    return attempts.begin(db, row)


def _rate_obstacle(services: Services, charge: Charge) -> Obstacle | None:
    rate = services.account(charge.account).rate
    if rate == 0:
        return None
    with services.engine.begin() as db:
        seconds = rates.grant(db, charge.account, rate, RATE_PATIENCE)
    if seconds is None:
        cap = f"{rate:g} calls a second for account {charge.account}"
        return Obstacle(f"the cap of {cap} is used up")
    if seconds:
        wait(seconds)
    return None


def _last_look(services: Services, intent: Attempt) -> Obstacle | None:
    call_takes = timedelta(seconds=services.settings.call_deadline)
    # One statement that writes nothing needs no transaction around it.
    with services.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        sight = charges.last_look(db, intent.id)
    return sight.obstacle(intent, services.clock, call_takes, services.fingerprint)


def _hold_back(services: Services, charge: Charge, intent: Attempt, obstacle: Obstacle) -> AttemptState | None:
    """Undo a claim that was surely not sent; a charge that is over gets an end, any other is tried later."""
    log.info("%s is held back: %s", intent.merchant_uid, obstacle.why)
    now = services.clock.now()
    with services.engine.begin() as db:
        current = charges.locked(db, charge.id)
        if current is not None and current.status.is_owed and attempts.release(db, intent, now, obstacle.why):
            # What no worker can send later ends here, with the reason.
            match Then.CANCEL if charge.keyed_in else obstacle.then:
                case Then.LATER:
                    charges.change(db, charge.id, next_attempt_at=now + HELD_BACK)
                case Then.CANCEL:
                    close(db, charge.id, ChargeStatus.CANCELED, obstacle.why, now)
                case Then.PERSON:
                    charges.change(db, charge.id, next_attempt_at=now + HELD_BACK)
                    set_aside(db, charge.key, obstacle.why, now)
                case _:
                    assert_never(obstacle.then)
            return AttemptState.READY
    return settle(services, intent, AttemptState.SENDING, NotSent(obstacle.why))
