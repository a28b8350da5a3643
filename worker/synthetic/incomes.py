"""When a customer who had no money has some again: salaries, irregular incomes, strays, and how long they last."""

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from random import Random

from schedules.calendar.shifts import Shift, shifted
from schedules.calendar.zones import wall_to_utc, zone
from worker.synthetic.assumptions import MONTH_END, Assumptions

SEOUL = zone("Asia/Seoul")
COUNTRY = "KR"

# From its first instant up to its last, a try is paid.
Span = tuple[datetime, datetime]


def money(rng: Random, assumed: Assumptions, begin: datetime, end: datetime) -> tuple[Span, ...]:
    """The spans between two instants in which one customer's account covers the charge."""
    kinds = ("payday_bound", "irregular", "never")
    (kind,) = rng.choices(kinds, [assumed.payday_bound, assumed.irregular, assumed.never])
    if kind == "never":
        return ()
    strays = _now_and_then(rng, assumed.stray_gap_days, assumed.stray_lasts_days, begin, end)
    if kind == "irregular":
        incomes = _now_and_then(rng, assumed.irregular_gap_days, assumed.irregular_lasts_days, begin, end)
    else:
        incomes = _salaries(rng, assumed, begin, end)
    return tuple(sorted([*incomes, *strays]))


def _salaries(rng: Random, assumed: Assumptions, begin: datetime, end: datetime) -> Iterator[Span]:
    (payday,) = rng.choices(list(assumed.paydays), list(assumed.paydays.values()))
    shift = Shift.PREVIOUS if rng.random() < assumed.paid_before_day_off else Shift.NEXT
    hour = rng.triangular(assumed.arrives_earliest_hour, assumed.arrives_latest_hour, assumed.arrives_mostly_hour)
    for day in _dates(payday, shift, begin.date(), end.date()):
        shape = assumed.money_lasts_shape
        lasts = rng.gammavariate(shape, assumed.money_lasts_days / shape)
        at_once = rng.random() < assumed.debited_at_once
        if not at_once:
            arrives = wall_to_utc(day, time(0), SEOUL) + timedelta(hours=hour)
            yield arrives, arrives + timedelta(days=lasts)


@lru_cache(maxsize=4096)
def _dates(payday: int, shift: Shift, first: date, last: date) -> tuple[date, ...]:
    """The dates of a payday from one date to another, moved off the days on which no bank pays."""
    found = []
    month = first.replace(day=1)
    while month <= last:
        following = (month + timedelta(days=31)).replace(day=1)
        day = following - timedelta(days=1) if payday == MONTH_END else month.replace(day=payday)
        found.append(shifted(day, shift, COUNTRY))
        month = following
    return tuple(found)


def _now_and_then(rng: Random, gap: float, lasts: float, begin: datetime, end: datetime) -> Iterator[Span]:
    """Incomes at random, with mean gap and mean duration in days; at any hour."""
    at = begin + timedelta(days=rng.expovariate(1 / gap))
    while at < end:
        yield at, at + timedelta(days=rng.expovariate(1 / lasts))
        at += timedelta(days=rng.expovariate(1 / gap))
