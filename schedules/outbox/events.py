"""Events that the shop receives: a class for each kind, whose docstring says when it is written."""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from typing import ClassVar

from schedules.outbox.event_fields import Payload

VERSION = 1  # of all payloads; it rises when a field is removed or changes its meaning, not when one is added


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(ABC):
    """One event: plain fields only. Amounts are minor units, keys are public ones."""

    kind: ClassVar[str]

    @property
    @abstractmethod
    def subject(self) -> str:
        """The key of its subject."""


def payload(event: Event) -> Payload:
    """Return the event's fields for JSON: instants in UTC with a Z, dates as YYYY-MM-DD."""
    return {field.name: in_json(getattr(event, field.name)) for field in fields(event)}


def event_id(dedupe: str) -> str:
    """Return the event's id for the receiver: the same for each try and replay, also after a restore."""
    return "evt_" + hashlib.sha256(dedupe.encode()).hexdigest()[:32]


def in_json(value: object) -> object:
    """Return a field for JSON; an instant without a zone is refused."""
    match value:
        case datetime():
            if value.tzinfo is None:
                raise ValueError(f"{value} has no zone; give an instant with a zone")
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case _:
            return value


@dataclass(frozen=True, slots=True, kw_only=True)
class OfCharge(Event):
    """About one debt."""

    charge: str

    @property
    def subject(self) -> str:
        """The charge's key."""
        return self.charge


@dataclass(frozen=True, slots=True, kw_only=True)
class OfSubscription(Event):
    """About one subscription."""

    subscription: str

    @property
    def subject(self) -> str:
        """The subscription's key."""
        return self.subscription


