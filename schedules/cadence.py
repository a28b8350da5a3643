"""How often: every so many days, weeks, months or years, or a cron text that describes dates."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any

from croniter import CroniterBadDateError, CroniterError, croniter

from schedules.errors import BadCadence

LONGEST = {"day": 3660, "week": 520, "month": 120, "year": 10}  # ten years: longer is a slip of the finger
SHORT_MONTH_DAYS = (29, 30, 31)  # days that some months do not have


class Unit(StrEnum):
    """What is counted."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


@dataclass(frozen=True, slots=True)
class Every:
    """Every so many units, counted from the anchor."""

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
        if any(mark in field for field in fields for mark in ("H", "R", "h(", "r(")) and not _is_plain(fields):
            raise BadCadence(
                f"cron text {self.text!r} holds a random or hashed part; dates must be the same each time"
            )
        try:
            croniter.expand(self.text)
            _next_fire(self.text, datetime(2000, 1, 1))  # noqa: DTZ001 # local dates have no zone
        except CroniterBadDateError:
            raise BadCadence(f"cron text {self.text!r} never fires; no month has such a day") from None
        except (CroniterError, ValueError, KeyError) as error:
            raise BadCadence(f"cron text {self.text!r} cannot be read: {error}") from None

    def wall_time(self) -> time:
        """The first time of day at which it fires."""
        minutes, hours = _expanded(self.text)[:2]
        return time(_least(hours), _least(minutes))

    def days_named(self) -> frozenset[int]:
        """The days of the month that it names; none when it takes any day."""
        days = _expanded(self.text)[2]
        return frozenset(day for day in days if isinstance(day, int))


Cadence = Every | Cron


def short_month_warning(cron: Cron) -> str | None:
    """What to tell a person whose cron text names days that some months do not have; None when it does not."""
    form = anchor_form(cron)
    if form is None:
        return None
    day = max(cron.days_named())
    return (
        f"cron text {cron.text!r} names day {day}, so it skips every month that has none; "
        f"for the last day of such months take --every 1 --unit month with an anchor on day {day}, "
        "or L for the last day of every month"
    )


def anchor_form(cron: Cron) -> Every | None:
    """The cadence that a cron text on day 29, 30 or 31 was most likely meant to be; None for any other text."""
    days = cron.days_named()
    if days & set(SHORT_MONTH_DAYS) and not days >= set(range(1, 32)):
        return Every(1, Unit.MONTH)
    return None


def fire_date_after(cron: Cron, day: date) -> date:
    """The first date after this one on which the cron text fires."""
    try:
        return _next_fire(cron.text, datetime.combine(day, time(23, 59, 59))).date()
    except (CroniterBadDateError, OverflowError, ValueError):
        raise BadCadence(f"cron text {cron.text!r} has no date after {day}") from None


def fire_date_from(cron: Cron, day: date) -> date:
    """The first date on or after this one on which the cron text fires."""
    if day == date.min:
        return fire_date_after(cron, day)
    return fire_date_after(cron, day - timedelta(days=1))


def _next_fire(text: str, after: datetime) -> datetime:
    # Naive local dates: no zone reaches croniter, so that no DST rule of its own can add or drop a date.
    found = croniter(text, after, ret_type=datetime).get_next()
    if not isinstance(found, datetime):
        raise BadCadence(f"cron text {text!r} gave {found!r}, not a date")
    return found


@lru_cache(maxsize=4096)
def _expanded(text: str) -> tuple[tuple[Any, ...], ...]:
    return tuple(tuple(field) for field in croniter.expand(text)[0])


def _least(field: tuple[Any, ...]) -> int:
    numbers = [value for value in field if isinstance(value, int)]
    return min(numbers) if numbers else 0


def _is_plain(fields: list[str]) -> bool:
    """Whether the letters H and R stand only in the names of months and weekdays."""
    names = ("MAR", "APR", "MARCH", "THU", "FRI", "THURSDAY", "FRIDAY")
    for field in fields:
        rest = field.upper()
        for name in names:
            rest = rest.replace(name, "")
        if "H" in rest or "R" in rest:
            return False
    return True
