"""Decide what follows an outcome: collected, resend, look up, retry, wait for a card, or give up."""

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

# Retries while the gateway is down: frequent at first, hourly at the end. None uses up a rung.
TECHNICAL_DELAYS = tuple(timedelta(seconds=s) for s in (30, 60, 120, 300, 600, 1800, 3600))
# A wrong set-up of ours needs a person. The customer is not affected, and the debt is never given up.
REFUSED_DELAYS = (timedelta(hours=1), timedelta(hours=6), timedelta(days=1))
# Answers without a result for the card, each looked up: about 30 hours, then an operator must decide.
MOST_UNANSWERED = 12
# After downtime several rungs may be overdue at once; they must not be used up within one minute.
LEAST_SPACING = timedelta(hours=6)
SPREAD = timedelta(hours=1)  # span over which retries are spread that are moved to the start of the allowed hours
_MOST_DAYS = 190  # longer than the longest wait of a policy
# Only another card, or an act of a person, can help.
NEEDS_CARD = frozenset({DeclineClass.NEVER_AGAIN, DeclineClass.CUSTOMER_MUST_ACT})
# No result for the card: these are no declines, so the customer is not notified.
NOT_THE_CARD = frozenset({DeclineClass.NOT_A_DECLINE, DeclineClass.SETUP_FAULT})


class Counter(Enum):
    """The counter that a failed try increments; the three counters are independent."""

    TECHNICAL = "technical_tries"
    RUNG = "declines"
    MANUAL = "manual_tries"
    REFUSAL = "refusals"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class History:
    """The counters and times of a charge so far."""

    first_declined_at: datetime | None = None
    declines: int = 0  # declined automatic tries since the ladder started
    technical_tries: int = 0
    refusals: int = 0
    manual_tries: int = 0
    ladder_began_at: datetime | None = None  # its first decline, or the first one of a new card
    unanswered_tries: int = 0  # answers in a row without a result for the card


@dataclass(frozen=True, slots=True)
class Debt:
    """The facts of a charge at the time of an outcome."""

    policy: DunningPolicy
    history: History = field(default_factory=History)
    uid: str = ""  # of the attempt; spreads tries that would be due at one instant
    zone: str = "Asia/Seoul"
    by_person: bool = False  # the attempt was a person's try
    stopped: bool = False  # a person has ended the subscription: no automatic retry
    old_card: bool = False  # the card has changed since the attempt was sent
    planned_at: datetime | None = None  # next try of the ladder, before a person's try


@dataclass(frozen=True, slots=True)
class Said:
    """The class of a decline's text, and the earliest retry that the card's cap allows."""

    decline_class: DeclineClass = DeclineClass.UNKNOWN_WORD
    span: LimitSpan | None = None
    card_free_at: datetime | None = None
    definite: bool = True  # False when the text does not say whether money moved

    @property
    def keeps_uid(self) -> bool:
        """Whether the next try must use the same merchant_uid, because this one may be paid.

        The gateway refuses a second payment of a paid uid; a new uid would be charged.
        """
        return not self.definite or self.decline_class in INDEFINITE


@dataclass(frozen=True, slots=True)
class Collected:
    """The charge is paid."""


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
    """Leave the charge; the attempt is looked up until its outcome is known."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """Hold this charge for an operator."""

    why: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The ladder has ended."""

    final: FinalAction


Decision = Collected | SendAgain | TryAgain | WaitForCard | AskGateway | SetAside | GiveUp


def decide(outcome: Outcome, debt: Debt, now: datetime, said: Said | None = None) -> Decision:
    """Decide what to do after an outcome; `facts` holds the history before it."""
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
    """Return the counter of this try; only a declined automatic try uses up a rung."""
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
    """Return when the final action is due if no other try is made."""
    return ladder_began_at + policy.patience


def is_dated(at: datetime, debt: Debt, decline_class: DeclineClass, declined_at: datetime) -> bool:
    """Whether a try after a decline is planned for a payday or the first day of a month, not for a rung."""
    dated = next(_dates(debt.policy.way(_acts_as(decline_class)), debt, declined_at), None)
    return dated is not None and _allowed(dated, debt) == at


