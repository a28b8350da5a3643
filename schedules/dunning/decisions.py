"""What comes after an answer: collected, send again, ask, try again, wait for a card, or give up."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from enum import Enum
from functools import lru_cache
from typing import assert_never
from zoneinfo import ZoneInfo

from schedules.calendar.shifts import Shift, shifted
from schedules.calendar.zones import local_date, wall_to_utc, zone
from schedules.charging.outcomes import Declined, NotSent, Outcome, Paid, Refused, Unknown, Voided
from schedules.dunning.card_limits import LimitSpan
from schedules.dunning.declines import INDEFINITE, DeclineClass
from schedules.dunning.policies import MONTH_END, DunningPolicy, FinalAction, Hours, Way

# A gateway that is down is tried often at first and hourly in the end; none of these uses up a rung.
TECHNICAL_DELAYS = tuple(timedelta(seconds=s) for s in (30, 60, 120, 300, 600, 1800, 3600))
# A fault of our own set-up needs a person; the customer is not touched, and the debt is never given up.
REFUSED_DELAYS = (timedelta(hours=1), timedelta(hours=6), timedelta(days=1))
# Answers that say nothing of the card, each asked about: some 30 hours, after which a person must look.
MOST_UNANSWERED = 12
# After downtime several rungs may be past at once; they must not be used up within one minute.
LEAST_SPACING = timedelta(hours=6)
SPREAD = timedelta(hours=1)  # tries that are moved to the beginning of the allowed hours are spread over this
_MOST_DAYS = 190  # longer than any patience lasts
# Nothing but another card, or a person's act, can help.
NEEDS_CARD = frozenset({DeclineClass.NEVER_AGAIN, DeclineClass.CUSTOMER_MUST_ACT})
# The card said nothing: these are no declines of the customer, who is not told and not chased.
NOT_THE_CARD = frozenset({DeclineClass.NOT_A_DECLINE, DeclineClass.SETUP_FAULT})


class Counter(Enum):
    """What a try that did not collect is counted as; three things that are never mixed, and nothing."""

    TECHNICAL = "technical_tries"
    RUNG = "declines"
    MANUAL = "manual_tries"
    REFUSAL = "refusals"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class History:
    """What has come of a charge so far."""

    first_declined_at: datetime | None = None
    declines: int = 0  # automatic tries that were declined since the ladder began
    technical_tries: int = 0
    refusals: int = 0
    manual_tries: int = 0
    ladder_began_at: datetime | None = None  # its first decline, or the first one of a new card
    unanswered_tries: int = 0  # answers in a row that said nothing of the card


@dataclass(frozen=True, slots=True)
class Debt:
    """What is known of a charge when an answer to an attempt at it comes."""

    policy: DunningPolicy
    history: History = field(default_factory=History)
    uid: str = ""  # of the attempt; spreads tries that would fall on one instant
    zone: str = "Asia/Seoul"
    by_person: bool = False  # the attempt was a person's try
    stopped: bool = False  # a person has ended the subscription: nothing is tried again by itself
    old_card: bool = False  # the card has changed since the attempt was sent: its answer is about another one
    planned_at: datetime | None = None  # when the ladder would have tried, had no person been faster


@dataclass(frozen=True, slots=True)
class Said:
    """What the words of a decline mean, and when the card's cap lets it be tried again."""

    decline_class: DeclineClass = DeclineClass.UNKNOWN_WORD
    span: LimitSpan | None = None
    card_free_at: datetime | None = None
    definite: bool = True  # False when the text also leaves open whether money moved

    @property
    def keeps_uid(self) -> bool:
        """Whether the next try must use the same merchant_uid, because this one may have been paid.

        The gateway refuses a uid that is paid; it cannot refuse a new one.
        """
        return not self.definite or self.decline_class in INDEFINITE


@dataclass(frozen=True, slots=True)
class Collected:
    """The money is there."""


