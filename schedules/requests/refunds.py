"""Refunds: what may be given back, and what the gateway's records say became of it."""

from dataclasses import dataclass
from enum import Enum, StrEnum

from schedules.charging.outcomes import GatewayPayment
from schedules.errors import BadRequest, Code
from schedules.money.amounts import Money
from schedules.requests.adhoc import LONGEST_REQUEST_KEY, LONGEST_WORDS, checked_words, digest


class RefundState(StrEnum):
    """Where a refund stands. docs/reference/states.md has a paragraph for each."""

    ASKED = "asked"
    SENDING = "sending"
    MADE = "made"
    REFUSED = "refused"


class Fate(StrEnum):
    """What becomes of the subscription of a charge that is given back."""

    KEEP = "keep"
    END_NOW = "end_now"
    END_AT_PERIOD = "end_at_period"


class Seen(Enum):
    """What the gateway's record of the payment says about a refund."""

    NOT_YET = "all that should be is left"
    MADE = "it was given back"
    OTHERWISE = "more or less is left than either"


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundRequest:
    """A payment, or a part of it, that is to be given back. The request key makes it one refund."""

    charge: str
    money: Money | None  # None is all that is left
    request_key: str
    reason: str
    fate: Fate = Fate.KEEP
    another: bool = False  # none of those that were made without a refund known here; no part of the fingerprint

    def __post_init__(self) -> None:
        checked_words("request_key", self.request_key, LONGEST_REQUEST_KEY)
        checked_words("reason", self.reason, LONGEST_WORDS)

    @property
    def fingerprint(self) -> str:
        """Tells another request under the same key from the same one."""
        much = (self.money.amount, self.money.currency) if self.money else ("all",)
        return digest("refund", self.charge, *much, self.reason, self.fate)

    def amount_of(self, left: Money) -> Money:
        """How much is given back of what is left; BadRequest when it is more, or another currency."""
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
                f"{self.money} is more than the {left} that is left of charge {self.charge}",
            )
        return self.money


def seen(payment: GatewayPayment, balance: int, amount: int, sends: int) -> Seen:
    """What a payment's balance says about a refund of `amount` minor units from `balance`, sent so many times.

    The same amount that somebody gave back elsewhere before we sent anything is not ours.
    """
    if payment.balance == balance:
        return Seen.NOT_YET
    if payment.balance == balance - amount and sends > 0:
        return Seen.MADE
    return Seen.OTHERWISE
