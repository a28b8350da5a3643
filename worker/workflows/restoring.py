"""Restoring: a database that was put back, or moved, sends nothing until all that it may have missed is known."""

import logging
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

from schedules.asking import read_found
from schedules.errors import BROKEN
from schedules.identity import merchant_uid
from schedules.outcomes import Declined, GatewayPayment
from worker.gateway.port import Found
from worker.store import attempts, beats, charges, notes, reconciliations, subscriptions, switches
from worker.store.attempts import Attempt
from worker.store.charges import Charge
from worker.store.reconciliations import RunKind
from worker.store.switches import Hold
from worker.workflows import opening, reconciling
from worker.workflows.closing import quarantine
from worker.workflows.services import Services, clock_is_right
from worker.workflows.settling import settle
from worker.workflows.windows import await_turn

log = logging.getLogger("again.restoring")
KEEPER = "again"  # the actor that the audit names
MARGIN = timedelta(hours=1)  # before the newest thing in the books: clocks differ, and a dump takes its time
BATCH = 20  # charges asked for between two notes of how far the hold has come
LEASE_SECONDS = 600.0  # far above one batch's calls

GoingOn = Callable[[], bool]


def begin_hold(services: Services, actor: str, why: str, since: datetime | None = None) -> Hold:
    """Let nothing be sent from this database until the gateway was asked for all since then.

    Without `since`, it is an hour before the newest thing that these books know: the backup's own time.
    """
    now = services.clock.now()
    with services.engine.begin() as db:
        known = notes.newest(db)
        hold_from = since or (known or now) - MARGIN
        switches.begin_hold(db, now, min(hold_from, now - MARGIN))
        notes.record(db, actor, "hold", services.settings.environment, why, now, hold_from=hold_from.isoformat())
    log.warning("on hold: nothing is sent until all since %s is known", hold_from)
    return Hold(now, hold_from, 0)


def lift_when_known(services: Services, going_on: GoingOn = lambda: True) -> str | None:
    """Go on with what the hold waits for; answers what it still waits for, None when there is no hold."""
    with services.engine.begin() as db:
        hold = switches.hold(db)
        right = clock_is_right(services, db)
    if hold is None:
        return None
    if not right:
        return "this machine's clock is wrong"
    holder = uuid.uuid4().hex
    with services.engine.begin() as db:
        if not beats.lead(db, holder, LEASE_SECONDS, "hold"):
            return "another process is at it"
    try:
        return _go_on(services, hold, going_on)
    finally:
        with services.engine.begin() as db:
            beats.resign(db, holder, "hold")


def _go_on(services: Services, hold: Hold, going_on: GoingOn) -> str | None:
    quiet_until = hold.since + timedelta(seconds=services.settings.quiet_time)
    if services.clock.now() < quiet_until:
        return f"payments may show late; waiting until {quiet_until:%H:%M:%S}Z"
    # First the debts that are due, so that each payment finds its charge.
    opening.open_due(services)
    for account in services.gateways:
        if not _is_reconciled(services, account, hold, quiet_until, going_on):
            return (
                f"the gateway's list of account {account} is being compared since {hold.hold_from:%Y-%m-%d %H:%M}Z"
            )
    left = _ask_for_owed(services, hold.cursor, going_on)
    if left:
        return left
    return _lift(services)


def _is_reconciled(services: Services, account: str, hold: Hold, quiet_until: datetime, going_on: GoingOn) -> bool:
    now = services.clock.now()
    with services.engine.begin() as db:
        run = reconciliations.newest(db, account, RunKind.RESTORE)
        if run is not None and run.ended_at is None and run.started_at < quiet_until:
            reconciliations.advance(db, run, ended_at=now, words="left for a newer hold")
            run = None
        if run is None or run.started_at < quiet_until:
            run = reconciliations.begin(db, account, RunKind.RESTORE, hold.hold_from, now, now)
    if run is None:
        return False
    if run.ended_at is None:
        worked = reconciling.work(services, run.id, going_on)
        return worked is not None and worked.ended_at is not None
    return True