@dataclass(frozen=True, slots=True)
class SendAgain:
    """Send the same merchant_uid again at this time: a technical retry, or after a text that decides nothing."""

    at: datetime


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Start a new attempt, with a new merchant_uid, at this time."""

    at: datetime


@dataclass(frozen=True, slots=True)
class WaitForCard:
    """Try no more with this card; the final action comes when the policy's patience ends."""


@dataclass(frozen=True, slots=True)
class AskGateway:
    """Do nothing to the charge; the attempt is asked about until it is clear."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """Stop this charge and call a person."""

    why: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The ladder has ended."""

    final: FinalAction


Decision = Collected | SendAgain | TryAgain | WaitForCard | AskGateway | SetAside | GiveUp


def decide(outcome: Outcome, debt: Debt, now: datetime, said: Said | None = None) -> Decision:
    """What to do after an answer; the debt's history is as it was before it."""
    match outcome:
        case Paid():
            return Collected()
        case Declined():
            said = said or Said()
            decision = _after_decline(debt, said, outcome.reason, now)
            return SendAgain(decision.at) if isinstance(decision, TryAgain) and said.keeps_uid else decision
        case Refused() if debt.old_card and not debt.stopped:
            return TryAgain(now)
        case Refused():
            return TryAgain(now + _nth(REFUSED_DELAYS, debt.history.refusals))
        case NotSent():
            return SendAgain(now + _technical_delay(debt))
        case Voided():
            return TryAgain(now)
        case Unknown(reason, mismatch):
            return SetAside(reason) if mismatch else AskGateway()
        case _:
            assert_never(outcome)


def counter(outcome: Outcome, debt: Debt, said: Said | None = None) -> Counter:
    """What this try is counted as: only an automatic try that the card declined uses up a rung."""
    decline_class = (said or Said()).decline_class
    match outcome:
        case NotSent():
            return Counter.TECHNICAL
        case Refused():
            return Counter.REFUSAL
        case Declined() if debt.old_card:
            return Counter.NOTHING
        case Declined() if decline_class is DeclineClass.SETUP_FAULT:
            return Counter.REFUSAL
        case Declined() if decline_class is DeclineClass.NOT_A_DECLINE:
            return Counter.TECHNICAL
        case Declined():
            return Counter.MANUAL if debt.by_person else Counter.RUNG
        case Paid() | Unknown() | Voided():
            return Counter.NOTHING
        case _:
            assert_never(outcome)


def deadline(policy: DunningPolicy, ladder_began_at: datetime) -> datetime:
    """When the final action comes, if nothing is tried any more by then."""
    return ladder_began_at + policy.patience


def _after_decline(debt: Debt, said: Said, reason: str, now: datetime) -> Decision:
    history = debt.history
    if debt.old_card and not debt.stopped:
        return TryAgain(now)
    if said.decline_class is DeclineClass.SETUP_FAULT:
        return TryAgain(now + _nth(REFUSED_DELAYS, history.refusals))
    if said.decline_class is DeclineClass.NOT_A_DECLINE:
        answers = history.unanswered_tries + 1
        if answers >= MOST_UNANSWERED:
            return SetAside(f"{answers} answers in a row say nothing of the card, the last: {reason}")
        return TryAgain(now + _technical_delay(debt))
    ends = debt.stopped or said.decline_class in NEEDS_CARD
    at = None if ends else _next_try(debt, said, now)
    if at is not None:
        return TryAgain(_allowed(max(at, said.card_free_at or at), debt))
    if deadline(debt.policy, history.ladder_began_at or now) > now:
        return WaitForCard()
    return GiveUp(debt.policy.final)


