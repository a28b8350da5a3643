"""Refund a payment, in full or in part, once for each request key, guarded by its balance."""

import logging
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from schedules.charging.charges import ChargeStatus
from schedules.charging.outcomes import GatewayPayment, NotSent, Refused, Unknown
from schedules.errors import BadRequest, Code
from schedules.money.amounts import Money, amount_words
from schedules.outbox.events import ChargeRefunded, RefundRefused
from schedules.requests.refunds import Fate, RefundRequest, RefundState, Seen, seen
from worker.charging import late_payments
from worker.charging.account_threads import Begin, at_once
from worker.charging.match_payments import MENDER
from worker.customers.enrollment import end_subscription
from worker.failpoints import Failpoint, hit
from worker.gateway.port import Cancellation, Cancelled, Gateway
from worker.operations.operate import CannotOperate
from worker.refunds.duplicates import AT_ONCE, LOOK_AGAIN, look, threads_of
from worker.services import Services
from worker.store import refunds
from worker.store.charging import charges, kill_switch
from worker.store.charging.charges import Charge
from worker.store.charging.columns import ChargeColumns
from worker.store.customers import subscriptions
from worker.store.operations import archives
from worker.store.outbox import event_log
from worker.store.refunds import NewRefund, Refund

log = logging.getLogger("again.refund_payment")


def ask(services: Services, request: RefundRequest, actor: str) -> tuple[Refund, bool]:
    """Store a requested refund; return it, and whether it is new. The same request key returns the first one.

    The change of the subscription that the request names is made in the same transaction. Raises CannotOperate
    while another refund of the charge is under way, BadRequest for a request key with other arguments.
    """
    now = services.clock.now()
    with services.act(request.charge) as db:
        known = refunds.by_request(db, request.request_key)
        written = None if known else _write(services, db, request, actor, now)
        known = written or known or refunds.by_request(db, request.request_key)
        if known is None:
            raise CannotOperate(
                Code.BUSY, f"another refund of charge {request.charge} is under way; see `again refunds`"
            )
        if known.request_fingerprint != request.fingerprint:
            raise BadRequest(
                Code.CONFLICT,
                "request_key",
                f"{request.request_key!r} is a refund that was asked for with other arguments",
            )
    return known, written is not None


def _write(services: Services, db: Connection, request: RefundRequest, actor: str, now: datetime) -> Refund | None:
    """Write the refund and the change of the subscription.

    None when the same request was written before, or the charge has another refund under way.
    """
    charge = _locked(db, request.charge)
    _refuse_unknown_account(services, charge)
    if refunds.by_request(db, request.request_key) is not None:
        return None  # the same request was written while this one waited for the lock
    written = refunds.add(db, _row(db, charge, request, actor, now))
    if written is not None:
        _decide_fate(services, db, charge, request, actor)
        event_log.record(db, actor, "refund", request.charge, request.reason, now,
                     amount=str(Money(written.amount, written.currency)),
                     request_key=request.request_key, subscription=request.fate.value,
                     another=request.another or None)  # fmt: skip
    return written


def status(services: Services, request_key: str) -> Refund:
    """The refund with this request key; raises BadRequest when there is none."""
    with services.engine.begin() as db:
        known = refunds.by_request(db, request_key)
    if known is None:
        raise BadRequest(Code.NOT_FOUND, "request_key", f"no refund was asked for under {request_key!r}")
    return known


def make_due(services: Services, begin: Begin = at_once) -> None:
    """Begin the requested refunds that are due, and the look-ups of those with an unknown outcome."""
    with services.engine.begin() as db:
        waiting = refunds.due(db, services.clock.now(), AT_ONCE)
    for refund in waiting:
        begin(threads_of(refund.account), f"refund {refund.id}", partial(make, services, refund))