def _ask_for_owed(services: Services, cursor: int, going_on: GoingOn) -> str | None:
    while going_on():
        with services.engine.begin() as db:
            owed = charges.owed_after(db, cursor, BATCH)
        if not owed:
            return None
        for charge_id in owed:
            try:
                if not _ask_for(services, charge_id):
                    return "the gateway does not answer"
            except BROKEN as broken:
                quarantine(services, charge_id, broken)
            cursor = charge_id
        with services.engine.begin() as db:
            switches.move_hold(db, cursor)
    return "owed charges are being asked for"


def _ask_for(services: Services, charge_id: int) -> bool:
    """Ask for a charge's unsent uid, and then its next ones until one is not found; False without an answer."""
    with services.engine.begin() as db:
        charge = charges.locked(db, charge_id)
        unsent = attempts.unresolved(db, charge_id)
    if charge is None or not charge.status.is_owed:
        return True
    waiting = unsent[0] if unsent is not None else None
    if unsent is not None and waiting is not None and unsent[1] in attempts.SENDABLE:
        found = _found(services, charge, waiting.merchant_uid)
        if found is None:
            return False
        if found:
            _settle_as_found(services, waiting, found)  # it may stay unresolved, until a next uid ends it
    return _ask_for_next(services, charge, waiting)


def _ask_for_next(services: Services, charge: Charge, waiting: Attempt | None) -> bool:
    number = charge.attempts + 1
    while True:
        uid = merchant_uid(services.settings.environment, charge.key, number)
        found = _found(services, charge, uid)
        if found is None:
            return False
        if not found:
            return True
        if waiting is not None and not _end_before(services, waiting, uid):
            return False
        waiting = _write_as_found(services, charge, number, uid, found)
        number += 1


def _found(services: Services, charge: Charge, uid: str) -> list[GatewayPayment] | None:
    await_turn(services, charge.account, services.account(charge.account).rate or None)
    answer = services.gateway(charge.account).find_all(uid)
    if not isinstance(answer, Found):
        log.warning("the hold goes on: asking for %s: %s", uid, answer.reason)
        return None
    return list(answer.payments)


def _settle_as_found(services: Services, attempt: Attempt, found: list[GatewayPayment]) -> None:
    """Write what the gateway knows of an attempt that these books hold."""
    now = services.clock.now()
    with services.engine.begin() as db:
        state = attempts.state_of(db, attempt.merchant_uid)
        taken = attempts.take(db, *state, now) if state is not None else None
    if state is None or taken is None:
        return
    quiet = timedelta(seconds=services.settings.quiet_time)
    verdict = read_found(found, attempts.asked_about(taken), now, quiet)
    settle(services, taken, state[1], verdict.outcome, verdict.quiet_answers)


def _end_before(services: Services, attempt: Attempt, next_uid: str) -> bool:
    """End an attempt whose successor was sent: its failure came after the backup. False when it is in use."""
    with services.engine.begin() as db:
        state = attempts.state_of(db, attempt.merchant_uid)
        if state is not None and not state[1].is_unresolved:
            return True
        taken = attempts.take(db, *state, services.clock.now()) if state is not None else None
    if state is None or taken is None:
        return False
    return settle(services, taken, state[1], Declined(f"it had failed when {next_uid} was sent")) is not None


def _write_as_found(
    services: Services, charge: Charge, number: int, uid: str, found: list[GatewayPayment]
) -> Attempt | None:
    """Write an attempt that was made after the backup, settled as the gateway knows it; None if it is there."""
    now = services.clock.now()
    sent_at = max((payment.started_at for payment in found if payment.started_at), default=now)
    row = attempts.from_gateway(charge.id, number, uid, charge.money, sent_at, now)
    with services.engine.begin() as db:
        written = attempts.begin(db, row, "read from the gateway")
        if written is not None:
            charges.change(db, charge.id, attempts=number)
    if written is not None:
        _settle_as_found(services, written, found)
    return written


def _lift(services: Services) -> str | None:
    now = services.clock.now()
    with services.engine.begin() as db:
        hold = switches.hold(db)
        if hold is None:
            return None
        if charges.owed_after(db, hold.cursor, 1) or subscriptions.any_due(db, now):
            return "periods have come due; they are asked for first"
        switches.end_hold(db)
        notes.record(db, KEEPER, "lift-hold", services.settings.environment, "all is known", now)
    log.warning("the hold is over: charges leave again")
    return None
