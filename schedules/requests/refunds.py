"""Refunds: the amount that may be refunded, and the result in the gateway's records."""

from dataclasses import dataclass
from enum import Enum, StrEnum

from schedules.charging.outcomes import GatewayPayment
from schedules.errors import BadRequest, Code
from schedules.money.amounts import Money
from schedules.requests.adhoc import LONGEST_REQUEST_KEY, LONGEST_WORDS, checked_words, digest


class RefundState(StrEnum):
    """The state of a refund. docs/reference/states.md has a paragraph for each."""

    ASKED = "asked"
    SENDING = "sending"
    MADE = "made"
    REFUSED = "refused"


class Fate(StrEnum):
    """The effect of a refund on the charge's subscription."""

    KEEP = "keep"
    END_NOW = "end_now"
    END_AT_PERIOD = "end_at_period"


class Seen(Enum):
    """The state of a refund in the gateway's record of the payment."""

    NOT_YET = "the balance is unchanged"
    MADE = "the refund was made"
    OTHERWISE = "the balance is neither of the two"


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundRequest:
    """A request to refund a payment or a part of it. The request key makes it one refund."""

    charge: str
    money: Money | None  # None is the whole balance
    request_key: str
    reason: str
    fate: Fate = Fate.KEEP
    another: bool = False  # none of those that were made without a refund known here; no part of the fingerprint

    def __post_init__(self) -> None:
        checked_words("request_key", self.request_key, LONGEST_REQUEST_KEY)
        checked_words("reason", self.reason, LONGEST_WORDS)

    @property
    def fingerprint(self) -> str:
        """Return a fingerprint that distinguishes two requests under one key."""
        much = (self.money.amount, self.money.currency) if self.money else ("all",)
        return digest("refund", self.charge, *much, self.reason, self.fate)

    def amount_of(self, left: Money) -> Money:
        """Return the amount to refund of the balance; BadRequest for more, or another currency."""
        if self.money is None:
            return left
        if self.money.currency != left.currency:
            raise BadRequest(
                Code.INVALID, "currency", f"the charge was paid in {left.currency}, not in {self.money.currency}"
            )
        if self.money.amount > left.amount:
            raise BadRequest(
                Code.CONFLICT,
                "amount",
                f"{self.money} is more than the balance {left} of charge {self.charge}",
            )
        return self.money


def seen(payment: GatewayPayment, balance: int, amount: int, sends: int) -> Seen:
    """Judge by a payment's balance whether a refund of `amount` minor units from `balance` was made.

    The same amount refunded elsewhere before our first call is not our refund.
    """
    if payment.balance == balance:
        return Seen.NOT_YET
    if payment.balance == balance - amount and sends > 0:
        return Seen.MADE
    return Seen.OTHERWISE
