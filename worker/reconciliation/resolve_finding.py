"""Resolve findings: a person closes a finding and decides what the database records."""

from enum import StrEnum

from schedules.charging.charges import AttemptState, ChargeStatus
from schedules.charging.outcomes import Paid, PaymentState, Voided
from schedules.errors import WHEN_KNOWN, Code
from schedules.money.amounts import amount_words
from schedules.operations.findings import FindingKind, FindingState
from schedules.requests.refunds import RefundRequest, RefundState
from worker.charging import late_payments
from worker.charging.settle import settle
from worker.gateway.port import Found, code_of
from worker.operations.operate import CannotOperate
from worker.refunds import refund_payment
from worker.refunds.duplicates import approve, found
from worker.services import Services
from worker.store.charging import allowances, attempts, charges
from worker.store.charging.attempts import Attempt
from worker.store.outbox import event_log
from worker.store.reconciliation import findings
from worker.store.reconciliation.findings import Finding


def refund(services: Services, finding_id: int, actor: str, why: str) -> Finding:
    """Approve the refund of a finding's payment: its whole balance, once.

    The finding refunds a duplicate payment. The payment of a charge that had ended is the charge's own, so it is
    refunded as by `again refund`, and the finding is closed after the refund.
    """
    with services.engine.begin() as db:
        finding = found(findings.locked(db, finding_id), finding_id)
    if finding.kind is not FindingKind.PAID_AFTER_END:
        return approve(services, finding_id, actor, why)
    if finding.state is not FindingState.OPEN or finding.charge_key is None:
        raise CannotOperate(
            finding.state.refund_code, f"finding {finding_id} is {finding.state}; nothing to refund"
        )
    request_key = f"paid-after-end/{finding.merchant_uid}"
    request = RefundRequest(charge=finding.charge_key, money=None, request_key=request_key, reason=why)
    asked, is_new = refund_payment.ask(services, request, actor)
    if not is_new:
        raise CannotOperate(
            Code.CONFLICT if asked.state is RefundState.REFUSED else Code.ALREADY_DONE,
            f"finding {finding_id} has refund {request_key!r}, which is {asked.state}; if it was refused, "
            f"`again refund {finding.charge_key}` with another request key asks again",
        )
    return finding


class Verdict(StrEnum):
    """The verdict of a person about a finding."""

    NOTED = "noted"  # the finding is closed, the database is not changed
    ACCEPTED = "accepted"  # the database takes the gateway's state
    UNPAID = "unpaid"  # the payment was refunded: the attempt failed, and the charge may be tried again


def resolve(services: Services, finding_id: int, verdict: Verdict, actor: str, why: str) -> Finding:
    """Close a finding by a person's verdict; only the verdict changes the database."""
    with services.engine.begin() as db:
        finding = found(findings.locked(db, finding_id), finding_id)
    if finding.state is FindingState.REFUNDING:
        raise CannotOperate(Code.BUSY, f"finding {finding_id} has a refund under way{WHEN_KNOWN}")
    if finding.state.is_over:
        raise CannotOperate(
            Code.ALREADY_DONE, f"finding {finding_id} is {finding.state} since {finding.ended_at:%Y-%m-%d %H:%M}Z"
        )
    match verdict:
        case Verdict.NOTED:
            pass
        case Verdict.ACCEPTED:
            _accept(services, finding, actor)
        case Verdict.UNPAID:
            _call_unpaid(services, finding)
    now = services.clock.now()
    with services.engine.begin() as db:
        changed = findings.change(db, finding, FindingState.RESOLVED, ended_at=now, ended_by=actor, ended_why=why)
        if changed is None:
            raise CannotOperate(Code.CONFLICT, f"finding {finding_id} has changed just now; see `again findings`")
        subject = finding.charge_key or finding.merchant_uid
        event_log.record(db, actor, "resolve", subject, why, now, finding=finding_id, verdict=verdict.value)
    return changed


def _accept(services: Services, finding: Finding, actor: str) -> None:
    match finding.kind:
        case FindingKind.REFUND_DRIFT:
            _accept_refund(services, finding, actor)
        case FindingKind.AMOUNT | FindingKind.LOST | FindingKind.LATE_PAID:
            attempt, before = _taken(services, finding)
            if settle(services, attempt, before, Paid(finding.imp_uid)) is not AttemptState.PAID:
                raise CannotOperate(
                    Code.CONFLICT, f"charge {finding.charge_key} could not be called paid; see `again show`"
                )
        case _:
            raise CannotOperate(
                Code.CONFLICT, f"a finding of the kind {finding.kind} has nothing that the books could follow"
            )


def _accept_refund(services: Services, finding: Finding, actor: str) -> None:
    now = services.clock.now()
    with services.engine.begin() as db:
        charge = charges.locked_by_key(db, finding.charge_key)
        if charge is None or charge.status not in (ChargeStatus.PAID, ChargeStatus.REFUNDED):
            raise CannotOperate(
                Code.CONFLICT, f"charge {finding.charge_key} is not paid here, so nothing of it can be refunded"
            )
        status = ChargeStatus.PAID if finding.balance else ChargeStatus.REFUNDED
        charges.change(db, charge.id, refunded=finding.amount - finding.balance, status=status.value)
        if status is ChargeStatus.REFUNDED:
            why = f"refunded in the gateway's console, by finding {finding.id}"
            late_payments.end_refunded(db, charge.key, actor, why, now)


def _call_unpaid(services: Services, finding: Finding) -> None:
    answer = services.gateway(finding.account).find_all(finding.merchant_uid)
    if not isinstance(answer, Found):
        raise CannotOperate(
            code_of(answer), f"the gateway does not say what is left of {finding.merchant_uid}: {answer.reason}"
        )
    left = sum(payment.balance for payment in answer.payments if payment.was_paid)
    if any(payment.state in (PaymentState.READY, PaymentState.OTHER) for payment in answer.payments):
        raise CannotOperate(
            Code.CONFLICT,
            f"a payment of {finding.merchant_uid} is neither paid nor failed; resolve this when it is",
        )
    if left:
        still_paid = amount_words(left, finding.currency)
        raise CannotOperate(
            Code.CONFLICT, f"{still_paid} of {finding.merchant_uid} are still paid; refund them first"
        )
    attempt, before = _taken(services, finding)
    settle(services, attempt, before, Voided(f"what was paid under {finding.merchant_uid} was given back"))
    _let_go(services, finding)


def _taken(services: Services, finding: Finding) -> tuple[Attempt, AttemptState]:
    """Claim the finding's attempt under the next fence; return it with its state."""
    with services.engine.begin() as db:
        state = attempts.state_of(db, finding.merchant_uid)
        taken = attempts.take(db, *state, services.clock.now()) if state is not None else None
    if state is None or taken is None:
        raise CannotOperate(
            Code.CONFLICT,
            f"the attempt {finding.merchant_uid} is under way, paid, or not in these books; see `again show`",
        )
    return taken, state[1]


def _let_go(services: Services, finding: Finding) -> None:
    """Release the charge that the finding holds."""
    with services.engine.begin() as db:
        charge = charges.locked_by_key(db, finding.charge_key)
        others = findings.open_for(db, finding.charge_key or "", but=finding.id)
        if charge is not None and charge.held_why is not None and others is None:
            waits = allowances.unapproved_of(db, charge.id)
            charges.change(db, charge.id, held_why=None if waits is None else "it waits for a second person")
