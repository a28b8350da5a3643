"""Why a charge is tried now, later, or not; the rule of claiming decides, so that both say the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import assert_never

from schedules.charging.charges import AttemptState, ChargeStatus, SubscriptionStatus
from schedules.charging.claiming import (
    AskAboutLast,
    AskFirst,
    Begin,
    Behind,
    CardCapped,
    CardStopped,
    ChargeFacts,
    Decision,
    EarlierFacts,
    GiveBack,
    LeaveToAttempt,
    NotDue,
    SendAgain,
    SetAside,
    Stopped,
    decide,
    screen,
)


class Reason(StrEnum):
    """Why a charge, or the next period of a subscription, is tried now, later, or not."""

    PAID = "paid"
    CLOSED = "closed"  # waived, canceled or uncollectible
    CANCELED = "canceled"  # the subscription
    HELD = "held"  # for an operator
    PAUSED = "paused"
    ENDS = "ends"  # the subscription, before its next period
    UNDER_WAY = "under_way"
    UNKNOWN = "unknown"  # the outcome of a call
    WAITS_FOR_CARD = "waits_for_card"
    NOT_HERE = "not_here"  # this installation may not send
    STOPPED = "stopped"
    TO_BE_HELD = "to_be_held"  # the next try holds it for an operator
    LOOK_UP = "look_up"  # an earlier attempt is looked up first
    OLDER_DEBT = "older_debt"
    CARD_STOPPED = "card_stopped"
    CARD_CAP = "card_cap"
    CARD_IN_USE = "card_in_use"  # a call for another charge of the card is under way
    SKIPPED = "skipped"  # periods before the next one
    SCHEDULED = "scheduled"
    DUE = "due"


class Check(StrEnum):
    """What must be so before a charge is tried; a charge is checked in this order."""

    IS_OWED = "is_owed"
    NOT_HELD = "not_held"
    GOES_ON = "goes_on"  # the subscription
    HAS_TIME = "has_time"  # the time of a next try is set
    MAY_SEND = "may_send"
    NOT_STOPPED = "not_stopped"
    IS_SOUND = "is_sound"  # no rule keeps it from being tried
    IS_CLEAR = "is_clear"  # no earlier attempt may be paid
    IS_OLDEST = "is_oldest"
    CARD_CAN_PAY = "card_can_pay"
    UNDER_CAP = "under_cap"
    IS_TIME = "is_time"
    CARD_IS_FREE = "card_is_free"  # no call for another charge of the card is under way


FAILS: dict[Reason, Check] = {
    Reason.PAID: Check.IS_OWED,
    Reason.CLOSED: Check.IS_OWED,
    Reason.HELD: Check.NOT_HELD,
    Reason.CANCELED: Check.GOES_ON,
    Reason.PAUSED: Check.GOES_ON,
    Reason.ENDS: Check.GOES_ON,
    Reason.UNDER_WAY: Check.HAS_TIME,
    Reason.UNKNOWN: Check.HAS_TIME,
    Reason.WAITS_FOR_CARD: Check.HAS_TIME,
    Reason.NOT_HERE: Check.MAY_SEND,
    Reason.STOPPED: Check.NOT_STOPPED,
    Reason.TO_BE_HELD: Check.IS_SOUND,
    Reason.LOOK_UP: Check.IS_CLEAR,
    Reason.OLDER_DEBT: Check.IS_OLDEST,
    Reason.CARD_STOPPED: Check.CARD_CAN_PAY,
    Reason.CARD_CAP: Check.UNDER_CAP,
    Reason.SKIPPED: Check.IS_TIME,
    Reason.SCHEDULED: Check.IS_TIME,
    Reason.CARD_IN_USE: Check.CARD_IS_FREE,
}


OF_CHARGE = tuple(check for check in Check if check is not Check.GOES_ON)
OF_SUBSCRIPTION = (
    Check.IS_SOUND, Check.GOES_ON, Check.NOT_HELD, Check.MAY_SEND, Check.NOT_STOPPED, Check.IS_OLDEST,
    Check.CARD_CAN_PAY, Check.IS_TIME,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Checked:
    """A check and whether it holds."""

    check: Check
    holds: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a charge is tried now, later, or not."""

    reason: Reason
    at: datetime | None = None  # when it is tried, if nothing changes before; None when no time is known
    fact: str = ""  # what the rule says beside the reason
    is_new: bool = False  # whether the try is a new attempt, under a merchant_uid that is not used yet

    def checks(self, order: Sequence[Check]) -> tuple[Checked, ...]:
        """The checks in this order, up to the first one that fails."""
        failing = FAILS.get(self.reason)
        reached = order if failing is None else order[: order.index(failing) + 1]
        return tuple(Checked(check, check is not failing) for check in reached)


