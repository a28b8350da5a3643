"""Cadences: every n days, weeks, months or years, or a cron expression that describes dates."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any

from croniter import CroniterBadDateError, CroniterError, croniter

from schedules.errors import BadCadence

LONGEST = {"day": 3660, "week": 520, "month": 120, "year": 10}  # ten years; more is a typing error
SHORT_MONTH_DAYS = (29, 30, 31)  # days that some months do not have
_MONTH_LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)  # February's 29th is skipped in most years
# croniter's own extensions, in either case: `r`, `h/10`, `R(1-5)`. It accepts random ones without an error.
_RANDOM = re.compile(r"[hr](\(.*)?(/.*)?", re.IGNORECASE)


class Unit(StrEnum):
    """The unit of a cadence."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


@dataclass(frozen=True, slots=True)
class Every:
    """Every `every` units, counted from the anchor."""

    every: int
    unit: Unit

    def __post_init__(self) -> None:
        if type(self.every) is not int or not 1 <= self.every <= LONGEST[self.unit.value]:
            most = LONGEST[self.unit.value]
            raise BadCadence(f"every {self.every!r} {self.unit.value}s is not possible; take 1 to {most}")


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron text of five fields; it names dates, one for each local day on which it fires."""

    text: str

    def __post_init__(self) -> None:
        fields = self.text.split()
        if len(fields) != 5:
            raise BadCadence(
                f"cron text {self.text!r} has {len(fields)} fields; give five: minute hour day month weekday"
            )
        if any(_RANDOM.fullmatch(field) for field in fields):
            raise BadCadence(
                f"cron text {self.text!r} holds a random or hashed part; dates must be the same each time"
            )
        try:
            croniter.expand(self.text)
            next(_fires(self.text, datetime(2000, 1, 1)))  # noqa: DTZ001 # local dates have no zone
        except CroniterBadDateError:
            raise BadCadence(f"cron text {self.text!r} never fires; no month has such a day") from None
        except (CroniterError, ValueError, KeyError) as error:
            raise BadCadence(f"cron text {self.text!r} cannot be read: {error}") from None

    def wall_time(self) -> time:
        """The first time of day at which it fires, the same on each of its dates."""
        minutes, hours = _expanded(self.text)[:2]
        return time(_least(hours), _least(minutes))

    def days_named(self) -> frozenset[int]:
        """The days of the month that it names; none when it takes any day."""
        days = _expanded(self.text)[2]
        return frozenset(day for day in days if isinstance(day, int))


Cadence = Every | Cron


def short_month_warning(cron: Cron) -> str | None:
    """Return a warning for a cron text with days that some of its months do not have; None for any other."""
    short = _short_days(cron)
    if not short:
        return None
    form = anchor_form(cron)
    offers = []
    if form is not None:
        day = max(cron.days_named())
        offers.append(
            f"--every {form.every} --unit {form.unit} with an anchor on day {day} of one of its months, "
            "which falls on the last day of a shorter month"
        )
    if 31 in short:
        offers.append("L instead of 31 for the last day of every month")
    named = " and ".join(str(day) for day in short)
    return (
        f"cron text {cron.text!r} names day {named}, so it skips every month that has none; "
        f"take {', or '.join(offers) or 'days up to 28'}"
    )


def many_times_warning(cron: Cron) -> str | None:
    """Return a warning for a cron text that fires more than once a day, since a day is billed once; else None."""
    minutes, hours = _expanded(cron.text)[:2]
    times = (60 if "*" in minutes else len(minutes)) * (24 if "*" in hours else len(hours))
    if times == 1:
        return None
    first = f"at {cron.wall_time():%H:%M} unless --time is given"
    return f"cron text {cron.text!r} fires {times} times a day; a day is billed once, {first}"


def anchor_form(cron: Cron) -> Every | None:
    """Return the cadence that a cron text on days 29 to 31 probably means, anchored on its last day.

    None when no month is skipped, or when one anchor cannot express it (earlier days, weekdays, uneven months).
    """
    _, _, days, _, weekdays = _expanded(cron.text)
    if not _short_days(cron) or not set(days) <= set(SHORT_MONTH_DAYS) or weekdays != ("*",):
        return None
    months = _months(cron)
    step = 12 // len(months)
    if months != tuple(range(months[0], 13, step))[: len(months)] or step * len(months) != 12:
        return None
    return Every(1, Unit.YEAR) if step == 12 else Every(step, Unit.MONTH)


def fire_date_after(cron: Cron, day: date) -> date:
    """The first date after this one on which the cron text fires."""
    try:
        return next(_fires(cron.text, datetime.combine(day, time(23, 59, 59)))).date()
    except (CroniterBadDateError, OverflowError, ValueError):
        raise BadCadence(f"cron text {cron.text!r} has no date after {day}") from None


def fire_dates(cron: Cron, first: date) -> Iterator[date]:
    """Yield each date from this one on which the cron text fires; raise BadCadence at the end of the calendar."""
    last = first
    try:
        for fire in _fires(cron.text, datetime.combine(first, time(0)) - timedelta(seconds=1)):
            last = fire.date()
            yield last
    except (CroniterBadDateError, OverflowError, ValueError):
        raise BadCadence(f"cron text {cron.text!r} has no date after {last}") from None


def _fires(text: str, after: datetime) -> Iterator[datetime]:
    """The midnights, after a time, of the days on which a cron text fires."""
    # Naive local dates: croniter gets no zone, so that its DST rules cannot add or drop a date.
    days = croniter("0 0 " + " ".join(text.split()[2:]), after, ret_type=datetime)
    while True:
        found = days.get_next()
        if not isinstance(found, datetime):
            raise BadCadence(f"cron text {text!r} gave {found!r}, not a date")
        yield found


def _months(cron: Cron) -> tuple[int, ...]:
    months = [month for month in _expanded(cron.text)[3] if isinstance(month, int)]
    return tuple(sorted(months)) or tuple(range(1, 13))


def _short_days(cron: Cron) -> tuple[int, ...]:
    """Return the named days that at least one of its months does not have, in order."""
    if "w" in cron.text.split()[2].lower():  # `31W` is the workday nearest to it, within every month
        return ()
    shortest = min(_MONTH_LENGTHS[month - 1] for month in _months(cron))
    return tuple(day for day in SHORT_MONTH_DAYS if day in cron.days_named() and day > shortest)


@lru_cache(maxsize=4096)
def _expanded(text: str) -> tuple[tuple[Any, ...], ...]:
    return tuple(tuple(field) for field in croniter.expand(text)[0])


def _least(field: tuple[Any, ...]) -> int:
    numbers = [value for value in field if isinstance(value, int)]
    return min(numbers) if numbers else 0
