"""Closing: how a charge or a subscription comes to its end, inside the transaction of whoever ends it."""

import logging
from datetime import datetime

from sqlalchemy import Connection

from schedules.charges import ChargeStatus, SubscriptionStatus
from worker.store import attempts, charges, notes, subscriptions
from worker.workflows.services import Services

log = logging.getLogger("again.closing")


def close(db: Connection, charge_id: int, status: ChargeStatus, why: str | None, now: datetime) -> None:
    """End a charge, which the caller has locked: nothing is attempted, queued or held after this."""
    charges.change(
        db,
        charge_id,
        status=status.value,
        closed_at=now,
        closed_why=why,
        next_attempt_at=None,
        queued_until=None,
        held_why=None,
    )


def set_aside(db: Connection, charge_key: str | None, why: str, now: datetime) -> None:
    """Let a debt that is still owed wait for a person, who is told; the others go on."""
    if charge_key is None or not charges.hold(db, charge_key, why):
        return
    log.error("charge %s is set aside, a person must look: %s", charge_key, why)
    dedupe = f"{charge_key}/held/{now.isoformat()}"
    notes.owe_notice(db, "charge.held", charge_key, dedupe, {"why": why}, now)


def quarantine(services: Services, charge_id: int, broken: Exception) -> None:
    """Set a charge aside that cannot be worked on; the others go on."""
    with services.engine.begin() as db:
        why = f"its row breaks a rule: {broken}"
        set_aside(db, charges.key_of(db, charge_id), why, now=services.clock.now())


def cancel_subscription(db: Connection, subscription_id: int, now: datetime) -> int:
    """Cancel a subscription and the charges that it still owes; answers how many.

    A charge whose attempt is under way or unclear is left to its answer: the money may have moved. If it has
    not, settling sees the cancelled subscription and ends the charge there.
    """
    subscriptions.change(db, subscription_id, status=SubscriptionStatus.CANCELED.value, open_at=None, ends_at=now)
    canceled = 0
    for row in charges.of_subscription(db, subscription_id, owed_only=True):
        if attempts.is_under_way(db, row["id"]):
            continue
        close(db, row["id"], ChargeStatus.CANCELED, "the subscription was canceled", now)
        canceled += 1
    return canceled
