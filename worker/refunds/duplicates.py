"""Refund a duplicate payment of a debt once it is approved, guarded by the balance that was approved."""

import logging
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from schedules.charging.outcomes import GatewayPayment, NotSent, PaymentState, Refused, Unknown
from schedules.errors import Code
from schedules.money.amounts import Money, amount_words
from schedules.operations.findings import FindingKind, FindingState
from schedules.outbox.payment_events import PaymentRefunded
from worker.charging.account_threads import Begin, at_once
from worker.charging.match_payments import MENDER, end_second_payment
from worker.failpoints import Failpoint, hit
from worker.gateway.port import Cancellation, Cancelled, Found, Gateway
from worker.operations.operate import CannotOperate
from worker.services import Services
from worker.store.charging import charges, kill_switch
from worker.store.outbox import event_log
from worker.store.reconciliation import findings, reconciliations
from worker.store.reconciliation.findings import Finding

log = logging.getLogger("again.duplicates")
AT_ONCE = 48  # refunds of an account that are begun in one run; the others stay due
LOOK_AGAIN = timedelta(minutes=10)  # longer than the look-ups, the refund call and a token take
REASON = "paid twice"  # shown in the gateway's console


def approve(services: Services, finding_id: int, actor: str, why: str) -> Finding:
    """Approve the refund of a duplicate payment: all of its balance."""
    now = services.clock.now()
    with services.engine.begin() as db:
        finding = found(findings.locked(db, finding_id), finding_id)
        if finding.kind is not FindingKind.DOUBLE:
            raise CannotOperate(
                Code.CONFLICT, f"finding {finding_id} is {finding.kind}; only a double payment can be refunded"
            )
        if finding.state is not FindingState.OPEN:
            raise CannotOperate(
                finding.state.refund_code, f"finding {finding_id} is {finding.state}; nothing to approve"
            )
        changed = findings.change(db, finding, FindingState.APPROVED)
        event_log.record(db, actor, "approve-refund", finding.charge_key or finding.merchant_uid, why, now,
                     finding=finding_id, imp_uid=finding.imp_uid, balance=finding.balance)  # fmt: skip
    return changed or finding


def found(finding: Finding | None, finding_id: int) -> Finding:
    """Return the finding; raise CannotOperate when there is none with this number."""
    if finding is None:
        raise CannotOperate(Code.NOT_FOUND, f"there is no finding {finding_id}; `again findings --all` lists them")
    return finding


def refund_due(services: Services, begin: Begin = at_once) -> None:
    """Begin the approved refunds that are due, and the look-ups of those with an unknown outcome."""
    with services.engine.begin() as db:
        waiting = findings.to_refund(db, services.clock.now(), AT_ONCE)
    for finding in waiting:
        debt = finding.charge_key or finding.merchant_uid
        # Where another one of the debt is begun already, this one stays due.
        begin(threads_of(finding.account), f"the refund of {debt}", partial(refund, services, finding))


def threads_of(account: str) -> str:
    """The name of the threads that make the refunds of an account: they wait for none of its other work."""
    return f"{account}/refunds"


