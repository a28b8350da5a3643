"""Events: what the shop is told, each kind with its fields; docs/how-to/events.md says when each is written."""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from typing import Any, ClassVar

VERSION = 1  # of all payloads; a field that goes or changes its meaning makes the next, one that is added does not


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(ABC):
    """One change, as it is told: plain fields only. Amounts are minor units, keys are those that leave us."""

    kind: ClassVar[str]

    @property
    @abstractmethod
    def subject(self) -> str:
        """The key of what it is about."""


def payload(event: Event) -> dict[str, Any]:
    """The event's fields as JSON takes them: instants in UTC with a Z, dates as YYYY-MM-DD."""
    return {field.name: in_json(getattr(event, field.name)) for field in fields(event)}


def event_id(dedupe: str) -> str:
    """What the receiver knows an event by: the same for each try and each replay, and in a restored database."""
    return "evt_" + hashlib.sha256(dedupe.encode()).hexdigest()[:32]


def in_json(value: object) -> object:
    """A field as JSON takes it; an instant without a zone is refused."""
    match value:
        case datetime():
            if value.tzinfo is None:
                raise ValueError(f"{value} has no zone; an event tells instants")
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
    """A card will be charged soon; the newest one of a charge holds, when amount, date or card changed since."""

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
        """What the notice says, in one text: another text is another notice."""
        card = f"{self.customer_uid}/{self.card_name or ''}/{self.card_number or ''}"
        return f"{self.charge}/{self.amount}/{self.currency}/{in_json(self.due_at)}/{card}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargePaid(OfCharge):
    """A debt is paid; `recovered` when it had been declined before. No uid when it was paid by other means."""

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
    """A card was declined; `next_attempt_at` is empty when nothing more is tried as things stand."""

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
    """The ladder has ended without money."""

    kind: ClassVar[str] = "charge.uncollectible"
    subscription: str | None
    request_key: str | None
    customer_uid: str
    amount: int
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeWaived(OfCharge):
    """A debt was waived by a person or the plan's catch-up, or its period was skipped or came due in a pause."""

    kind: ClassVar[str] = "charge.waived"
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeCanceled(OfCharge):
    """A debt was ended by a person: it should not have been there."""

    kind: ClassVar[str] = "charge.canceled"
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeHeld(OfCharge):
    """A debt waits for an operator."""

    kind: ClassVar[str] = "charge.held"
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargePaidAfterEnd(OfCharge):
    """Money came for a debt that had ended; `was` is the status that it had."""

    kind: ClassVar[str] = "charge.paid_after_end"
    was: str
    merchant_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeRefunded(OfCharge):
    """A payment was given back, whole or in part; `refunded` is how much of it in all."""

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
    """A refund that was asked for was not made, and is not tried again."""

    kind: ClassVar[str] = "charge.refund_refused"
    request_key: str
    amount: int
    currency: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LastWarning(OfCharge):
    """One try is left; `final` is what happens to the subscription when it fails too."""

    kind: ClassVar[str] = "dunning.last_warning"
    subscription: str | None
    customer_uid: str
    amount: int
    currency: str
    gives_up_at: datetime
    final: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DunningEnded(OfCharge):
    """Nothing more is tried by itself, and the debt stays: it waits for another card, or for a person."""

    kind: ClassVar[str] = "dunning.ended"
    subscription: str | None
    request_key: str | None
    customer_uid: str
    amount: int
    currency: str
    final: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptUnknown(OfCharge):
    """Nobody could say for a long time whether an attempt moved money; it is asked about on and on."""

    kind: ClassVar[str] = "attempt.unknown"
    merchant_uid: str
    unknown_since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionBegan(OfSubscription):
    """A subscription has begun with its first payment, which is this charge."""

    kind: ClassVar[str] = "subscription.began"
    customer_uid: str
    plan: str
    charge: str
    next_due_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionPastDue(OfSubscription):
    """A renewal was declined; the subscription stays usable until then."""

    kind: ClassVar[str] = "subscription.past_due"
    customer_uid: str
    charge: str
    usable_until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionSuspended(OfSubscription):
    """The subscription is not usable any more, until it is paid for."""

    kind: ClassVar[str] = "subscription.suspended"
    customer_uid: str
    charge: str | None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionRecovered(OfSubscription):
    """What the subscription owed is paid; it is usable again, or goes on being so."""

    kind: ClassVar[str] = "subscription.recovered"
    customer_uid: str
    charge: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionPaused(OfSubscription):
    """The subscription is set aside; nothing new is charged."""

    kind: ClassVar[str] = "subscription.paused"
    customer_uid: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionResumed(OfSubscription):
    """The subscription goes on after a pause."""

    kind: ClassVar[str] = "subscription.resumed"
    customer_uid: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionChanged(OfSubscription):
    """A person has changed it from its next period on; `what` is anchor, time, plan, card, skip or undo.

    The amount and date of the next charge, and those before the change; empty where there is, or was, no next one.
    """

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
    """The subscription has ended."""

    kind: ClassVar[str] = "subscription.canceled"
    customer_uid: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionHeld(OfSubscription):
    """Opening cannot work on the subscription; an operator must look."""

    kind: ClassVar[str] = "subscription.held"
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CardNeedsUpdate(OfCustomer):
    """The card will not pay this debt, however often it is tried: the customer must act, or give another."""

    kind: ClassVar[str] = "card.needs_update"
    charge: str
    decline_class: str
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CardChanged(OfCustomer):
    """Another card stands behind the billing key; its number is masked."""

    kind: ClassVar[str] = "card.changed"
    card_name: str | None
    card_number: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CardExpiring(OfCustomer):
    """The card will expire soon, on this last day."""

    kind: ClassVar[str] = "card.expiring"
    expires_on: date


@dataclass(frozen=True, slots=True, kw_only=True)
class OfAccount(Event):
    """About a gateway account, and why it is so."""

    account: str
    why: str

    @property
    def subject(self) -> str:
        """The account's name."""
        return self.account


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountStopped(OfAccount):
    """The breaker has stopped all charging of a gateway account; a person must resume it."""

    kind: ClassVar[str] = "account.stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelRefused(OfAccount):
    """One channel of a gateway account refuses all calls; the account goes on. Sent once a day."""

    kind: ClassVar[str] = "channel.refused"
    channel: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStopped(Event):
    """A person stopped a batch, or too many of its first lines failed; a person must resume it, or leave it."""

    kind: ClassVar[str] = "batch.stopped"
    batch: str
    why: str

    @property
    def subject(self) -> str:
        """The batch's key."""
        return self.batch
