"""Read PortOne's answers: pure functions from (HTTP status, body) to the values of the port."""

import re
from collections.abc import Mapping, Sequence
from typing import assert_never

from schedules.charging.outcomes import (
    Declined,
    GatewayPayment,
    NotSent,
    Outcome,
    Paid,
    PaymentState,
    Refused,
    Unknown,
)
from schedules.charging.unknown_outcomes import TEST_CHANNEL
from schedules.money.amounts import amount_words
from worker.gateway.masking import ID_LIMIT, masked_card, shortened, told, without
from worker.gateway.port import (
    BillingKey,
    CancelAnswer,
    Cancellation,
    Cancelled,
    ChargeOrder,
    KeyAnswer,
    KeyDeclined,
    KeyMissing,
    NoAnswer,
    PaymentPage,
)
from worker.gateway.portone_v1.envelopes import (
    Envelope,
    identifier,
    instant,
    is_past_the_end,
    judged,
    looked_up,
    number,
    opened,
    read_envelope,
)
from worker.gateway.portone_v1.payments import read_page, read_payment
from worker.gateway.portone_v1.tokens import Issued
from worker.gateway.portone_v1.unclear import is_definite, is_unclear, is_used, pg_code

_TOKEN = re.compile(r"[\x21-\x7e]{1,4096}")  # what can stand in a header
# PortOne's own refusals, given before any PG was asked: our set-up or records are wrong, not the card.
REFUSALS = ("인증에 실패하였습니다. API키",)
# The customer has no card here (any more): it is that customer's matter, and no fault of our set-up.
NO_SUCH_CUSTOMER = ("등록되지 않은 구매자입니다", "등록된 고객정보가 없습니다", "요청하신 customer_uid")
NO_SUCH_KEY = ("등록된 정보를 찾을 수 없습니다", "등록되지 않은 구매자입니다", "등록된 고객정보가 없습니다")


def read_charge(status: int, body: bytes, order: ChargeOrder, *, sandbox: bool = False) -> Outcome:
    """Return the outcome of a charge; an answer that is not certainly one of the other four is Unknown.

    `sandbox` says that the account is one for tests, so that a payment on a test channel counts as paid.
    """
    envelope = read_envelope(body)
    if words := _no_such_customer(status, envelope):
        return Declined(words)
    match judged(status, body, envelope):
        case Envelope(code=0, response=dict() as fields):
            return _read_charged(fields, order, sandbox=sandbox)
        case Envelope(code=0):
            return Unknown("code 0, but no payment with it")
        case Envelope() as refusal:
            return _read_refusal(refusal)
        case Refused(said) if envelope is not None and not is_definite(envelope.message):
            return Unknown(said)
        case other:
            return other


def _no_such_customer(status: int, envelope: Envelope | None) -> str | None:
    """Return PortOne's text if it says that the customer_uid has no billing key."""
    if envelope is None or envelope.code == 0 or status not in (200, 400, 404):
        return None
    words = envelope.message
    return shortened(words) if words is not None and words.startswith(NO_SUCH_CUSTOMER) else None


def _read_charged(fields: Mapping[str, object], order: ChargeOrder, *, sandbox: bool) -> Outcome:
    payment = read_payment(fields)
    if payment is None:
        return Unknown("code 0 with a payment that cannot be read")
    if payment.merchant_uid != order.merchant_uid:
        return _mismatch("merchant_uid", order.merchant_uid, payment.merchant_uid)
    if payment.state is PaymentState.FAILED:
        words = payment.fail_reason or "failed, without a reason"
        if payment.unclear or is_used(words):
            return Unknown(shortened(f"unclear failure: {words}"))
        return Declined(words, pg_code(words), payment.imp_uid, payment.pg_provider)
    if payment.state is not PaymentState.PAID:
        return Unknown(f"code 0 with status {payment.state}")
    asked = (order.money.amount, order.money.currency)
    if (payment.amount, payment.currency) != asked:
        return _mismatch("amount", str(order.money), amount_words(payment.amount, payment.currency))
    if payment.customer_uid not in (None, order.customer_uid):
        return _mismatch("customer_uid", order.customer_uid, str(payment.customer_uid))
    if payment.sandbox and not sandbox:
        return Refused(TEST_CHANNEL)
    return Paid(payment.imp_uid, payment.paid_at, payment.pg_provider, payment.pg_tid, payment.receipt_url)


def _mismatch(what: str, asked: str, seen: str) -> Unknown:
    return Unknown(shortened(f"{what}: asked {asked}, answered {seen}"), mismatch=True)


def _read_refusal(refusal: Envelope) -> Declined | Refused | Unknown:
    """Read an answer with a code other than 0 and a text; the code alone distinguishes nothing."""
    words = refusal.message
    if words is None:
        return Unknown(f"code {refusal.code} without words")
    if is_used(words):
        return Unknown(shortened(f"uid already used: {words}"))
    if is_unclear(words, None):
        return Unknown(shortened(f"unclear failure: {words}"))
    if refusal.fields is not None and refusal.fields.get("status") not in (None, "failed"):
        return Unknown(shortened(f"code {refusal.code} with a payment beside it: {words}"))
    if words.startswith(REFUSALS):
        return Refused(shortened(words))
    return Declined(shortened(words), pg_code(words))


def read_found_one(status: int, body: bytes) -> GatewayPayment | NoAnswer | None:
    """Return the payment of a look-up; None when PortOne says that there is none."""
    match looked_up(status, body):
        case Envelope(code=0, response=dict() as fields):
            return read_payment(fields) or Unknown("a payment that cannot be read")
        case Envelope() as envelope:
            return Unknown(_no_use(envelope))
        case other:
            return other