@dataclass(frozen=True, slots=True, kw_only=True)
class OfCustomer(Event):
    """About one stored card."""

    customer_uid: str

    @property
    def subject(self) -> str:
        """The customer's billing key."""
        return self.customer_uid


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeUpcoming(OfCharge):
    """A renewal is due soon; written again at once when its amount, date or card changes."""

    kind: ClassVar[str] = "charge.upcoming"
    subscription: str
    customer_uid: str
    amount: int
    currency: str
    due_at: datetime
    card_name: str | None
    card_number: str | None  # masked

    @property
    def says(self) -> str:
        """The content of the notice as one text; another content is another notice."""
        card = f"{self.customer_uid}/{self.card_name or ''}/{self.card_number or ''}"
        return f"{self.charge}/{self.amount}/{self.currency}/{in_json(self.due_at)}/{card}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargePaid(OfCharge):
    """A charge is paid."""

    kind: ClassVar[str] = "charge.paid"
    subscription: str | None
    request_key: str | None
    customer_uid: str
    merchant_uid: str | None
    amount: int
    currency: str
    recovered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeFailed(OfCharge):
    """An attempt was declined."""

    kind: ClassVar[str] = "charge.failed"
    subscription: str | None
    request_key: str | None
    customer_uid: str
    merchant_uid: str
    amount: int
    currency: str
    decline_class: str
    reason: str | None
    next_attempt_at: datetime | None
    needs_card: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeUncollectible(OfCharge):
    """The ladder ended without a payment, and the charge is given up."""

    kind: ClassVar[str] = "charge.uncollectible"
    subscription: str | None
    request_key: str | None
    customer_uid: str
    amount: int
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeWaived(OfCharge):
    """A person or the plan's catch-up waived a charge, or its period was skipped or came due during a pause."""

    kind: ClassVar[str] = "charge.waived"
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeCanceled(OfCharge):
    """A person canceled a charge that should not exist."""

    kind: ClassVar[str] = "charge.canceled"
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeHeld(OfCharge):
    """A charge waits for an operator."""

    kind: ClassVar[str] = "charge.held"
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargePaidAfterEnd(OfCharge):
    """A charge was paid that had ended, or whose subscription was canceled while its outcome was open."""

    kind: ClassVar[str] = "charge.paid_after_end"
    was: str
    merchant_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeRefunded(OfCharge):
    """A payment was refunded, in full or in part; `request_key` is the refund's."""

    kind: ClassVar[str] = "charge.refunded"
    subscription: str | None
    request_key: str
    customer_uid: str
    merchant_uid: str
    imp_uid: str
    amount: int
    currency: str
    refunded: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundRefused(OfCharge):
    """A requested refund was refused, and is not tried again."""

    kind: ClassVar[str] = "charge.refund_refused"
    request_key: str
    amount: int
    currency: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LastWarning(OfCharge):
    """One try is left."""

    kind: ClassVar[str] = "dunning.last_warning"
    subscription: str | None
    customer_uid: str
    amount: int
    currency: str
    gives_up_at: datetime
    final: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DunningEnded(OfCharge):
    """The ladder ended, and the charge stays owed by the policy's final action."""

    kind: ClassVar[str] = "dunning.ended"
    subscription: str | None
    request_key: str | None
    customer_uid: str
    amount: int
    currency: str
    final: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptUnknown(OfCharge):
    """The outcome of an attempt has been unknown for a long time."""

    kind: ClassVar[str] = "attempt.unknown"
    merchant_uid: str
    unknown_since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionBegan(OfSubscription):
    """A subscription began with its first payment, which is `charge`."""

    kind: ClassVar[str] = "subscription.began"
    customer_uid: str
    plan: str
    charge: str
    next_due_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionPastDue(OfSubscription):
    """A renewal was declined for the first time."""

    kind: ClassVar[str] = "subscription.past_due"
    customer_uid: str
    charge: str
    usable_until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionSuspended(OfSubscription):
    """A subscription is not usable until it is paid."""

    kind: ClassVar[str] = "subscription.suspended"
    customer_uid: str
    charge: str | None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionRecovered(OfSubscription):
    """What a subscription owed is paid."""

    kind: ClassVar[str] = "subscription.recovered"
    customer_uid: str
    charge: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionPaused(OfSubscription):
    """A subscription is paused; no new period is charged."""

    kind: ClassVar[str] = "subscription.paused"
    customer_uid: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionResumed(OfSubscription):
    """A subscription continues after a pause."""

    kind: ClassVar[str] = "subscription.resumed"
    customer_uid: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionChanged(OfSubscription):
    """A person changed a subscription from its next period on."""

    kind: ClassVar[str] = "subscription.changed"
    customer_uid: str
    what: str
    plan: str
    next_due_at: datetime | None
    amount: int | None
    currency: str | None
    old_due_at: datetime | None
    old_amount: int | None
    old_currency: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionCanceled(OfSubscription):
    """A subscription ended."""

    kind: ClassVar[str] = "subscription.canceled"
    customer_uid: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionHeld(OfSubscription):
    """The periods of a subscription cannot be opened; an operator must look at it."""

    kind: ClassVar[str] = "subscription.held"
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CardNeedsUpdate(OfCustomer):
    """A decline shows that the card will not pay: the customer must act, or give another card."""

    kind: ClassVar[str] = "card.needs_update"
    charge: str
    decline_class: str
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CardChanged(OfCustomer):
    """A billing key has another card."""

    kind: ClassVar[str] = "card.changed"
    card_name: str | None
    card_number: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CardExpiring(OfCustomer):
    """A card expires soon."""

    kind: ClassVar[str] = "card.expiring"
    expires_on: date


@dataclass(frozen=True, slots=True, kw_only=True)
class OfAccount(Event):
    """An event about a gateway account, with its reason."""

    account: str
    why: str

    @property
    def subject(self) -> str:
        """The account's name."""
        return self.account


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountStopped(OfAccount):
    """The circuit breaker stopped all charging of a gateway account; a person must resume it."""

    kind: ClassVar[str] = "account.stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelRefused(OfAccount):
    """One channel of a gateway account refuses all calls, while the account continues; once a day."""

    kind: ClassVar[str] = "channel.refused"
    channel: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStopped(Event):
    """A person stopped a batch, or too many of its first lines failed; a person must resume it or leave it."""

    kind: ClassVar[str] = "batch.stopped"
    batch: str
    why: str

    @property
    def subject(self) -> str:
        """The batch's key."""
        return self.batch
