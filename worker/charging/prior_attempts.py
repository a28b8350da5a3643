"""Ask the gateway, before a charge is sent, for attempts at it that are unknown here, or ended in doubt."""

import logging
from datetime import timedelta

from schedules.charging.charges import AttemptState
from schedules.charging.identity import merchant_uid
from schedules.charging.outcomes import Declined, GatewayPayment, Unknown
from schedules.charging.unknown_outcomes import is_settled_by, may_hold_money, read_found
from worker.charging import decline_rules
from worker.charging.match_payments import compare
from worker.charging.payment_lists import await_turn
from worker.charging.settle import settle
from worker.gateway.port import Found
from worker.services import OtherCredentials, Services
from worker.store.charging import asked_before_sending, attempts, charges
from worker.store.charging.attempts import Attempt
from worker.store.charging.charges import Charge

log = logging.getLogger("again.prior_attempts")
ASK_AGAIN = timedelta(seconds=30)  # until a charge is tried again whose earlier attempts the gateway did not tell


def ask_before_sending(services: Services, charge_id: int) -> bool:
    """Ask for a charge's earlier attempts, before it is sent; False without a clear answer: it is asked again."""
    is_answered = ask(services, charge_id)
    now = services.clock.now()
    with services.engine.begin() as db:
        charge = charges.locked(db, charge_id)
        if charge is None or not charge.status.is_owed:
            return False
        if is_answered:
            charges.change(db, charge_id, asked_at=now)
        elif charge.next_attempt_at is not None:
            log.warning("charge %s is not sent: it is unclear whether an earlier attempt is paid", charge.key)
            charges.change(db, charge_id, next_attempt_at=now + ASK_AGAIN, queued_until=None)
    return is_answered


def known_payments(services: Services, account: str, key: str) -> list[GatewayPayment] | None:
    """Every payment that the gateway has under a charge key, attempt by attempt; None without an answer."""
    seen: list[GatewayPayment] = []
    number = 1
    while True:
        found = _found(services, account, merchant_uid(services.settings.environment, key, number))
        if not found:
            return None if found is None else seen
        seen += found
        number += 1


def ask(services: Services, charge_id: int) -> bool:
    """Ask for a charge's uids whose end is in doubt, its unsent one, and its next ones until one is not found.

    False without a clear answer. An account with other credentials than the bound ones counts as one that does
    not answer.
    """
    try:
        return _ask(services, charge_id)
    except OtherCredentials as error:
        log.warning("charge %d: %s", charge_id, error)
        return False


def _ask(services: Services, charge_id: int) -> bool:
    with services.engine.begin() as db:
        charge = charges.locked(db, charge_id)
        unsent = attempts.unresolved(db, charge_id)
        in_doubt = asked_before_sending.unrecorded(db, charge_id)
    if charge is None or not charge.status.is_owed:
        return True
    waiting = unsent[0] if unsent is not None else None
    if not all(_is_clear(services, charge, uid, alone=waiting is None) for uid in in_doubt):
        return False
    if unsent is not None and waiting is not None and unsent[1] in attempts.SENDABLE:
        found = _found(services, charge.account, waiting.merchant_uid)
        if found is None:
            return False
        # It may stay unresolved, until a next uid ends it.
        if found and not _settle_as_found(services, charge.account, waiting.merchant_uid, found):
            return False
    return _ask_for_next(services, charge, waiting)


def _is_clear(services: Services, charge: Charge, uid: str, *, alone: bool) -> bool:
    """Ask about an attempt that ended in doubt, and settle it where it may be paid; False when it stays unclear.

    It becomes unknown where its record is unclear, unless another attempt of the charge is unresolved (`alone`).
    """
    found = _found(services, charge.account, uid)
    if found is None:
        return False
    found = [decline_rules.read_again(payment, charge.pg_provider) for payment in found]
    if not may_hold_money(found):
        return True
    log.warning("%s had ended without a record of it, and the gateway has one now", uid)
    return _settle_as_found(services, charge.account, uid, found, alone=alone)


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
) -> bool:
    """Write what the gateway knows of an attempt that these books hold; False when it could not be written.

    Beside an unresolved attempt of its charge (not `alone`), one that is unclear is left as it is.
    """
    now = services.clock.now()
    with services.engine.begin() as db:
        state = attempts.state_of(db, uid)
        taken = attempts.take(db, *state, now) if state is not None else None
        if state is None or taken is None:
            return False
        asked = attempts.asked_about(taken, attempts.customer_uids_of(db, taken.charge_id))
    is_written = True
    if not is_settled_by(found, taken.imp_uid):  # each time that it is asked for, the ladder would count it again
        quiet = timedelta(seconds=services.settings.quiet_time)
        verdict = read_found(found, asked, now, quiet)
        is_written = alone or not isinstance(verdict.outcome, Unknown)
        if is_written:
            settled = settle(services, taken, state[1], verdict.outcome, verdict.quiet_answers)
            is_written = settled is not None  # else another process took it, and may end before it writes
    compare(services, account, found)  # a finding under this uid ends, or becomes what it is now
    return is_written


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
    """Write an attempt made after the backup, then settle it as the gateway knows it; None if it is there."""
    now = services.clock.now()
    sent_at = max((payment.started_at for payment in found if payment.started_at), default=now)
    row = attempts.from_gateway(charge.id, number, uid, charge.money, sent_at, now)
    # Until the answer is written, it holds the next uid back: this process may be killed meanwhile.
    row |= {"state": AttemptState.UNKNOWN.value, "unknown_since": now, "next_ask_at": now, "settled_at": None}
    with services.engine.begin() as db:
        written = attempts.begin(db, row, "read from the gateway")
        if written is not None:
            charges.change(db, charge.id, attempts=number)
    if written is not None:
        _settle_as_found(services, charge.account, uid, found)
    return written