def make(services: Services, refund: Refund) -> RefundState | None:
    """Make one refund: claim it, look up the balance, send the refund, write the result.

    Returns the new state; None when another process has it, or this process may not send. Refunds continue on an
    account whose charging is stopped. They wait in a copy of the database, during a hold, and on a machine with a
    wrong clock. Each call contains the expected balance: the gateway refuses a second call after a first that
    succeeded.
    """
    gateway = services.gateway_if_ours(refund.account)
    if gateway is None:
        return None
    with services.engine.begin() as db:
        obstacle = kill_switch.permission(db, refund.account).foreign(services.identity, services.clock)
        if obstacle is not None:
            log.warning("the refund %r waits: %s", refund.request_key, obstacle)
            return None
        now = services.clock.now()
        claimed = refunds.claim(db, refund, now, now + LOOK_AGAIN)
    if claimed is None:
        return None
    hit(Failpoint.REFUNDING_CLAIMED, claimed.merchant_uid)
    payment = _payment(services, gateway, claimed)
    if payment is None or isinstance(payment, RefundState):
        return payment
    match seen(payment, claimed.balance, claimed.amount, claimed.sends):
        case Seen.MADE:
            return _made(services, claimed)
        case Seen.OTHERWISE:
            there, here = (amount_words(each, claimed.currency) for each in (payment.balance, claimed.balance))
            words = f"{there} are left at the gateway, not {here}"
            return _refused(services, claimed, words)
        case Seen.NOT_YET:
            return _send(services, gateway, claimed)


def _send(services: Services, gateway: Gateway, claimed: Refund) -> RefundState | None:
    with services.engine.begin() as db:
        # Committed before the call: a later look-up then knows that this refund may have been made.
        lease_until = services.clock.now() + LOOK_AGAIN
        sent = refunds.move(db, claimed, RefundState.SENDING, lease_until=lease_until, sends=claimed.sends + 1)
    if sent is None:
        return None
    money = Money(sent.amount, sent.currency)
    answer = gateway.cancel(Cancellation(sent.imp_uid, money, sent.balance, sent.reason))
    hit(Failpoint.REFUNDING_ANSWERED, sent.merchant_uid)
    match answer:
        case Cancelled():
            return _made(services, sent)
        case Refused(reason):
            # It may refuse this call because an earlier one succeeded after the look-up.
            payment = _payment(services, gateway, sent)
            if payment is None or isinstance(payment, RefundState):
                return payment
            is_made = seen(payment, sent.balance, sent.amount, sent.sends - 1) is Seen.MADE
            return (
                _made(services, sent) if is_made else _refused(services, sent, f"the gateway refused it: {reason}")
            )
        case NotSent() | Unknown():
            log.warning("the refund %r is unclear: %s", sent.request_key, answer.reason)
            return sent.state


def _payment(services: Services, gateway: Gateway, refund: Refund) -> GatewayPayment | RefundState | None:
    """The payment as the gateway shows it; otherwise the state of the refund."""
    payments = look(gateway, refund.merchant_uid)
    if payments is None:
        return refund.state  # no answer: looked up again after the lease
    payment = next((found for found in payments if found.imp_uid == refund.imp_uid), None)
    return payment or _refused(services, refund, "the gateway shows no such payment under its uid")


def _locked(db: Connection, key: str) -> Charge:
    charge_id = charges.id_of(db, key)
    if charge_id is not None:
        subscriptions.lock_of_charge(db, charge_id)
        # Brought back from the archive; the open refund keeps it out of there.
        archives.bring_back(db, charge_id)
    charge = charges.locked_by_key(db, key)
    if charge is None:
        raise BadRequest(
            Code.NOT_FOUND, "charge", f"charge {key!r} is not known; a charge's key has 26 characters"
        )
    return charge


def _row(db: Connection, charge: Charge, request: RefundRequest, actor: str, now: datetime) -> NewRefund:
    paid = refunds.paid_attempt(db, charge.id)
    if charge.status not in (ChargeStatus.PAID, ChargeStatus.REFUNDED) or paid is None or paid[1] is None:
        raise BadRequest(
            Code.CONFLICT, "charge", f"charge {charge.key} is {charge.status}, and not by a payment at the gateway"
        )
    given_back = refunds.refunded(db, charge.id)
    left = charge.money.amount - given_back
    if left <= 0:
        raise BadRequest(Code.ALREADY_DONE, "charge", f"charge {charge.key} is given back already")
    _refuse_unexplained(db, charge, given_back, request)
    money = request.amount_of(Money(left, charge.money.currency))
    return {
        "request_key": request.request_key, "request_fingerprint": request.fingerprint, "charge_id": charge.id,
        "account": charge.account, "merchant_uid": paid[0], "imp_uid": paid[1], "amount": money.amount,
        "currency": money.currency, "balance": left, "reason": request.reason, "actor": actor,
        "state": RefundState.ASKED.value, "created_at": now,
    }  # fmt: skip