@dataclass(frozen=True, slots=True)
class SubscriptionFacts:
    """The facts of a subscription that decide about its next period."""

    status: SubscriptionStatus
    is_held: bool
    ends_at: datetime | None
    due_at: datetime  # of the next period that is not skipped
    skips: bool  # whether a period before that one is skipped
    unfit: str | None  # why this installation may not send for the account
    obstacle: str | None  # why nothing is sent for the account
    ahead: str | None  # the key of an open charge of the subscription, which goes first
    card_stopped: bool  # its card can never pay


def of_charge(charge: ChargeFacts, earlier: EarlierFacts, now: datetime) -> Verdict:
    """Return why a charge is tried now, later, or not."""
    if not charge.status.is_owed:
        return Verdict(Reason.PAID if charge.status is ChargeStatus.PAID else Reason.CLOSED)
    if charge.is_held:
        return Verdict(Reason.HELD)
    if charge.next_attempt_at is None:
        return Verdict(_without_time(earlier.unresolved))
    at = max(now, charge.next_attempt_at)
    return _verdict(charge, earlier, now, at)


def of_subscription(facts: SubscriptionFacts, now: datetime) -> Verdict:
    """Return why the next period of a subscription is charged now, later, or not."""
    if facts.status is SubscriptionStatus.CANCELED:
        return Verdict(Reason.CANCELED)
    if facts.status is SubscriptionStatus.PAUSED:
        return Verdict(Reason.PAUSED)
    if facts.ends_at is not None and facts.due_at >= facts.ends_at:
        return Verdict(Reason.ENDS)
    if facts.is_held:
        return Verdict(Reason.HELD)
    if facts.unfit is not None:
        return Verdict(Reason.NOT_HERE, None, facts.unfit)
    if facts.obstacle is not None:
        return Verdict(Reason.STOPPED, None, facts.obstacle)
    if facts.ahead is not None:
        return Verdict(Reason.OLDER_DEBT, None, facts.ahead)
    if facts.card_stopped:
        return Verdict(Reason.CARD_STOPPED)
    if facts.due_at <= now:
        return Verdict(Reason.DUE, now)
    return Verdict(Reason.SKIPPED if facts.skips else Reason.SCHEDULED, facts.due_at)


def _without_time(unresolved: AttemptState | None) -> Reason:
    match unresolved:
        case AttemptState.UNKNOWN:
            return Reason.UNKNOWN
        case AttemptState.SENDING:
            return Reason.UNDER_WAY
        case _:  # an attempt that was not sent waits with its charge
            return Reason.WAITS_FOR_CARD


def _verdict(charge: ChargeFacts, earlier: EarlierFacts, now: datetime, at: datetime) -> Verdict:
    """Return what the rule of claiming says at a time, from the facts of now."""
    decision: Decision = screen(charge, at) or decide(charge, earlier, at)
    match decision:
        case GiveBack(why):
            return Verdict(Reason.NOT_HERE, None, why)
        case Stopped(why):
            return Verdict(Reason.STOPPED, None, why)
        case SetAside(why):
            return Verdict(Reason.TO_BE_HELD, None, why)
        case AskFirst() | AskAboutLast():
            return Verdict(Reason.LOOK_UP)
        case Behind(older):
            return Verdict(Reason.OLDER_DEBT, None, older)
        case CardStopped():
            return Verdict(Reason.CARD_STOPPED)
        case CardCapped(free_at):
            after = decide(charge, earlier, free_at)
            return Verdict(Reason.CARD_CAP, free_at if isinstance(after, Begin | SendAgain) else None)
        case LeaveToAttempt():
            return Verdict(_without_time(earlier.unresolved))
        case Begin() | SendAgain():
            reason = Reason.DUE if at == now else Reason.SCHEDULED
            return Verdict(reason, at, is_new=isinstance(decision, Begin))
        case NotDue():
            raise AssertionError("an owed charge with a time is due at that time")
        case _:
            assert_never(decision)
