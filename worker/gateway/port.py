"""The port of payment gateways, in vendor-neutral terms; its answers are values."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, assert_never

from schedules.charging.outcomes import GatewayPayment, NotSent, Outcome, PaymentState, Refused, Unknown
from schedules.errors import Code
from schedules.money.amounts import Money
from schedules.requests.imports import TimerEntry


@dataclass(frozen=True, slots=True)
class ChargeOrder:
    """One charge of a stored card."""

    customer_uid: str
    merchant_uid: str
    money: Money
    name: str  # on the statement, at most 40 characters
    buyer_name: str | None = field(default=None, repr=False)
    buyer_email: str | None = field(default=None, repr=False)
    buyer_tel: str | None = field(default=None, repr=False)
    custom_data: str | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """Card data, in memory for the length of one call; its repr shows none of it."""

    number: str = field(repr=False)
    expiry: str = field(repr=False)  # YYYY-MM
    birth: str | None = field(default=None, repr=False)  # YYMMDD, or a business number of 10 digits
    password_2_digits: str | None = field(default=None, repr=False)
    channel: str | None = None  # where it is to be stored; None is the account's default

    def __str__(self) -> str:
        return "Card(…)"


@dataclass(frozen=True, slots=True)
class BillingKey:
    """A stored card as the gateway shows it: masked facts only."""

    customer_uid: str
    pg_provider: str | None
    pg_id: str | None
    card_name: str | None
    card_number: str | None  # masked by the gateway, masked again by us
    inserted_at: datetime | None
    updated_at: datetime | None

    @property
    def channel(self) -> str:
        """Where it is stored, as `name.MID`."""
        return f"{self.pg_provider}.{self.pg_id}"

    def is_on(self, channel: str | None) -> bool:
        """Whether it is stored on this channel. The gateway takes its default channel for one it does not know."""
        if channel is None:
            return True
        name, _, mid = channel.partition(".")
        return self.pg_provider in (name, None) and (not mid or self.pg_id in (mid, None))


@dataclass(frozen=True, slots=True)
class KeyDeclined:
    """The card was refused, with the gateway's text."""

    reason: str
    pg_code: str | None = None


@dataclass(frozen=True, slots=True)
class KeyMissing:
    """The gateway has no billing key under this customer_uid."""

    customer_uid: str


@dataclass(frozen=True, slots=True)
class Found:
    """All payments that the gateway has under a uid; an empty list is an answer too."""

    payments: Sequence[GatewayPayment]


@dataclass(frozen=True, slots=True)
class PaymentPage:
    """One page of the gateway's list."""

    payments: Sequence[GatewayPayment]
    total: int
    next_cursor: str | None  # of the gateway; None after the last page


@dataclass(frozen=True, slots=True)
class Cancellation:
    """A refund; the gateway refuses it unless the balance matches."""

    imp_uid: str
    money: Money  # how much to give back: always said, for the gateway reads 0 or nothing as all of it
    balance: int  # minor units left before this refund
    reason: str


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The refund was made; the payment as it stands now."""

    payment: GatewayPayment


@dataclass(frozen=True, slots=True)
class Timed:
    """A charge in the gateway's own schedule."""

    entries: Sequence[TimerEntry]


@dataclass(frozen=True, slots=True)
class Slot:
    """When a call may leave, by `worker.clock.elapsed`; a call that misses it takes another slot.

    A call that waits in its slot does not leave any more once the process was told to stop.
    """

    earliest: float
    latest: float
    # Told when the call was gone.
    left: Callable[[float], None] = field(default=lambda _: None, compare=False, repr=False)


AT_ONCE = Slot(0.0, math.inf)


@dataclass(frozen=True, slots=True)
class Missed:
    """A call that has done nothing: its slot had passed, the gateway wants new credentials, or a stop had come.

    It may be begun in another slot.
    """


# How the reason begins for which a call did not reach the gateway.
NO_CONNECTION, CONNECTION_TIMEOUT, NO_TOKEN = "ConnectError", "ConnectTimeout", "no access token"
NoAnswer = NotSent | Refused | Unknown
KeyAnswer = BillingKey | KeyDeclined | KeyMissing | NotSent | Refused | Unknown
CancelAnswer = Cancelled | NotSent | Refused | Unknown


def code_of(answer: KeyDeclined | KeyMissing | NoAnswer) -> Code:
    """The error code for an answer other than the wanted one, of a request that changes nothing."""
    match answer:
        case KeyMissing():
            return Code.NOT_FOUND
        case KeyDeclined() | Refused():
            return Code.DECLINED
        case NotSent() | Unknown():
            return Code.UNAVAILABLE
        case _:
            assert_never(answer)


def did_not_reach(not_sent: NotSent) -> bool:
    """Whether a call did not reach the gateway, for lack of a connection or a token."""
    return not_sent.reason.startswith((NO_CONNECTION, CONNECTION_TIMEOUT, NO_TOKEN))


class Sending(Protocol):
    """One charge to be sent."""

    def begin(self, until: float, slot: Slot, then: Callable[[Outcome | Missed], None]) -> None:
        """Send it within its slot; what came of it is told to `then`, on a thread of the gateway's own.

        `until` is as for `Gateway.charge`. `then` is called once, and must be quick: others wait behind it. Where
        this raises, nothing has been sent, and `then` is not called.
        """


class Gateway(Protocol):
    """A payment gateway. No method raises for what the gateway or the network does: that is an answer."""

    def prepare(self) -> None:
        """Prepare what a call needs, such as a token, so that only the call follows the pre-send check."""

    def charge(self, order: ChargeOrder, until: float | None = None) -> Outcome:
        """Charge a stored card, once, under the order's merchant_uid.

        `until` is when the call must be over, by `worker.clock.elapsed`; a request that cannot leave early
        enough to be waited for in full is not sent.
        """

    def sending(self, order: ChargeOrder) -> "Sending":
        """The same charge for a caller that does not wait for the answer."""

    def wrong_with_card(self, card: Card) -> str | None:
        """What the gateway would refuse in this card, without any of its digits; None when it may be sent."""

    def charge_card(self, order: ChargeOrder, card: Card, *, keep: bool, until: float | None = None) -> Outcome:
        """Charge keyed-in card data once; with `keep`, store the card under the order's customer_uid too."""

    def issue_key(self, customer_uid: str, card: Card) -> KeyAnswer:
        """Store a card; an older card under the same customer_uid is replaced in silence."""

    def read_key(self, customer_uid: str) -> KeyAnswer:
        """Read the masked facts of a stored card."""

    def delete_key(self, customer_uid: str) -> KeyAnswer:
        """Delete a stored card for ever."""

    def find_all(self, merchant_uid: str) -> Found | NoAnswer:
        """Every payment of a uid, all pages."""

    def list_payments(
        self,
        state: PaymentState,
        since: datetime,
        until: datetime,
        *,
        cursor: str | None = None,
        limit: int = 1000,
    ) -> PaymentPage | NoAnswer:
        """One page of the payments started in a window of at most 90 days, oldest first.

        `cursor` is the `next_cursor` of the page before; None begins with the first page.
        """

    def timed(self, customer_uid: str, since: datetime, until: datetime) -> Timed | NoAnswer:
        """The charges of a customer in the gateway's own schedule within a time span, all pages."""

    def unschedule(self, customer_uid: str, merchant_uids: Sequence[str]) -> NoAnswer | None:
        """Revoke these of the timer's charges, at least one; None when the gateway says so. Read them back."""

    def cancel(self, cancellation: Cancellation) -> CancelAnswer:
        """Refund a payment, guarded by the balance."""

    def close(self) -> None:
        """Close all connections."""
