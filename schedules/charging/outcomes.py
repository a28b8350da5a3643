"""The five outcomes of a gateway call; they differ in what may follow."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from schedules.money.amounts import Money


@dataclass(frozen=True, slots=True)
class Paid:
    """Money moved: status paid, with the requested uid, amount and currency."""

    imp_uid: str
    paid_at: datetime | None = None
    pg_provider: str | None = None
    pg_tid: str | None = None
    receipt_url: str | None = None


@dataclass(frozen=True, slots=True)
class Declined:
    """The bank or the payment gateway declined; a later try needs a new merchant_uid."""

    reason: str  # the gateway's text, with card numbers masked
    pg_code: str | None = None
    imp_uid: str | None = None
    pg_provider: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """Our request was wrong: set-up, validation or credentials. It is no result for the card."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotSent:
    """The request was definitely not processed; the same merchant_uid may be sent again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Everything else: money may have moved. Only a look-up at the gateway resolves it."""

    reason: str
    mismatch: bool = False  # the answer has another amount, currency or uid: an operator must decide


@dataclass(frozen=True, slots=True)
class Voided:
    """The payment was made and cancelled: the uid is used, no result for the card, a new uid may follow."""

    reason: str


Outcome = Paid | Declined | Refused | NotSent | Unknown | Voided


class PaymentState(StrEnum):
    """The state of a payment in the gateway's records."""

    READY = "ready"  # not finished
    PAID = "paid"
    CANCELLED = "cancelled"  # refunded, in whole or in part; the balance says what is left
    FAILED = "failed"
    OTHER = "other"  # none of these: it decides nothing, and may still become any of them


@dataclass(frozen=True, slots=True)
class GatewayPayment:
    """One payment in the gateway's records, in vendor-neutral terms."""

    imp_uid: str
    merchant_uid: str
    state: PaymentState
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
    sandbox: bool = False  # made on a test channel, where no money moves, by an account that is not for tests
    unclear: bool = False  # failed with a text that names a time-out or a connection error: not definite

    @classmethod
    def of(cls, merchant_uid: str, imp_uid: str, state: PaymentState, money: Money) -> "GatewayPayment":
        """A payment with these fields alone."""
        return cls(
            imp_uid=imp_uid, merchant_uid=merchant_uid, state=state, amount=money.amount, cancelled_amount=0,
            currency=money.currency, started_at=None, paid_at=None, failed_at=None, cancelled_at=None,
            fail_reason=None, pg_provider=None, pg_tid=None, receipt_url=None, customer_uid=None,
        )  # fmt: skip

    def is_of_other_than(self, customer_uids: Collection[str]) -> bool:
        """Whether a billing key outside these was charged; False for a payment without one."""
        return self.customer_uid is not None and self.customer_uid not in customer_uids

    @property
    def was_paid(self) -> bool:
        """Whether it was paid, also when it was refunded since."""
        return self.state in (PaymentState.PAID, PaymentState.CANCELLED)

    @property
    def balance(self) -> int:
        """What is left of the payment after its cancellations, in minor units."""
        return self.amount - self.cancelled_amount