def refund(services: Services, finding: Finding) -> FindingState | None:
    """Refund one payment: claim it, look up its balance, send the refund, write the result.

    Returns the new state of the finding; None when another process has it, or this process may not send. Refunds
    continue on an account whose charging is stopped, because the circuit breaker may have stopped it. They wait in
    a copy of the database, during a hold, and on a machine with a wrong clock.
    """
    gateway = services.gateway_if_ours(finding.account)
    if gateway is None:
        return None
    with services.engine.begin() as db:
        permission = kill_switch.permission(db, finding.account)
        obstacle = permission.foreign(services.identity, services.clock)
        if obstacle is not None:
            log.warning("the refund of %s waits: %s", finding.imp_uid, obstacle)
            return None
        # Of two refunds of one debt at once, each would count the other's payment as the one that is left.
        charges.locked_by_key(db, finding.charge_key)
        if findings.is_another_refunded(db, finding):
            return None
        lease_until = services.clock.now() + LOOK_AGAIN
        claimed = findings.change(db, finding, FindingState.REFUNDING, lease_until=lease_until)
    if claimed is None:
        return None
    hit(Failpoint.REFUNDING_CLAIMED, claimed.merchant_uid)
    payments = look(gateway, claimed.merchant_uid)
    if payments is None:
        return claimed.state  # no answer: looked up again after the lease
    payment = next((found for found in payments if found.imp_uid == claimed.imp_uid), None)
    if payment is None:
        return _reopened(services, claimed, "the gateway shows no such payment under its uid")
    if payment.balance == 0:
        return _ended(services, claimed, "the gateway shows it as given back")
    if payment.balance != claimed.balance:
        there, here = (amount_words(each, claimed.currency) for each in (payment.balance, claimed.balance))
        return _reopened(services, claimed, f"{there} are left, not {here}")
    otherwise = _is_paid_otherwise(services, gateway, claimed)
    if otherwise is None:
        return claimed.state
    if not otherwise:
        return _reopened(services, claimed, "it is the only payment of the debt that is left")
    order = Cancellation(claimed.imp_uid, Money(claimed.balance, claimed.currency), claimed.balance, REASON)
    answer = gateway.cancel(order)
    hit(Failpoint.REFUNDING_ANSWERED, claimed.merchant_uid)
    match answer:
        case Cancelled():
            return _ended(services, claimed, "given back")
        case Refused(reason):
            return _reopened(services, claimed, f"the gateway refused the refund: {reason}")
        case NotSent() | Unknown():
            # The gateway compares the balance in each call: it refuses a second call after a first that succeeded.
            log.warning("the refund of %s is unclear: %s", claimed.imp_uid, answer.reason)
            return claimed.state


def look(gateway: Gateway, uid: str) -> Sequence[GatewayPayment] | None:
    """The payments that the gateway has under a uid; None without an answer."""
    answer = gateway.find_all(uid)
    if isinstance(answer, Found):
        return answer.payments
    log.warning("a refund waits for what is paid under %s: %s", uid, answer.reason)
    return None


def _is_paid_otherwise(services: Services, gateway: Gateway, finding: Finding) -> bool | None:
    """Whether another payment of the debt remains in full; None when the gateway gives no answer."""
    now, environment = services.clock.now(), services.settings.environment
    with services.engine.begin() as db:
        debts = reconciliations.debts_of(db, finding.account, environment, [finding.merchant_uid], now)
    debt = debts.get(finding.merchant_uid)
    if debt is None or debt.side.paid_uid is None:
        return False
    payments = look(gateway, debt.side.paid_uid)
    if payments is None:
        return None
    others = (payment for payment in payments if payment.imp_uid != finding.imp_uid)
    return any(payment.state is PaymentState.PAID and payment.cancelled_amount == 0 for payment in others)


def _ended(services: Services, finding: Finding, why: str) -> FindingState | None:
    now = services.clock.now()
    # The attempt first: after a crash in between, the next run finds the refund at the gateway and ends both.
    end_second_payment(services, finding)
    with services.engine.begin() as db:
        state = FindingState.REFUNDED
        changed = findings.change(db, finding, state, ended_at=now, ended_by=MENDER, ended_why=why, balance=0)
        if changed is not None:
            event = PaymentRefunded(
                finding=finding.id, charge=finding.charge_key, merchant_uid=finding.merchant_uid,
                imp_uid=finding.imp_uid, amount=finding.balance, currency=finding.currency,
            )  # fmt: skip
            dedupe = f"{finding.account}/{finding.merchant_uid}/{finding.imp_uid}/refunded"
            event_log.enqueue_event(db, event, dedupe, now)
    if changed is None:
        return None
    log.warning("finding %d: %s of %s %s was given back", finding.id, finding.balance, finding.imp_uid, why)
    return changed.state


def _reopened(services: Services, finding: Finding, words: str) -> FindingState | None:
    log.error("finding %d: no refund: %s", finding.id, words)
    with services.engine.begin() as db:
        changed = findings.change(db, finding, FindingState.OPEN, words=f"{finding.words}; {words}")
    return changed.state if changed else None
