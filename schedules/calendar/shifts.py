"""Shifts: a charge date on a weekend or a public holiday may move; the anchor and the next period never move."""

from datetime import date, timedelta
from enum import StrEnum
from functools import lru_cache

from schedules.errors import BadCadence, BadPlan

SATURDAY = 5  # of `date.weekday`


class Shift(StrEnum):
    """The direction in which a date moves to a business day."""

    NONE = "none"
    NEXT = "next"
    PREVIOUS = "previous"


def checked_country(country: str) -> str:
    """The country, if its holidays are known."""
    if country not in _countries():
        hint = (
            f"did you mean {country.upper()!r}?" if country.upper() in _countries() else "take a code such as KR"
        )
        raise BadPlan(f"country {country!r} has no calendar of holidays under an ISO 3166 code; {hint}")
    return country


def shifted(day: date, shift: Shift, country: str | None) -> date:
    """The date on which to charge: this one, or the nearest business day in the shift's direction.

    The country's calendar contains its weekend, its holidays and its substitute workdays; without a country only
    Saturdays and Sundays are no business days.
    """
    if shift is Shift.NONE:
        return day
    step = timedelta(days=1 if shift is Shift.NEXT else -1)
    moved = day
    try:
        while _is_off(moved, country):
            moved += step
    except OverflowError:
        raise BadCadence(f"{day} has no {shift.value} business day within the years 1 to 9999") from None
    return moved


def _is_off(day: date, country: str | None) -> bool:
    if country is None:
        return day.weekday() >= SATURDAY
    return day in _days_off(checked_country(country), day.year)


@lru_cache(maxsize=512)
def _days_off(country: str, year: int) -> frozenset[date]:
    """Return a year's days off; the set is complete before it is shared between threads."""
    # Imported when a plan has a country: the import takes longer than the rest of a command.
    import holidays as calendars

    calendar = calendars.country_holidays(country, years=year)
    first = date(year, 1, 1)
    days = (first + timedelta(days=n) for n in range((date(year, 12, 31) - first).days + 1))
    return frozenset(day for day in days if not calendar.is_working_day(day))


@lru_cache(maxsize=1)
def _countries() -> frozenset[str]:
    from holidays.registry import EntityLoader

    return frozenset(EntityLoader.get_country_codes())