def read_found_page(status: int, body: bytes, page: int) -> PaymentPage | NoAnswer:
    """Read a page of the payments of one uid; PortOne answers 404 when there are none."""
    answer = looked_up(status, body)
    if answer is None:
        return PaymentPage((), 0, None) if page == 1 else Unknown(f"page {page} has gone")
    return _paged(answer)


def read_list(status: int, body: bytes, page: int) -> PaymentPage | NoAnswer:
    """Read a page of payments; a 400 for a later page means that it is past the end."""
    if status == 400 and is_past_the_end(body, page):
        return PaymentPage((), 0, None)
    return _paged(opened(status, body))


def _paged(answer: Envelope | NoAnswer) -> PaymentPage | NoAnswer:
    match answer:
        case Envelope(code=0, response=dict() as fields):
            return read_page(fields)
        case Envelope() as envelope:
            return Unknown(_no_use(envelope))
        case other:
            return other


def others_than(merchant_uid: str, payments: Sequence[GatewayPayment]) -> Unknown | None:
    """The reason when a look-up by uid returned payments of another uid."""
    for payment in payments:
        if payment.merchant_uid != merchant_uid:
            return _mismatch("merchant_uid", merchant_uid, payment.merchant_uid)
    return None


def read_key(status: int, body: bytes, customer_uid: str) -> KeyAnswer:
    """The masked facts of a stored card, or that PortOne has none: it says so in an HTTP 200 or a 404."""
    match looked_up(status, body):
        case None:
            return KeyMissing(customer_uid)
        case Envelope(code=0, response=dict() as fields):
            return _read_key_facts(fields, customer_uid)
        case Envelope(code=0):
            return Unknown("code 0, but no billing key with it")
        case Envelope(message=words) as envelope:
            if words is not None and any(text in words for text in NO_SUCH_KEY):
                return KeyMissing(customer_uid)
            return Unknown(_no_use(envelope)) if is_unclear(words, None) else Refused(_no_use(envelope))
        case other:
            return other


def read_issued(status: int, body: bytes, customer_uid: str) -> KeyAnswer:
    """Return the result of storing a card."""
    match opened(status, body):
        case Envelope(code=0, response=dict() as fields):
            return _read_key_facts(fields, customer_uid)
        case Envelope(code=0):
            return Unknown("code 0, but no billing key with it")
        case Envelope() as refusal:
            match _read_refusal(refusal):
                case Declined(reason, code):
                    return KeyDeclined(reason, code)
                case other:
                    return other
        case other:
            return other


def _read_key_facts(fields: Mapping[str, object], customer_uid: str) -> BillingKey | Unknown:
    seen = identifier(fields.get("customer_uid"))
    if seen != customer_uid:
        return _mismatch("customer_uid", customer_uid, str(seen))
    number_shown = told(fields.get("card_number"), ID_LIMIT)
    return BillingKey(
        customer_uid=customer_uid,
        pg_provider=identifier(fields.get("pg_provider")),
        pg_id=identifier(fields.get("pg_id")),
        card_name=told(fields.get("card_name"), ID_LIMIT),
        card_number=None if number_shown is None else masked_card(number_shown),
        inserted_at=instant(fields.get("inserted")),
        updated_at=instant(fields.get("updated")),
    )


def read_cancel(status: int, body: bytes, cancellation: Cancellation) -> CancelAnswer:
    """Return the result of a refund: made only when the payment's balance is the expected one."""
    match opened(status, body):
        case Envelope(code=0, response=dict() as fields):
            payment = read_payment(fields)
        case Envelope(code=0):
            return Unknown("code 0, but no payment with it")
        case Envelope(message=words) as envelope:
            unclear = words is None or is_unclear(words, None)
            return Unknown(_no_use(envelope)) if unclear else Refused(_no_use(envelope))
        case NotSent() | Refused() | Unknown() as other:
            return other
        case other:
            assert_never(other)
    if payment is None:
        return Unknown("code 0 with a payment that cannot be read")
    asked = (cancellation.imp_uid, cancellation.balance - cancellation.money.amount, cancellation.money.currency)
    seen = (payment.imp_uid, payment.balance, payment.currency)
    if seen != asked:
        return _mismatch("payment, balance left and currency", str(asked), str(seen))
    if payment.state is not PaymentState.CANCELLED:
        return Unknown(f"code 0 with status {payment.state}")
    return Cancelled(payment)


def _no_use(envelope: Envelope) -> str:
    return shortened(f"code {envelope.code}: {envelope.message or 'no words'}")


def read_token(status: int, body: bytes, secrets: tuple[str, ...]) -> Issued | NotSent | Refused:
    """Read a token, whose lifetime counts from the gateway's `now`; without a token nothing was sent."""
    match opened(status, body):
        case Envelope(code=0, response=dict() as fields):
            token, now, ends = (
                fields.get("access_token"),
                number(fields.get("now")),
                number(fields.get("expired_at")),
            )
            if isinstance(token, str) and _TOKEN.fullmatch(token) and now and ends and ends > now:
                return Issued(token, float(ends - now))
            return NotSent("no access token: the answer holds none that can be read")
        case Envelope(code=0):
            return NotSent("no access token: code 0 without one")
        case Envelope(message=words) | Refused(reason=words):
            return Refused(without(shortened(f"credentials or set-up refused: {words or 'no words'}"), secrets))
        case NotSent(reason) | Unknown(reason):
            return NotSent(without(shortened(f"no access token: {reason}"), secrets))
        case other:
            assert_never(other)