def _refuse_unknown_account(services: Services, charge: Charge) -> None:
    """Refuse a refund in an account that no worker can use; it would wait without an error."""
    if charge.account not in services.account_names:
        raise CannotOperate(
            Code.HELD,
            f"charge {charge.key} was paid in gateway account {charge.account!r}, which is not configured; there "
            f"are: {', '.join(services.account_names)}. Configure it, or refund the charge in its console",
        )


def _refuse_unexplained(db: Connection, charge: Charge, given_back: int, request: RefundRequest) -> None:
    """Refuse when a part was refunded without a refund known here: it may be the refund of this request key.

    A restore loses the refunds made since the backup. When an operator accepts what the gateway shows, only the
    refunded amount is restored, not the refunds.
    """
    unexplained = given_back - refunds.made(db, charge.id)
    if unexplained <= 0 or request.another:
        return
    amount = amount_words(unexplained, charge.money.currency)
    raise CannotOperate(
        Code.CONFLICT,
        f"{amount} of charge {charge.key} were given back without a refund known here: in PortOne's console, or "
        "under a request key before the database was restored; see `again findings --all` and the console. "
        f"If the refund {request.request_key!r} was not made yet, ask for it with `again refund {charge.key} "
        "--another`, or with another=true in the task",
    )


def _decide_fate(services: Services, db: Connection, charge: Charge, request: RefundRequest, actor: str) -> None:
    if request.fate is Fate.KEEP:
        return
    if charge.subscription is None:
        raise BadRequest(
            Code.CONFLICT, "subscription", f"charge {charge.key} is of no subscription; there is none to end"
        )
    at_period_end = request.fate is Fate.END_AT_PERIOD
    end_subscription(services, db, charge.subscription, actor, request.reason, at_period_end=at_period_end)


def _made(services: Services, refund: Refund) -> RefundState | None:
    now = services.clock.now()
    with services.engine.begin() as db:
        charge = charges.locked(db, refund.charge_id)
        ended = refunds.move(db, refund, RefundState.MADE, ended_at=now, words="given back")
        if charge is None or ended is None:
            return None
        given_back = refunds.refunded(db, charge.id) + refund.amount
        is_whole = given_back >= charge.money.amount
        columns: ChargeColumns = {"refunded": given_back}
        if is_whole:
            columns["status"] = ChargeStatus.REFUNDED.value
        charges.change(db, charge.id, **columns)
        if is_whole:
            late_payments.end_refunded(db, charge.key, MENDER, f"refunded by request {refund.request_key!r}", now)
        event = ChargeRefunded(
            charge=charge.key, subscription=charge.subscription, request_key=refund.request_key,
            customer_uid=charge.customer_uid, merchant_uid=refund.merchant_uid, imp_uid=refund.imp_uid,
            amount=refund.amount, currency=refund.currency, refunded=given_back,
        )  # fmt: skip
        event_log.enqueue_event(db, event, f"{charge.key}/refunded/{given_back}", now)
    log.info("%s: %d %s given back", refund.merchant_uid, refund.amount, refund.currency)
    return RefundState.MADE


def _refused(services: Services, refund: Refund, words: str) -> RefundState | None:
    now = services.clock.now()
    log.error("the refund %r is not made: %s", refund.request_key, words)
    with services.engine.begin() as db:
        ended = refunds.move(db, refund, RefundState.REFUSED, ended_at=now, words=words)
        key = charges.key_of(db, refund.charge_id)
        if ended is None or key is None:
            return None
        event = RefundRefused(
            charge=key, request_key=refund.request_key, amount=refund.amount, currency=refund.currency, why=words
        )
        event_log.enqueue_event(db, event, f"{key}/refund_refused/{refund.request_key}", now)
    return RefundState.REFUSED
