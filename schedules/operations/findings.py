"""Compare a payment in the gateway's records with the database, and name what differs."""

from dataclasses import dataclass
from enum import StrEnum

from schedules.charging.charges import AttemptState, ChargeStatus
from schedules.charging.identity import parse_merchant_uid
from schedules.charging.outcomes import GatewayPayment
from schedules.errors import BadUid, Code
from schedules.money.amounts import Money, amount_words


class FindingKind(StrEnum):
    """The kinds of findings. The runbook has a section for each."""

    DOUBLE = "double"  # two payments for one debt
    LOST = "lost"  # paid there, open here
    GHOST = "ghost"  # paid here, absent there
    AMOUNT = "amount"  # paid with another amount, or with another customer's card
    LATE_PAID = "late_paid"  # failed here, paid there
    ORPHAN = "orphan"  # a billing key's payment that is not ours
    REFUND_DRIFT = "refund_drift"  # cancelled there, paid here, or cancelled by another amount
    PAID_AFTER_END = "paid_after_end"  # a debt that had ended, or whose subscription was canceled, was paid

    @property
    def mends_itself(self) -> bool:
        """Whether it is repaired at once, by settling the attempt as paid."""
        return self in (FindingKind.LOST, FindingKind.LATE_PAID)

    @property
    def is_judged(self) -> bool:
        """Whether `judge` finds it, so that it is closed when the database agrees with the gateway's records.

        A payment after the end never disagrees: a person closes it, or its refund.
        """
        return self is not FindingKind.PAID_AFTER_END


class FindingState(StrEnum):
    """The state of a finding."""

    OPEN = "open"  # an operator must decide
    APPROVED = "approved"  # a refund may be made
    REFUNDING = "refunding"  # a refund is under way, or its outcome is unknown
    REPAIRED = "repaired"  # the database was repaired
    REFUNDED = "refunded"  # the payment was refunded
    RESOLVED = "resolved"  # a person closed it

    @property
    def is_over(self) -> bool:
        """Whether it is closed."""
        return self in (FindingState.REPAIRED, FindingState.REFUNDED, FindingState.RESOLVED)

    @property
    def refund_code(self) -> Code:
        """The code of the answer where a refund is asked for and none is begun: one was, or none ever will be."""
        is_begun = self in (FindingState.APPROVED, FindingState.REFUNDING, FindingState.REFUNDED)
        return Code.ALREADY_DONE if is_begun else Code.CONFLICT


@dataclass(frozen=True, slots=True)
class OurSide:
    """The database's facts of the debt that a uid names."""

    attempt_state: AttemptState | None  # None when the database has no attempt with this uid
    attempt_imp_uid: str | None
    money: Money  # of the attempt, or of the debt when there is no attempt
    customer_uids: frozenset[str]  # the billing keys of the debtor
    under_way: bool  # a worker holds the attempt's lease and will write its outcome
    charge_status: ChargeStatus
    paid_uid: str | None  # the merchant_uid that paid the debt, in the database
    refunded: int  # refunded minor units in the database
    refund_under_way: bool = False  # its outcome is written first


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """A finding, described for a person."""

    kind: FindingKind
    words: str


def judge(payment: GatewayPayment, ours: OurSide | None, environment: str) -> Discrepancy | None:
    """Compare one payment at the gateway with the database; None when they agree.

    `ours` is None when the database has no such debt. A fully refunded payment is a finding only while the
    database calls it paid. A payment on a test channel moved no money, so it pays no debt.
    """
    if not payment.was_paid or payment.sandbox:
        return None
    if ours is None:
        return _judge_foreign(payment, environment)
    if _is_ours(payment, ours):
        return _judge_ours(payment, ours)
    if payment.balance <= 0 and ours.attempt_state is AttemptState.UNKNOWN and ours.paid_uid is None:
        return Discrepancy(
            FindingKind.REFUND_DRIFT, "it was paid and given back there, while it was in doubt here"
        )
    if payment.balance <= 0 or ours.under_way:
        return None
    if ours.paid_uid is not None:
        return Discrepancy(FindingKind.DOUBLE, f"the debt was paid by {ours.paid_uid} as well")
    if (other := _other_than_asked(payment, ours)) is not None:
        return Discrepancy(FindingKind.AMOUNT, other)
    if payment.cancelled_amount:
        given_back = amount_words(payment.cancelled_amount, payment.currency)
        words = f"{given_back} were given back there, and here it is not even paid"
        return Discrepancy(FindingKind.REFUND_DRIFT, words)
    if ours.attempt_state in (AttemptState.DECLINED, AttemptState.REFUSED):
        return Discrepancy(FindingKind.LATE_PAID, f"the attempt was {ours.attempt_state} here, and was paid later")
    what = f"the attempt is {ours.attempt_state} here" if ours.attempt_state else "there is no such attempt here"
    return Discrepancy(FindingKind.LOST, f"{what}, and the charge is {ours.charge_status}")


def _is_ours(payment: GatewayPayment, ours: OurSide) -> bool:
    """Whether this is the payment that the database records for the debt."""
    if ours.attempt_state is not AttemptState.PAID or ours.paid_uid != payment.merchant_uid:
        return False
    return ours.attempt_imp_uid in (None, payment.imp_uid)


def _judge_ours(payment: GatewayPayment, ours: OurSide) -> Discrepancy | None:
    if (other := _other_than_asked(payment, ours)) is not None:
        return Discrepancy(FindingKind.AMOUNT, other)
    if payment.cancelled_amount != ours.refunded and not ours.refund_under_way:
        there, here = (amount_words(each, payment.currency) for each in (payment.cancelled_amount, ours.refunded))
        words = f"{there} were given back there, {here} here"
        return Discrepancy(FindingKind.REFUND_DRIFT, words)
    return None


def _judge_foreign(payment: GatewayPayment, environment: str) -> Discrepancy | None:
    if payment.balance <= 0:
        return None
    try:
        made_by = parse_merchant_uid(payment.merchant_uid).environment
    except BadUid:
        if payment.customer_uid is None:
            return None  # paid in a payment window, without a billing key: not compared
        return Discrepancy(FindingKind.ORPHAN, f"billing key {payment.customer_uid} was charged, not by us")
    if made_by != environment:
        return Discrepancy(FindingKind.ORPHAN, f"environment {made_by!r} charged a card of this account")
    return Discrepancy(FindingKind.LOST, "the database has no such charge: it is newer than a restored backup")


def _other_than_asked(payment: GatewayPayment, ours: OurSide) -> str | None:
    if (payment.amount, payment.currency) != (ours.money.amount, ours.money.currency):
        return f"{amount_words(payment.amount, payment.currency)} were paid instead of {ours.money}"
    if payment.is_of_other_than(ours.customer_uids):
        return f"another customer's card was charged: customer_uid {payment.customer_uid!r}"
    return None
