"""Resolve unknown outcomes: when to ask the gateway, and which outcome its records prove."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

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
from schedules.money.amounts import Money, amount_words

FIRST_ASKS = tuple(timedelta(seconds=s) for s in (10, 60, 300, 1800, 7200))
HOURLY_UNTIL = timedelta(hours=24)
ALERT_AFTER = timedelta(hours=24)  # an operator is notified; the look-ups continue daily, without end
QUIET_TIME = timedelta(minutes=15)  # longer than a gateway's time-outs and its delay before it lists a payment
TEST_CHANNEL = "paid on a test channel, where no money moves; see AGAIN_SANDBOX and the channels at PortOne"
QUIET_ANSWERS = 2  # answers in a row after the quiet time before "not found" counts


@dataclass(frozen=True, slots=True)
class AskedAbout:
    """The facts of an attempt whose outcome is unknown."""

    merchant_uid: str
    money: Money
    customer_uids: frozenset[str]  # the billing keys of the debtor; a payment by another key is a mismatch
    last_sent_at: datetime
    # Start of the quiet time: the call had ended by then, by its answer or by its lease.
    quiet_since: datetime
    quiet_answers: int  # answers in a row, after the quiet time, without a final record


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome that the gateway's records prove, and the count of quiet answers including this one."""

    outcome: Outcome
    quiet_answers: int


def next_ask_at(unknown_since: datetime, now: datetime) -> datetime:
    """Return the first time of the look-up schedule after `now`; the schedule has no end."""
    for offset in FIRST_ASKS:
        if unknown_since + offset > now:
            return unknown_since + offset
    if now - unknown_since < HOURLY_UNTIL:
        return now + timedelta(hours=1)
    return now + timedelta(days=1)


def read_found(
    found: Sequence[GatewayPayment], asked: AskedAbout, now: datetime, quiet_time: timedelta = QUIET_TIME
) -> Verdict:
    """Judge all payments that the gateway has under the uid.

    One paid record decides. An operator decides about two paid records, another amount, another customer's card,
    and a cancelled payment. No record, or a failure whose text is not definite, counts when it is the answer twice
    in a row after the quiet time. A decline that follows from such a failure keeps its uid: see `Said.keeps_uid`.
    """
    paid = [payment for payment in found if payment.state is PaymentState.PAID]
    if len(paid) > 1:
        return _aside(f"{len(paid)} paid records under {asked.merchant_uid}", asked)
    if paid:
        return _read_paid(paid[0], asked)
    if any(payment.state is PaymentState.CANCELLED for payment in found):
        return _aside(f"{asked.merchant_uid} was paid and cancelled at the gateway, not by us", asked)
    if any(payment.state is not PaymentState.FAILED for payment in found):
        return Verdict(Unknown("the gateway has a payment that is neither paid nor failed"), 0)
    if found and not any(payment.unclear for payment in found) and now - asked.quiet_since >= quiet_time:
        return Verdict(_declined(found), 0)
    # Records of earlier sendings under this uid were judged before it was sent again.
    of_last = [payment for payment in found if _since_sending(payment, asked)]
    if of_last and not any(payment.unclear for payment in of_last):
        return Verdict(_declined(of_last), 0)
    return _read_quiet(found, asked, now, quiet_time)


def may_hold_money(found: Sequence[GatewayPayment]) -> bool:
    """Whether one of these may hold the customer's money, or may still come to hold it."""
    return any(map(_may_hold_money, found))


def _may_hold_money(payment: GatewayPayment) -> bool:
    if payment.state is PaymentState.FAILED:
        return payment.unclear
    is_given_back = payment.state is PaymentState.CANCELLED and payment.balance == 0
    return not payment.sandbox and not is_given_back


def is_settled_by(found: Sequence[GatewayPayment], imp_uid: str | None) -> bool:
    """Whether the gateway has only failures under a uid, and this settled record is the newest."""
    failed = bool(found) and all(payment.state is PaymentState.FAILED for payment in found)
    return failed and max(found, key=_failed_at).imp_uid == imp_uid


def _read_paid(payment: GatewayPayment, asked: AskedAbout) -> Verdict:
    if (payment.amount, payment.currency) != (asked.money.amount, asked.money.currency):
        seen = amount_words(payment.amount, payment.currency)
        return _aside(f"paid with another amount: {seen} instead of {asked.money}", asked)
    if payment.is_of_other_than(asked.customer_uids):
        return _aside(f"another customer's card was charged: customer_uid {payment.customer_uid!r}", asked)
    if payment.sandbox:
        return Verdict(Refused(TEST_CHANNEL), 0)
    return Verdict(
        Paid(payment.imp_uid, payment.paid_at, payment.pg_provider, payment.pg_tid, payment.receipt_url), 0
    )


def _read_quiet(
    found: Sequence[GatewayPayment], asked: AskedAbout, now: datetime, quiet_time: timedelta
) -> Verdict:
    words = "the gateway shows an unclear failure" if found else "the gateway has no such payment"
    if now - asked.quiet_since < quiet_time:
        return Verdict(Unknown(f"{words}, but the quiet time is not over"), 0)
    seen = asked.quiet_answers + 1
    if seen < QUIET_ANSWERS:
        return Verdict(Unknown(f"{words}, once"), seen)
    if found:
        return Verdict(_declined(found), seen)
    return Verdict(NotSent(f"{words}, {seen} times in a row after the quiet time"), seen)


def _since_sending(payment: GatewayPayment, asked: AskedAbout) -> bool:
    """Whether this record belongs to the newest call, not to an earlier one with the same uid."""
    # Gateways give whole seconds, and their clock and ours may differ by a few.
    return payment.started_at is not None and payment.started_at >= asked.last_sent_at - timedelta(seconds=5)


def _declined(found: Sequence[GatewayPayment]) -> Declined:
    last = max(found, key=_failed_at)
    return Declined(last.fail_reason or "failed, without a reason", None, last.imp_uid, last.pg_provider)


def _failed_at(payment: GatewayPayment) -> float:
    at = payment.failed_at or payment.started_at
    return at.timestamp() if at else 0.0


def _aside(why: str, asked: AskedAbout) -> Verdict:
    return Verdict(Unknown(why, mismatch=True), asked.quiet_answers)
