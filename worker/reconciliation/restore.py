"""Restore: a restored or moved database sends nothing until the payments since its backup are known."""

import logging
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

from schedules.errors import BROKEN
from worker.charging import prior_attempts
from worker.charging.close import quarantine
from worker.reconciliation import reconciler
from worker.renewals import open_charges
from worker.services import CANNOT_DECIDE, Services, UnusableAccount, may_decide
from worker.store.charging import charges, kill_switch
from worker.store.charging.kill_switch import Hold
from worker.store.customers import subscriptions
from worker.store.operations import leads
from worker.store.outbox import event_log
from worker.store.reconciliation import reconciliations
from worker.store.reconciliation.reconciliations import RunKind

log = logging.getLogger("again.restore")
ACTOR = "again"  # the actor that the audit names
MARGIN = timedelta(hours=1)  # margin before the newest entry: clocks differ, and a dump takes time
BATCH = 20  # charges that are looked up between two writes of the hold's progress
LEASE_SECONDS = 600.0  # longer than one batch's calls

GoingOn = Callable[[], bool]


def begin_hold(services: Services, actor: str, why: str, since: datetime | None = None) -> Hold:
    """Begin a hold: nothing is sent until all charges were looked up at the gateway since then.

    Without `since`, it starts an hour before the newest entry of the database, the time of the backup.
    """
    now = services.clock.now()
    with services.engine.begin() as db:
        known = event_log.newest(db)
        hold_from = since or (known or now) - MARGIN
        kill_switch.begin_hold(db, now, min(hold_from, now - MARGIN))
        event_log.record(
            db, actor, "hold", services.settings.environment, why, now, hold_from=hold_from.isoformat()
        )
    log.warning("on hold: nothing is sent until all since %s is known", f"{hold_from:%Y-%m-%d %H:%M:%S}Z")
    return Hold(now, hold_from, 0)


def lift_when_known(services: Services, going_on: GoingOn = lambda: True) -> str | None:
    """Continue the hold; return what it still waits for, None when there is no hold."""
    with services.engine.begin() as db:
        hold = kill_switch.hold(db)
        may_end_it = may_decide(services, db)
    if hold is None:
        return None
    if not may_end_it:
        return CANNOT_DECIDE
    holder = uuid.uuid4().hex
    with services.engine.begin() as db:
        if not leads.lead(db, holder, LEASE_SECONDS, "hold"):
            return "another process is at it"
    try:
        return _go_on(services, hold, going_on)
    finally:
        with services.engine.begin() as db:
            leads.resign(db, holder, "hold")


def _go_on(services: Services, hold: Hold, going_on: GoingOn) -> str | None:
    quiet_until = hold.since + timedelta(seconds=services.settings.quiet_time)
    if services.clock.now() < quiet_until:
        return f"payments may show late; waiting until {quiet_until:%Y-%m-%d %H:%M:%S}Z"
    # Open due periods first, so that each payment has its charge.
    open_charges.open_due(services)
    for account in services.account_names:
        try:
            services.gateway(account)
        except UnusableAccount as error:
            return str(error)
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
        worked = reconciler.work(services, run.id, going_on)
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
                if not prior_attempts.ask(services, charge_id):
                    return "the gateway does not answer"
            except BROKEN as broken:
                quarantine(services, charge_id, broken)
            cursor = charge_id
        with services.engine.begin() as db:
            kill_switch.move_hold(db, cursor)
    return "owed charges are being asked for"


def _lift(services: Services) -> str | None:
    now = services.clock.now()
    with services.engine.begin() as db:
        hold = kill_switch.hold(db)
        if hold is None:
            return None
        if charges.owed_after(db, hold.cursor, 1) or subscriptions.any_due(db, now):
            return "periods have come due; they are asked for first"
        kill_switch.end_hold(db, now)
        event_log.record(db, ACTOR, "lift-hold", services.settings.environment, "all is known", now)
    log.warning("the hold is over: charges leave again")
    return None