def _after_decline(debt: Debt, said: Said, reason: str, now: datetime) -> Decision:
    history = debt.history
    if debt.old_card and not debt.stopped:
        return TryAgain(now)
    if said.decline_class is DeclineClass.SETUP_FAULT:
        return TryAgain(now + _nth(REFUSED_DELAYS, history.refusals))
    if said.decline_class is DeclineClass.NOT_A_DECLINE:
        answers = history.unanswered_tries + 1
        if answers >= MOST_UNANSWERED:
            return SetAside(f"{answers} answers in a row without a result for the card, the last: {reason}")
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
        # A person's try does not move the ladder's next try; there is none while the charge waits for a card.
        return None if debt.planned_at is None else max(debt.planned_at, now + LEAST_SPACING)
    way = debt.policy.way(_acts_as(said.decline_class))
    began = debt.history.ladder_began_at or now
    at = _next_rung(way, debt.history.declines, began, now)
    if way.resets and said.span is LimitSpan.MONTH:
        at = None  # every earlier try would be declined
    elif way.resets and said.span is LimitSpan.DAY and at is not None:
        tz = zone(debt.zone)
        at = wall_to_utc(local_date(now, tz) + timedelta(days=1), debt.policy.hours.begin, tz)
    dated = next(_dates(way, debt, now), None)
    if dated is not None and dated <= deadline(debt.policy, began):
        return dated if at is None else min(at, dated)
    return at


def _acts_as(decline_class: DeclineClass) -> DeclineClass:
    """An unknown outcome that was resolved as a decline has a temporary cause."""
    return DeclineClass.LATER if decline_class is DeclineClass.UNKNOWN_OUTCOME else decline_class


def _next_rung(way: Way, declines: int, began: datetime, now: datetime) -> datetime | None:
    if declines >= len(way.ladder):
        return None
    gap = way.ladder[declines] - (way.ladder[declines - 1] if declines else timedelta(0))
    return max(began + way.ladder[declines], now + min(gap, LEAST_SPACING))


def _dates(way: Way, debt: Debt, now: datetime) -> Iterator[datetime]:
    """Yield the paydays and the first days of months, on which limits start again, in order."""
    if not way.paydays and not way.resets:
        return
    tz = zone(debt.zone)
    today = local_date(now, tz)
    for day in (today + timedelta(days=n) for n in range(_MOST_DAYS)):
        # Salaries arrive during the morning; a limit starts again at midnight.
        payday = wall_to_utc(day, debt.policy.payday_time, tz)
        if payday >= now + LEAST_SPACING and day in _paydays(way, day.year, day.month, debt.policy.holidays):
            yield payday
        elif way.resets and day.day == 1 and day > today:
            yield wall_to_utc(day, debt.policy.hours.begin, tz)


@lru_cache(maxsize=512)
def _paydays(way: Way, year: int, month: int, country: str | None) -> frozenset[date]:
    """Return the paydays of a month and the next; a payday on a day off moves to the business day before."""
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
    """Return this instant, or the next one within the allowed hours of the local day."""
    hours, tz = debt.policy.hours, zone(debt.zone)
    local = at.astimezone(tz)
    if hours.begin <= local.time() and (hours.end is None or local.time() < hours.end):
        return at
    day = local.date() if local.time() < hours.begin else local.date() + timedelta(days=1)
    return wall_to_utc(day, hours.begin, tz) + _spread(hours, debt, tz)


def _spread(hours: Hours, debt: Debt, tz: ZoneInfo) -> timedelta:
    """Spread the tries that were postponed to the start of the allowed hours."""
    end = datetime.combine(date(2000, 1, 1), hours.end or time(23, 59), tz)
    room = end - datetime.combine(date(2000, 1, 1), hours.begin, tz)
    return min(SPREAD, room) * _share(debt.uid)


def _technical_delay(debt: Debt) -> timedelta:
    tries = debt.history.technical_tries
    return _nth(TECHNICAL_DELAYS, tries) * (0.5 + _share(f"{debt.uid}/{tries}"))


def _nth(delays: tuple[timedelta, ...], n: int) -> timedelta:
    return delays[min(n, len(delays) - 1)]


def _share(text: str) -> float:
    """Return a share in [0, 1) that differs between attempts, so that retries after an outage are spread."""
    return zlib.crc32(text.encode()) / 2**32
