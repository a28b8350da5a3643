"""Compare the gateway's payments with the database; each difference becomes a finding."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import Connection

from schedules.charging.charges import AttemptState
from schedules.charging.identity import charge_key_of, parse_merchant_uid
from schedules.charging.outcomes import GatewayPayment, Paid, PaymentState, Voided
from schedules.charging.unknown_outcomes import AskedAbout, read_found
from schedules.errors import BROKEN
from schedules.operations.findings import Discrepancy, FindingKind, FindingState, judge
from schedules.outbox.events import ChargeHeld
from schedules.outbox.payment_events import FOUND
from worker.charging.circuit_breaker import break_account
from worker.charging.close import quarantine, set_aside
from worker.charging.settle import settle
from worker.gateway.port import Found
from worker.services import Services
from worker.store.charging import attempts, charges
from worker.store.operations import archives
from worker.store.outbox import event_log
from worker.store.reconciliation import findings, reconciliations
from worker.store.reconciliation.findings import Finding
from worker.store.reconciliation.reconciliations import Debt

log = logging.getLogger("again.match_payments")
_EVER = datetime.max.replace(tzinfo=UTC)
MENDER = "again"  # ended_by of findings that were repaired


def compare(services: Services, account: str, payments: Sequence[GatewayPayment]) -> int:
    """Write a finding for each payment that differs from the database, and repair what can be repaired.

    Return how many are new. Each is written in a transaction of its own, so that one that breaks a rule
    keeps no other from being written.
    """
    # In an account for tests, test payments count as payments.
    is_real = not services.account(account).sandbox
    moved = [replace(payment, sandbox=payment.sandbox and is_real) for payment in payments if payment.was_paid]
    if not moved:
        return 0
    now = services.clock.now()
    environment = services.settings.environment
    uids = [payment.merchant_uid for payment in moved]
    with services.engine.begin() as db:
        debts = reconciliations.debts_of(db, account, environment, uids, now)
        known = findings.open_of(db, account, uids)
    fresh = 0
    for payment in moved:
        debt = debts.get(payment.merchant_uid)
        found = judge(payment, debt.side if debt else None, environment)
        if found is None and (finding := known.get((payment.merchant_uid, payment.imp_uid))):
            _end_mended(services, finding, debt)
        # The gateway cancels the payments of test channels every night.
        if found is None or (found.kind is FindingKind.REFUND_DRIFT and services.account(account).sandbox):
            continue
        try:
            fresh += _write(services, account, payment, debt, found)
        except BROKEN as broken:
            if debt is None:
                raise
            quarantine(services, debt.charge_id, broken)
        if found.kind.mends_itself:
            # The database has changed: the rest of the page is compared with its rows of now.
            with services.engine.begin() as db:
                debts = reconciliations.debts_of(db, account, environment, uids, now)
    return fresh


def _end_mended(services: Services, finding: Finding, debt: Debt | None) -> None:
    """End a finding whose difference is gone, such as a lost payment that a look-up has settled."""
    if debt is None or debt.side.under_way or finding.state is not FindingState.OPEN:
        return
    with services.engine.begin() as db:
        if _end_repaired(db, finding, "the books agree now", services.clock.now()):
            log.info("finding %d, %s: %s has become right", finding.id, finding.kind, finding.merchant_uid)
            _leave_to_person(db, finding, debt, services.clock.now())


def end_paid(services: Services, account: str) -> None:
    """End the findings of payments that were missing in the database and are there now.

    After a restore or a failover a charge can be opened and sent again after its payment was found: the gateway
    answers that its uid is paid, and no later list shows the payment.
    """
    with services.engine.begin() as db:
        ended = findings.end_paid(db, account, services.clock.now(), MENDER)
    for number in ended:
        log.info("finding %d has become right: its attempt is paid", number)


def _leave_to_person(db: Connection, finding: Finding, debt: Debt, now: datetime) -> None:
    """Send an event for a debt that is still held by a finding which ended without a payment."""
    held_why = charges.held_why(db, debt.charge_key) or ""
    if not held_why.startswith(_held_by(finding)) or findings.open_for(db, debt.charge_key, but=finding.id):
        return
    why = f"finding {finding.id} has ended, and {finding.merchant_uid} pays nothing; see `again release`"
    set_aside(db, debt.charge_key, why, now, instead_of=held_why)


def _held_by(finding: Finding) -> str:
    return f"finding {finding.id}: "


def _again(finding: Finding) -> str:
    """Distinguishes the holds of a finding that was reopened: each hold has an event of its own."""
    return f" (found again, after change {finding.fence})" if finding.fence else ""


def note_ghost(services: Services, account: str, uid: str) -> bool:
    """Write a finding for a payment that the database has and the gateway lacks; return whether it is new."""
    now = services.clock.now()
    with services.engine.begin() as db:
        debt = reconciliations.debts_of(db, account, services.settings.environment, [uid], now).get(uid)
        if debt is None or debt.side.paid_uid != uid:
            return False
        money, imp_uid = debt.side.money, debt.side.attempt_imp_uid or ""
        absent = GatewayPayment.of(uid, imp_uid, PaymentState.OTHER, money)
        found = Discrepancy(
            FindingKind.GHOST, f"our books call it paid by {imp_uid}, and the gateway has no such payment"
        )
        archives.bring_back(db, debt.charge_id)
        finding, is_new = findings.note(db, account, absent, debt.charge_key, found, now)
        if is_new:
            _tell(services, db, finding, now)
    return is_new


def _write(
    services: Services, account: str, payment: GatewayPayment, debt: Debt | None, found: Discrepancy
) -> bool:
    now, environment = services.clock.now(), services.settings.environment
    with services.engine.begin() as db:
        if debt is not None:
            archives.bring_back(db, debt.charge_id)  # a charge with an open finding is not archived
        charge_key = debt.charge_key if debt else charge_key_of(payment.merchant_uid, environment)
        finding, is_new = findings.note(db, account, payment, charge_key, found, now)
        if is_new and not (found.kind.mends_itself and debt):
            _tell(services, db, finding, now)
        if not found.kind.mends_itself:
            findings.end_mendable(db, finding, now, MENDER)
        if debt is not None and found.kind.mends_itself:
            # Nothing may be sent for this debt until it is repaired; a payment lifts the hold.
            charges.hold(db, debt.charge_key, _held_by(finding) + finding.words + _again(finding))
    if debt is not None and finding.kind.mends_itself and finding.state is FindingState.OPEN:
        try:
            _mend(services, finding, debt)
        except BROKEN as broken:
            log.exception("charge %s: finding %d is not repaired: its row breaks a rule", charge_key, finding.id)
            _tell_if_held(services, finding, debt, f"; its row breaks a rule: {broken}")
            raise
        _tell_if_held(services, finding, debt)
    return is_new


def _tell_if_held(services: Services, finding: Finding, debt: Debt, also: str = "") -> None:
    """Send the event of a hold that the finding has set and that its repair did not lift, once."""
    with services.engine.begin() as db:
        held_why = charges.held_why(db, debt.charge_key)
        if held_why is None or not held_why.startswith(_held_by(finding)):
            return
        if also and also not in held_why:
            held_why += also
            charges.change(db, debt.charge_id, held_why=held_why)
        held = ChargeHeld(charge=debt.charge_key, why=held_why)
        event_log.enqueue_event(
            db, held, f"{debt.charge_key}/held/finding {finding.id}{_again(finding)}", services.clock.now()
        )


def _tell(services: Services, db: Connection, finding: Finding, now: datetime) -> None:
    """Page a person, keep the debt from being tried again, and stop the account if it charges twice."""
    subject = finding.charge_key or finding.merchant_uid
    log.error("finding %d, %s: %s: %s", finding.id, finding.kind, finding.merchant_uid, finding.words)
    told = FOUND[finding.kind](
        finding=finding.id, charge=finding.charge_key, merchant_uid=finding.merchant_uid, imp_uid=finding.imp_uid,
        amount=finding.amount, currency=finding.currency, words=finding.words,
    )  # fmt: skip
    dedupe = f"{finding.account}/{finding.merchant_uid}/{finding.imp_uid}/{told.kind}/{finding.balance}"
    event_log.enqueue_event(db, told, dedupe, now)
    if finding.kind in (FindingKind.AMOUNT, FindingKind.REFUND_DRIFT):
        set_aside(db, finding.charge_key, finding.words, now)
    if finding.kind is FindingKind.DOUBLE:
        break_account(db, finding.account, f"{subject} was paid twice; see `again findings`", now)
        if services.settings.refund_doubles == "at_once":
            findings.change(db, finding, FindingState.APPROVED)


def end_second_payment(services: Services, finding: Finding) -> None:
    """Let the attempt behind a second payment end as failed, now that its money is back."""
    now = services.clock.now()
    with services.engine.begin() as db:
        state = attempts.state_of(db, finding.merchant_uid)
        if state is None or state[1] is not AttemptState.UNKNOWN:
            return  # ended already, or it is the attempt that paid the debt, whose uid was paid twice
        taken = attempts.take(db, *state, now)
    if taken is not None:
        settle(services, taken, AttemptState.UNKNOWN, Voided("a second payment for one debt, given back"))
    with services.engine.begin() as db:
        charge = charges.locked_by_key(db, finding.charge_key)
        if charge is not None and not charge.status.is_owed:
            charges.change(db, charge.id, held_why=None)


def _mend(services: Services, finding: Finding, debt: Debt) -> None:
    """Settle the attempt as what the gateway, asked for this uid, says that it is."""
    gateway = services.gateway_if_ours(finding.account)
    if gateway is None:
        return
    answer = gateway.find_all(finding.merchant_uid)
    if not isinstance(answer, Found):
        log.warning("%s: %s is not mended yet: %s", finding.merchant_uid, finding.kind, answer.reason)
        return
    now = services.clock.now()
    asked = AskedAbout(finding.merchant_uid, debt.side.money, debt.side.customer_uids, now, now, 0)
    outcome = read_found(_first_paid(answer.payments), asked, now).outcome
    if not isinstance(outcome, Paid):
        log.error("%s: the list says paid, asking says %s", finding.merchant_uid, outcome)
        with services.engine.begin() as db:
            _tell(services, db, finding, now)
        return
    with services.engine.begin() as db:
        taken = _take(db, finding, debt, now)
    if taken is None:
        return  # another transaction settles it; the next run sees the result
    attempt, before = taken
    if settle(services, attempt, before, outcome) is not AttemptState.PAID:
        return
    with services.engine.begin() as db:
        if _end_repaired(db, finding, "the attempt is paid now", services.clock.now()):
            log.warning("finding %d, %s: %s is mended", finding.id, finding.kind, finding.merchant_uid)
    if sum(payment.state is PaymentState.PAID for payment in answer.payments) > 1:
        compare(services, finding.account, answer.payments)  # the others are doubles now


def _end_repaired(db: Connection, finding: Finding, why: str, now: datetime) -> bool:
    state = FindingState.REPAIRED
    return findings.change(db, finding, state, ended_at=now, ended_by=MENDER, ended_why=why) is not None


def _first_paid(payments: Sequence[GatewayPayment]) -> Sequence[GatewayPayment]:
    """The payments with the earliest paid one alone: it pays the debt, and what else was paid is a double."""
    paid = [payment for payment in payments if payment.state is PaymentState.PAID]
    if len(paid) < 2:
        return payments
    first = min(paid, key=lambda payment: (payment.paid_at or _EVER, payment.imp_uid))
    return [payment for payment in payments if payment is first or payment.state is not PaymentState.PAID]


def _take(
    db: Connection, finding: Finding, debt: Debt, now: datetime
) -> tuple[attempts.Attempt, AttemptState] | None:
    if debt.attempt_id is not None and debt.side.attempt_state is not None:
        taken = attempts.take(db, debt.attempt_id, debt.side.attempt_state, now)
        return (taken, debt.side.attempt_state) if taken else None
    # These books never had the attempt: they are an older backup's. It is written as the gateway knows it.
    charge = charges.locked(db, debt.charge_id)
    if charge is None:
        return None
    number = parse_merchant_uid(finding.merchant_uid).attempt_no
    row = attempts.from_gateway(debt.charge_id, number, finding.merchant_uid, charge.money, now, now)
    written = attempts.begin(db, row, "read from the gateway")
    if written is None:
        return None
    charges.change(db, charge.id, attempts=max(charge.attempts, number))
    return written, AttemptState.DECLINED