def _next_try(debt: Debt, said: Said, now: datetime) -> datetime | None:
    if debt.by_person:
        # A person's try changes nothing in the ladder's plan; there is none when it waits for a card.
        return None if debt.planned_at is None else max(debt.planned_at, now + LEAST_SPACING)
    way = debt.policy.way(_acts_as(said.decline_class))
    began = debt.history.ladder_began_at or now
    at = _next_rung(way, debt.history.declines, began, now)
    if way.resets and said.span is LimitSpan.MONTH:
        at = None  # until then every try is in vain
    elif way.resets and said.span is LimitSpan.DAY and at is not None:
        tz = zone(debt.zone)
        at = wall_to_utc(local_date(now, tz) + timedelta(days=1), debt.policy.hours.begin, tz)
    dated = next(_dates(way, debt, now), None)
    if dated is not None and dated <= deadline(debt.policy, began):
        return dated if at is None else min(at, dated)
    return at


def _acts_as(decline_class: DeclineClass) -> DeclineClass:
    """An outcome that stayed unclear and is a decline at last came of a fault that passes."""
    return DeclineClass.LATER if decline_class is DeclineClass.UNKNOWN_OUTCOME else decline_class


def _next_rung(way: Way, declines: int, began: datetime, now: datetime) -> datetime | None:
    if declines >= len(way.ladder):
        return None
    gap = way.ladder[declines] - (way.ladder[declines - 1] if declines else timedelta(0))
    return max(began + way.ladder[declines], now + min(gap, LEAST_SPACING))


def _dates(way: Way, debt: Debt, now: datetime) -> Iterator[datetime]:
    """The paydays, and the firsts of the month on which limits begin anew, in order."""
    if not way.paydays and not way.resets:
        return
    tz = zone(debt.zone)
    today = local_date(now, tz)
    for day in (today + timedelta(days=n) for n in range(_MOST_DAYS)):
        # A salary comes in the course of the morning; a limit begins anew with the day.
        payday = wall_to_utc(day, debt.policy.payday_time, tz)
        if payday >= now + LEAST_SPACING and day in _paydays(way, day.year, day.month, debt.policy.holidays):
            yield payday
        elif way.resets and day.day == 1 and day > today:
            yield wall_to_utc(day, debt.policy.hours.begin, tz)


@lru_cache(maxsize=512)
def _paydays(way: Way, year: int, month: int, country: str | None) -> frozenset[date]:
    """The dates on which salaries of a month come, and of the next: on a day off, the business day before."""
    first = date(year, month, 1)
    following = (first + timedelta(days=31)).replace(day=1)
    months = ((first, following), (following, (following + timedelta(days=31)).replace(day=1)))
    named = (
        after - timedelta(days=1) if payday == MONTH_END else begin.replace(day=payday)
        for begin, after in months
        for payday in way.paydays
    )
    return frozenset(shifted(day, Shift.PREVIOUS, country) for day in named)


def _allowed(at: datetime, debt: Debt) -> datetime:
    """This instant, or the next one within the allowed hours of the local day."""
    hours, tz = debt.policy.hours, zone(debt.zone)
    local = at.astimezone(tz)
    if hours.begin <= local.time() and (hours.end is None or local.time() < hours.end):
        return at
    day = local.date() if local.time() < hours.begin else local.date() + timedelta(days=1)
    return wall_to_utc(day, hours.begin, tz) + _spread(hours, debt, tz)


def _spread(hours: Hours, debt: Debt, tz: ZoneInfo) -> timedelta:
    """Tries that a night held back do not all leave in the first minute of the morning."""
    end = datetime.combine(date(2000, 1, 1), hours.end or time(23, 59), tz)
    room = end - datetime.combine(date(2000, 1, 1), hours.begin, tz)
    return min(SPREAD, room) * _share(debt.uid)


def _technical_delay(debt: Debt) -> timedelta:
    tries = debt.history.technical_tries
    return _nth(TECHNICAL_DELAYS, tries) * (0.5 + _share(f"{debt.uid}/{tries}"))


def _nth(delays: tuple[timedelta, ...], n: int) -> timedelta:
    return delays[min(n, len(delays) - 1)]


def _share(text: str) -> float:
    """A share in [0, 1) that differs between attempts, so that an outage's end is no stampede."""
    return zlib.crc32(text.encode()) / 2**32
