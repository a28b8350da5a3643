"""Look up at the gateway, before a charge is sent, attempts that are missing here or ended in doubt."""

import logging
from dataclasses import replace
from datetime import datetime, timedelta
from enum import Enum

from sqlalchemy import Connection

from schedules.charging.charges import AttemptState
from schedules.charging.claiming import SENDABLE
from schedules.charging.identity import merchant_uid
from schedules.charging.outcomes import Declined, GatewayPayment, Unknown
from schedules.charging.unknown_outcomes import (
    ALERT_AFTER,
    is_settled_by,
    may_hold_money,
    next_ask_at,
    read_found,
)
from schedules.errors import BROKEN
from schedules.outbox.events import AttemptUnknown
from worker.charging import decline_rules
from worker.charging.close import quarantine, set_aside
from worker.charging.match_payments import compare
from worker.charging.payment_lists import await_turn
from worker.charging.settle import settle
from worker.gateway.port import Found
from worker.services import OtherCredentials, Services
from worker.store.charging import asked_before_sending, attempts, charges
from worker.store.charging.asked_before_sending import InDoubt
from worker.store.charging.attempts import Attempt
from worker.store.charging.charges import Charge
from worker.store.outbox import event_log

log = logging.getLogger("again.prior_attempts")
ASK_AGAIN = timedelta(seconds=30)  # until a charge whose look-up was not answered is tried again


class Answer(Enum):
    """The result of looking up a charge's earlier attempts."""

    CLEAR = "none of them may be paid, apart from what is written as paid"
    UNCLEAR = "one of them may be paid: its next look-up or a person decides"
    MISSING = "a look-up was not answered, or its answer could not be written"


def look_up(services: Services, charge_id: int) -> bool:
    """As `ask_before_sending`; a row that breaks a rule is set aside."""
    try:
        return ask_before_sending(services, charge_id)
    except BROKEN as broken:
        quarantine(services, charge_id, broken)
        return False


def ask_before_sending(services: Services, charge_id: int) -> bool:
    """Look up a charge's earlier attempts before it is sent; False, and nothing is sent, if it stays unclear."""
    answer, asked_at = _ask(services, charge_id)
    with services.engine.begin() as db:
        charge = charges.locked(db, charge_id)
        if charge is None or not charge.status.is_owed:
            return False
        if answer is Answer.CLEAR:
            charges.change(db, charge_id, asked_at=asked_at)
            return True
        log.warning("charge %s is not sent: it is unclear whether an earlier attempt is paid", charge.key)
        if attempts.is_under_way(db, charge_id):
            # That attempt decides, by its lease or its next look-up.
            charges.change(db, charge_id, next_attempt_at=None, queued_until=None)
        elif charge.next_attempt_at is not None:
            at = _ask_again_at(db, charge, services.clock.now())
            charges.change(db, charge_id, next_attempt_at=at, queued_until=None)
    return False


def _ask_again_at(db: Connection, charge: Charge, now: datetime) -> datetime:
    """When to look up again, with growing intervals while unanswered; after 24 hours an event is sent."""
    unanswered = asked_before_sending.note_unanswered(db, charge.id, now)
    if unanswered is None:
        return now + ASK_AGAIN
    if now - unanswered.since >= ALERT_AFTER:
        uid, since = unanswered.merchant_uid, unanswered.since
        log.error("%s has not been answered about since %s, and its charge is not sent", uid, since)
        alert = AttemptUnknown(charge=charge.key, merchant_uid=uid, unknown_since=since)
        event_log.enqueue_event(db, alert, f"{uid}/unanswered/{int(since.timestamp())}", now)
    return max(now + ASK_AGAIN, next_ask_at(unanswered.since, now))


def known_payments(services: Services, account: str, key: str) -> list[GatewayPayment] | None:
    """Return the gateway's payments under a charge key, attempt by attempt; None without an answer."""
    seen: list[GatewayPayment] = []
    number = 1
    while True:
        found = _found(services, account, merchant_uid(services.settings.environment, key, number))
        if not found:
            return None if found is None else seen
        seen += found
        number += 1


def ask(services: Services, charge_id: int) -> bool:
    """Look up a charge's unsent uid, the next uids until one is not found, and those that ended in doubt.

    False without an answer. An account with other credentials than the bound ones counts as one that does not
    answer.
    """
    return _ask(services, charge_id)[0] is not Answer.MISSING


def _ask(services: Services, charge_id: int) -> tuple[Answer, datetime]:
    """The answer, and its time: before the look-ups of the attempts that ended in doubt."""
    asked_at = services.clock.now()
    try:
        if not _ask_for_unwritten(services, charge_id):
            return Answer.MISSING, asked_at
        asked_at = services.clock.now()
        return _ask_in_doubt(services, charge_id), asked_at
    except OtherCredentials as error:
        log.warning("charge %d: %s", charge_id, error)
        return Answer.MISSING, asked_at


def _ask_for_unwritten(services: Services, charge_id: int) -> bool:
    """Look up what may have been sent after a backup: the unsent uid, and the next ones."""
    with services.engine.begin() as db:
        charge = charges.locked(db, charge_id)
        unsent = attempts.unresolved(db, charge_id)
    if charge is None or not charge.status.is_owed:
        return True
    waiting = unsent[0] if unsent is not None else None
    if unsent is not None and waiting is not None and unsent[1] in SENDABLE:
        found = _found(services, charge.account, waiting.merchant_uid)
        if found is None:
            return False
        # It may stay unresolved until a later uid ends it.
        if found and _settle_as_found(services, charge.account, waiting.merchant_uid, found) is Answer.MISSING:
            return False
    return _ask_for_next(services, charge, waiting)


