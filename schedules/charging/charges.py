"""A charge is a debt; an attempt is one call to the gateway for it. Their states are closed sets."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from schedules.money.amounts import Money


class ChargeKind(StrEnum):
    """Where a debt comes from; its letter is part of every merchant_uid."""

    RENEWAL = "renewal"
    ADHOC = "adhoc"

    @property
    def letter(self) -> str:
        """The kind's letter in a charge key."""
        return {ChargeKind.RENEWAL: "r", ChargeKind.ADHOC: "a"}[self]


class ChargeStatus(StrEnum):
    """Where a debt stands. docs/reference/states.md has a paragraph for each."""

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
    """Where one call stands. docs/reference/states.md has a paragraph for each."""

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
    """Who wants an attempt, when it is not the ladder's turn."""

    PERSON = "person"  # uses up none of the automatic tries
    CARD = "card"  # another card, or a mended one: the ladder begins anew


class KeyedIn(StrEnum):
    """That a charge's card was typed in: no worker can send it."""

    ONCE = "once"  # the card is forgotten
    KEEP = "keep"  # the gateway stores it with the payment


class SubscriptionStatus(StrEnum):
    """What a person decided about a subscription; its standing is computed from its charges."""

    ACTIVE = "active"
    PAUSED = "paused"
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True)
class DueCharge:
    """A debt that opening is about to write."""

    key: str
    period_no: int
    due_at: datetime
    money: Money
    waived: str | None = None  # why it is written off at birth, by the plan's catch-up
    held: str | None = None  # why it waits for an operator, by the plan's catch-up
