"""The rule of claiming: what follows for a charge that a worker is asked to try now, from the facts of it."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from schedules.charging.charges import AttemptState, ChargeKind, ChargeStatus, KeyedIn, TriedBy

BEHIND = timedelta(minutes=5)  # until a charge is tried again whose card's older debt is being tried
BEHIND_WAITING = timedelta(days=1)  # the same where the older debt waits for another card
# States in which the same merchant_uid may be sent again: not processed, or failed with an indefinite text.
SENDABLE = (AttemptState.READY, AttemptState.NOT_SENT)
TYPED_IN = "its card was typed in, and none is kept"
ARCHIVED = "it is owed, and yet its attempts are archived"
IS_PAID = "it is owed, and yet an attempt at it is paid"
END_IT = "the gateway may have a payment for this charge; see `again findings`, and release the charge after it"


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """What an account allows this process."""

    unfit: str | None = None  # why this process may not send, though another may
    obstacle: str | None = None  # why this process may send nothing


@dataclass(frozen=True, slots=True)
class ChargeFacts:
    """A charge's own row, and its account."""

    account: AccountFacts
    kind: ChargeKind
    status: ChargeStatus
    is_held: bool
    next_attempt_at: datetime | None
    was_declined: bool
    tried_by: TriedBy | None
    keyed_in: KeyedIn | None
    is_archived: bool


@dataclass(frozen=True, slots=True)
class Ahead:
    """An older debt of the same card that goes first."""

    key: str
    next_attempt_at: datetime | None
    waits: bool  # for another card


@dataclass(frozen=True, slots=True)
class EarlierFacts:
    """The charge's earlier attempts, the findings under its key, and the other debts of its card."""

    has_paid: bool = False  # an attempt at it is paid
    is_unasked: bool = False  # the gateway may have a payment under an earlier merchant_uid, and has to be asked
    finding: int | None = None  # an open finding under the charge's key
    unresolved: AttemptState | None = None  # of the attempt that is not over
    last_is_indefinite: bool = False  # by today's rules the newest decline's text is no definite answer
    ahead: Ahead | None = None
    card_stopped: bool = False  # its card can never pay
    card_free_at: datetime | None = None  # when the card's cap lets it be tried again


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Another worker may send it."""

    why: str


@dataclass(frozen=True, slots=True)
class NotDue:
    """It is over, held, or not due: a message that came late or twice."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """Nothing is sent for its account; it stays due."""

    why: str


@dataclass(frozen=True, slots=True)
class SetAside:
    """A person must look."""

    why: str


@dataclass(frozen=True, slots=True)
class AskFirst:
    """The gateway has to be asked about earlier merchant_uids before anything is sent."""


@dataclass(frozen=True, slots=True)
class Behind:
    """An older debt of the card goes first."""

    key: str
    at: datetime  # when this one is tried again


@dataclass(frozen=True, slots=True)
class CardCapped:
    """The card was declined as often as its cap allows."""

    at: datetime  # when it may be tried again


@dataclass(frozen=True, slots=True)
class CardStopped:
    """Its card can never pay: it waits for another one."""


@dataclass(frozen=True, slots=True)
class AskAboutLast:
    """The newest attempt was declined in a text that is no definite answer: it is asked about."""


@dataclass(frozen=True, slots=True)
class LeaveToAttempt:
    """An attempt is under way or unknown: its lease or its next look-up decides."""


@dataclass(frozen=True, slots=True)
class SendAgain:
    """The unresolved attempt is claimed again, under its own merchant_uid."""


@dataclass(frozen=True, slots=True)
class Begin:
    """The next attempt is written, under a new merchant_uid."""


Screened = GiveBack | NotDue | Stopped
Decision = (
    Screened | SetAside | AskFirst | Behind | CardCapped | CardStopped | AskAboutLast | LeaveToAttempt | SendAgain
    | Begin
)  # fmt: skip
NOTHING_EARLIER = EarlierFacts()


def screen(charge: ChargeFacts, now: datetime) -> Screened | None:
    """Return why a charge is not tried by this process now, from its own row; None when it is due and allowed."""
    account = charge.account
    if account.unfit is not None:
        # Before the due time is looked at: this machine's clock may be what is wrong.
        return GiveBack(account.unfit)
    is_due = charge.next_attempt_at is not None and charge.next_attempt_at <= now
    if not (charge.status.is_owed and not charge.is_held and is_due):
        return NotDue()
    return Stopped(account.obstacle) if account.obstacle is not None else None


def decide(charge: ChargeFacts, earlier: EarlierFacts, now: datetime) -> Decision:
    """Return what follows for a charge that `screen` has let pass."""
    if charge.keyed_in is not None:
        return SetAside(TYPED_IN)
    if charge.is_archived:
        # Its earlier payments are not visible here, so nothing may be begun.
        return SetAside(ARCHIVED)
    if earlier.has_paid:
        return SetAside(IS_PAID)
    if earlier.is_unasked:
        return AskFirst()
    if earlier.finding is not None:
        return SetAside(f"finding {earlier.finding} is open: {END_IT}")
    # An attempt that was begun is brought to its end; nothing new is begun before an older debt.
    is_next_try = earlier.unresolved is None or (
        earlier.unresolved is AttemptState.NOT_SENT and charge.was_declined
    )
    if is_next_try and (way := _gives_way(charge, earlier, now)) is not None:
        return way
    if earlier.unresolved is not None:
        # A new merchant_uid only after a definite failure.
        return SendAgain() if earlier.unresolved in SENDABLE else LeaveToAttempt()
    # Older rules called the text a decline. It may have been paid, so that no new merchant_uid may follow it.
    return AskAboutLast() if earlier.last_is_indefinite else Begin()


def _gives_way(
    charge: ChargeFacts, earlier: EarlierFacts, now: datetime
) -> Behind | CardStopped | CardCapped | None:
    """Return what keeps a further try back; a person's try goes before all of it."""
    if charge.tried_by is TriedBy.PERSON:
        return None
    if charge.kind is ChargeKind.RENEWAL and earlier.ahead is not None:
        return Behind(earlier.ahead.key, _behind(earlier.ahead, now))
    if earlier.card_stopped:
        return CardStopped()
    # A first try is no further try: the cap does not hold it back.
    if charge.was_declined and earlier.card_free_at is not None and earlier.card_free_at > now:
        return CardCapped(earlier.card_free_at)
    return None


def _behind(ahead: Ahead, now: datetime) -> datetime:
    """When to try again, within a day. The end of the older debt reschedules this one at once."""
    if ahead.next_attempt_at is not None and ahead.next_attempt_at > now:
        return min(ahead.next_attempt_at + BEHIND, now + BEHIND_WAITING)
    return now + (BEHIND_WAITING if ahead.waits else BEHIND)