def _ask_in_doubt(services: Services, charge_id: int) -> Answer:
    """Look up the attempts that ended in doubt, until one of them prevents the charge from being sent."""
    with services.engine.begin() as db:
        charge = charges.locked(db, charge_id)
        in_doubt = asked_before_sending.in_doubt(db, charge_id)
    if charge is None or not charge.status.is_owed:
        return Answer.CLEAR
    for ended in in_doubt:
        answer = _ask_about(services, charge, ended)
        if answer is not Answer.CLEAR:
            return answer
    return Answer.CLEAR


def _ask_about(services: Services, charge: Charge, ended: InDoubt) -> Answer:
    """Look up an attempt that ended in doubt, and settle it when it may be paid.

    Where its record is unclear, it becomes unknown. That is not possible while another attempt of the charge is
    unresolved: an unsent one is kept, and the charge is set aside.
    """
    uid = ended.merchant_uid
    found = _found(services, charge.account, uid)
    if found is None:
        return Answer.MISSING
    found = [decline_rules.read_again(payment, charge.pg_provider) for payment in found]
    if not may_hold_money(found) or is_settled_by(found, ended.imp_uid):
        return Answer.CLEAR
    log.warning("%s had ended in doubt, and the gateway has a record of it that may be a payment", uid)
    with services.engine.begin() as db:
        other = attempts.unresolved(db, charge.id)
    answer = _settle_as_found(services, charge.account, uid, found, alone=other is None)
    if answer is Answer.UNCLEAR and other is not None and other[1] in SENDABLE:
        why = f"{uid} may be paid, and {other[0].merchant_uid} is not sent: look at the gateway's record of {uid}"
        with services.engine.begin() as db:
            set_aside(db, charge.key, f"{why}; then `again release {charge.key}`", services.clock.now())
    return answer


def _ask_for_next(services: Services, charge: Charge, waiting: Attempt | None) -> bool:
    number = charge.attempts + 1
    while True:
        uid = merchant_uid(services.settings.environment, charge.key, number)
        found = _found(services, charge.account, uid)
        if found is None:
            return False
        if not found:
            return True
        if waiting is not None and not _end_before(services, waiting, uid):
            return False
        waiting = _write_as_found(services, charge, number, uid, found)
        number += 1


def _found(services: Services, account: str, uid: str) -> list[GatewayPayment] | None:
    await_turn(services, account, services.account(account).rate or None)
    answer = services.gateway(account).find_all(uid)
    if not isinstance(answer, Found):
        log.warning("the gateway does not answer about %s: %s", uid, answer.reason)
        return None
    return list(answer.payments)


def _settle_as_found(
    services: Services, account: str, uid: str, found: list[GatewayPayment], *, alone: bool = True
) -> Answer:
    """Write what the gateway knows of an attempt that the database has.

    Beside another unresolved attempt of its charge (not `alone`), one that is unclear is left as it is.
    """
    now = services.clock.now()
    with services.engine.begin() as db:
        state = attempts.state_of(db, uid)
        taken = attempts.take(db, *state, now) if state is not None else None
        if state is None or taken is None:
            return Answer.MISSING
        if not state[1].is_unresolved:
            taken = replace(taken, unknown_since=None, quiet_answers=0)  # it was not unknown until now
        asked = attempts.asked_about(taken, attempts.customer_uids_of(db, taken.charge_id))
    answer = Answer.CLEAR
    if not is_settled_by(found, taken.imp_uid):  # settling it again would count it in the ladder again
        quiet = timedelta(seconds=services.settings.quiet_time)
        verdict = read_found(found, asked, now, quiet)
        is_unclear = isinstance(verdict.outcome, Unknown)
        answer = Answer.UNCLEAR if is_unclear else Answer.CLEAR
        if alone or not is_unclear:
            settled = settle(services, taken, state[1], verdict.outcome, verdict.quiet_answers)
            if settled is None:  # another process took it, and may end before it writes the answer
                answer = Answer.MISSING
    compare(services, account, found)  # updates or ends a finding under this uid
    return answer


def _end_before(services: Services, attempt: Attempt, next_uid: str) -> bool:
    """Settle as failed an attempt whose successor was sent: it failed after the backup. False when in use."""
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
    """Write an attempt made after the backup, then settle it as the gateway knows it; None if it is there."""
    now = services.clock.now()
    sent_at = max((payment.started_at for payment in found if payment.started_at), default=now)
    row = attempts.from_gateway(charge.id, number, uid, charge.money, sent_at, now)
    # Unknown until the answer is written, so that no next uid is sent if this process is killed.
    row |= {"state": AttemptState.UNKNOWN.value, "unknown_since": now, "next_ask_at": now, "settled_at": None}
    with services.engine.begin() as db:
        written = attempts.begin(db, row, "read from the gateway")
        if written is not None:
            charges.change(db, charge.id, attempts=number)
    if written is not None:
        _settle_as_found(services, charge.account, uid, found)
    return written
