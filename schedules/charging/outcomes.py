"""What one call to the gateway came to: five values, told apart by what they allow us to do next."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from schedules.money.amounts import Money


@dataclass(frozen=True, slots=True)
class Paid:
    """The money moved: status paid, with the uid, the amount and the currency that we asked for."""

    imp_uid: str
    paid_at: datetime | None = None
    pg_provider: str | None = None
    pg_tid: str | None = None
    receipt_url: str | None = None


@dataclass(frozen=True, slots=True)
class Declined:
    """The bank or the payment gateway said no; a later try needs a new merchant_uid."""

    reason: str  # the gateway's own words, with any card number masked
    pg_code: str | None = None
    imp_uid: str | None = None
    pg_provider: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """Our request was wrong: set-up, validation or credentials. Says nothing about the card."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotSent:
    """It surely was not processed, so the same merchant_uid may be sent again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Everything else: money may have moved. Only asking the gateway ends this state."""

    reason: str
    mismatch: bool = False  # the gateway answered for another amount, currency or uid: a person must look


@dataclass(frozen=True, slots=True)
class Voided:
    """The money moved and is back: the uid is used up, the card said nothing, and a new uid may be tried."""

    reason: str


Outcome = Paid | Declined | Refused | NotSent | Unknown | Voided


@dataclass(frozen=True, slots=True)
class GatewayPayment:
    """One payment as the gateway's records show it, in words that are no vendor's."""

    imp_uid: str
    merchant_uid: str
    status: str  # ready, paid, cancelled or failed; anything newer is kept as it came
    amount: int  # minor units
    cancelled_amount: int  # minor units, cumulative
    currency: str
    started_at: datetime | None
    paid_at: datetime | None
    failed_at: datetime | None
    cancelled_at: datetime | None
    fail_reason: str | None
    pg_provider: str | None
    pg_tid: str | None
    receipt_url: str | None
    customer_uid: str | None
    sandbox: bool = False  # made on a test channel, where no money moves, by an account that is not one for tests
    unclear: bool = False  # failed, but in words that name a time-out or a line fault: not a verdict yet

    @classmethod
    def of(cls, merchant_uid: str, imp_uid: str, status: str, money: Money) -> "GatewayPayment":
        """A payment of which nothing more is known than this."""
        return cls(
            imp_uid=imp_uid, merchant_uid=merchant_uid, status=status, amount=money.amount, cancelled_amount=0,
            currency=money.currency, started_at=None, paid_at=None, failed_at=None, cancelled_at=None,
            fail_reason=None, pg_provider=None, pg_tid=None, receipt_url=None, customer_uid=None,
        )  # fmt: skip

    def is_of_other_than(self, customer_uids: Collection[str]) -> bool:
        """Whether a billing key was charged that is none of these; a payment that names none is not judged."""
        return self.customer_uid is not None and self.customer_uid not in customer_uids

    @property
    def balance(self) -> int:
        """What is left of the payment after its cancellations, in minor units."""
        return self.amount - self.cancelled_amount
