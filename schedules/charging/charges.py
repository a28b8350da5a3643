"""A charge is a debt; an attempt is one call to the gateway for it. Their states are closed sets."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from schedules.money.amounts import Money


class ChargeKind(StrEnum):
    """The origin of a debt; its letter is part of every merchant_uid."""

    RENEWAL = "renewal"
    ADHOC = "adhoc"

    @property
    def letter(self) -> str:
        """The kind's letter in a charge key."""
        return {ChargeKind.RENEWAL: "r", ChargeKind.ADHOC: "a"}[self]


class ChargeStatus(StrEnum):
    """The state of a debt. docs/reference/states.md has a paragraph for each."""

    OPEN = "open"
    PAST_DUE = "past_due"
    PAID = "paid"
    UNCOLLECTIBLE = "uncollectible"
    WAIVED = "waived"
    CANCELED = "canceled"
    REFUNDED = "refunded"

    @property
    def is_owed(self) -> bool:
        """Whether the money is still to be collected."""
        return self in (ChargeStatus.OPEN, ChargeStatus.PAST_DUE)


class AttemptState(StrEnum):
    """The state of one call. docs/reference/states.md has a paragraph for each."""

    READY = "ready"
    SENDING = "sending"
    PAID = "paid"
    DECLINED = "declined"
    REFUSED = "refused"
    NOT_SENT = "not_sent"
    UNKNOWN = "unknown"

    @property
    def is_unresolved(self) -> bool:
        """Whether this merchant_uid may still be sent or asked about, so that no other may start."""
        return self in UNRESOLVED


UNRESOLVED = frozenset({AttemptState.READY, AttemptState.SENDING, AttemptState.NOT_SENT, AttemptState.UNKNOWN})


class TriedBy(StrEnum):
    """The origin of an attempt that is not part of the ladder."""

    PERSON = "person"  # uses up none of the automatic tries
    CARD = "card"  # another or a repaired card: the ladder starts again


class KeyedIn(StrEnum):
    """The kind of a charge whose card was typed in; no worker can send it."""

    ONCE = "once"  # the card is not stored
    KEEP = "keep"  # the gateway stores it with the payment


class SubscriptionStatus(StrEnum):
    """The decision of a person about a subscription; its standing is computed from its charges."""

    ACTIVE = "active"
    PAUSED = "paused"
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True)
class DueCharge:
    """A charge that opening writes."""

    key: str
    period_no: int
    due_at: datetime
    money: Money
    waived: str | None = None  # why the plan's catch-up waives it at once
    held: str | None = None  # why the plan's catch-up holds it for an operator
