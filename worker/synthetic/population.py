"""Customers whose charge has just been declined: the hidden reason, when a try is paid, and what the card says."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from random import Random

from schedules.calendar.zones import local_date, wall_to_utc
from worker.synthetic.assumptions import Assumptions
from worker.synthetic.incomes import SEOUL, Span, money
from worker.synthetic.wordings import PROVIDERS, WORDINGS, Saying

FOREVER = datetime(2100, 1, 1, tzinfo=UTC)
BEFORE = timedelta(days=40)  # a salary that came then may still be there
NIGHT = (time(23, 30), time(0, 30))  # banks behind check cards close their day
MENDING_SPREAD = 1.0  # sigma of the log-normal delay: most within days, some after weeks


class Reason(StrEnum):
    """Why the first try was declined; no policy sees it."""

    NO_MONEY = "no_money"
    LIMIT_DAY = "limit_day"
    LIMIT_MONTH = "limit_month"
    LIMIT_CARD_MONTH = "limit_card_month"
    VAGUE_NO_MONEY = "vague_no_money"
    VAGUE_PASSING = "vague_passing"
    VAGUE_DEAD = "vague_dead"
    OUTDATED = "outdated"
    LOST = "lost"
    ISSUER_DOWN = "issuer_down"
    LINE_FAULT = "line_fault"


MONEYLESS = frozenset({Reason.NO_MONEY, Reason.VAGUE_NO_MONEY})
DEAD = frozenset({Reason.VAGUE_DEAD, Reason.OUTDATED, Reason.LOST})  # no try with this card is ever paid
SAYINGS = {
    Reason.NO_MONEY: Saying.NO_MONEY,
    Reason.LIMIT_DAY: Saying.LIMIT_DAY,
    Reason.LIMIT_MONTH: Saying.LIMIT_MONTH,
    Reason.LIMIT_CARD_MONTH: Saying.LIMIT,
    Reason.VAGUE_NO_MONEY: Saying.VAGUE,
    Reason.VAGUE_PASSING: Saying.VAGUE,
    Reason.VAGUE_DEAD: Saying.VAGUE,
    Reason.OUTDATED: Saying.OUTDATED,
    Reason.LOST: Saying.LOST,
    Reason.ISSUER_DOWN: Saying.MAINTENANCE,
    Reason.LINE_FAULT: Saying.LINE_FAULT,
}


@dataclass(frozen=True, slots=True)
class Customer:
    """One debt and everything that is hidden about it; the same for every policy that collects it."""

    number: int
    amount: int  # KRW
    pg: str
    reason: Reason
    failed_at: datetime
    words: str  # with which the card declines
    night_words: str
    pays: tuple[Span, ...]  # when the card would pay
    closed_at_night: bool
    mends_at: datetime | None = None  # another card, or the same one put right
    pays_otherwise_at: datetime | None = None  # by hand, through the shop
    leaves_at: datetime | None = None


def answer(customer: Customer, at: datetime) -> str | None:
    """The words with which a try at this instant is declined; None when it is paid."""
    if customer.closed_at_night and is_night(at):
        return customer.night_words
    if is_mended(customer, at) or any(begin <= at < end for begin, end in customer.pays):
        return None
    return customer.words


def is_mended(customer: Customer, at: datetime) -> bool:
    """Whether the customer has given a card that pays by then."""
    return customer.mends_at is not None and customer.mends_at <= at


def is_dead(customer: Customer, at: datetime) -> bool:
    """Whether the card that is known at this instant can never pay."""
    return customer.reason in DEAD and not is_mended(customer, at)


def is_night(at: datetime) -> bool:
    """Whether it is around midnight in Seoul."""
    local = at.astimezone(SEOUL).time()
    return local >= NIGHT[0] or local < NIGHT[1]


def drawn(count: int, seed: int, days: int, assumed: Assumptions) -> Iterator[Customer]:
    """As many customers as asked for; each is drawn from the seed and its own number."""
    for number in range(count):
        yield draw(number, Random(f"{seed}/{number}"), days, assumed)  # noqa: S311 # a model, no secret


def draw(number: int, rng: Random, days: int, assumed: Assumptions) -> Customer:
    """One customer whose first try was declined, with what will be during the days after it."""
    (reason,) = rng.choices(list(Reason), [getattr(assumed, name.value) for name in Reason])
    (pg,) = rng.choices(list(PROVIDERS), list(PROVIDERS.values()))
    (amount,) = rng.choices(list(assumed.prices), list(assumed.prices.values()))
    failed_at, pays = _failed(rng, reason, days, assumed)
    return Customer(
        number=number,
        amount=amount,
        pg=pg,
        reason=reason,
        failed_at=failed_at,
        words=rng.choice(WORDINGS[pg][SAYINGS[reason]]),
        night_words=rng.choice(WORDINGS[pg][Saying.MAINTENANCE]),
        pays=pays,
        closed_at_night=rng.random() < assumed.night_closed,
        mends_at=_mends_at(rng, reason, failed_at, assumed),
        pays_otherwise_at=_hazard(rng, failed_at, assumed.pays_otherwise_within_month),
        leaves_at=_hazard(rng, failed_at, assumed.leaves_within_month),
    )


def _failed(rng: Random, reason: Reason, days: int, assumed: Assumptions) -> tuple[datetime, tuple[Span, ...]]:
    """When the first try was declined, and when a later one would be paid.

    Who is short of money was billed on some day on which it was not there, so that more declines fall late in
    the customer's month of pay.
    """
    while True:
        day = assumed.begins + timedelta(days=rng.randrange(assumed.over_days))
        (hour,) = rng.choices(list(assumed.billing_hours), list(assumed.billing_hours.values()))
        at = wall_to_utc(day, time(hour, rng.randrange(20), rng.randrange(60)), SEOUL)
        if reason not in MONEYLESS:
            return at, _passing(rng, reason, at, assumed)
        pays = money(rng, assumed, at - BEFORE, at + timedelta(days=days + 1))
        if not any(begin <= at < end for begin, end in pays):
            return at, tuple(span for span in pays if span[0] > at)


def _passing(rng: Random, reason: Reason, at: datetime, assumed: Assumptions) -> tuple[Span, ...]:
    today = local_date(at, SEOUL)
    match reason:
        case Reason.LIMIT_DAY:
            days = 2 if rng.random() < assumed.limit_hit_again else 1
            free = wall_to_utc(today + timedelta(days=days), time(0), SEOUL)
        case Reason.LIMIT_MONTH:
            free = wall_to_utc(_first_of_next_month(today), time(0), SEOUL)
        case Reason.LIMIT_CARD_MONTH:
            # The limit is free again on the day after the card's bill was paid, on a day of the customer's own.
            free = at + timedelta(days=rng.uniform(0, 30))
        case Reason.VAGUE_PASSING:
            free = at + timedelta(hours=rng.expovariate(1 / assumed.vague_passes_hours))
        case Reason.ISSUER_DOWN:
            free = at + timedelta(hours=rng.expovariate(1 / assumed.issuer_down_hours))
        case Reason.LINE_FAULT:
            free = at + timedelta(hours=rng.expovariate(1 / assumed.line_fault_hours))
        case _:
            return ()
    return ((free, FOREVER),)


def _first_of_next_month(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=31)).replace(day=1)


def _mends_at(rng: Random, reason: Reason, failed_at: datetime, assumed: Assumptions) -> datetime | None:
    match reason:
        case Reason.OUTDATED:
            share, typical = assumed.mends_outdated, assumed.mends_after_days
        case Reason.LOST:
            share, typical = assumed.mends_lost, assumed.mends_lost_after_days
        case Reason.VAGUE_NO_MONEY | Reason.VAGUE_PASSING | Reason.VAGUE_DEAD:
            share, typical = assumed.mends_vague, assumed.mends_after_days
        case Reason.LIMIT_DAY | Reason.LIMIT_MONTH | Reason.LIMIT_CARD_MONTH:
            share, typical = assumed.mends_limit, assumed.mends_after_days
        case Reason.NO_MONEY:
            share, typical = assumed.mends_no_money, assumed.mends_after_days
        case Reason.ISSUER_DOWN | Reason.LINE_FAULT:
            share, typical = 0.0, assumed.mends_after_days
    mends, delay = rng.random() < share, typical * math.exp(rng.gauss(0, MENDING_SPREAD))
    return failed_at + timedelta(days=delay) if mends else None


def _hazard(rng: Random, failed_at: datetime, within_month: float) -> datetime | None:
    """When something happens that does so to this share within thirty days, as likely on one day as on another."""
    luck = rng.random()
    if not within_month:
        return None
    days = -30 * math.log(1 - luck) / -math.log(1 - within_month)
    return failed_at + timedelta(days=min(days, 365.0))
