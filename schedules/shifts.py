"""A charge date on a weekend or a public holiday may move; the anchor and the next period never do."""

from datetime import date, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING

from schedules.errors import BadPlan

if TYPE_CHECKING:
    from holidays import HolidayBase


class Shift(StrEnum):
    """Where a date that is no business day moves to."""

    NONE = "none"
    NEXT = "next"
    PREVIOUS = "previous"


@lru_cache(maxsize=64)
def _calendar(country: str) -> "HolidayBase":
    # Imported only when a plan has a country: it takes longer than everything else that a command does.
    import holidays as calendars

    try:
        return calendars.country_holidays(country)
    except NotImplementedError:
        raise BadPlan(
            f"country {country!r} has no calendar of holidays; take an ISO 3166 code such as KR"
        ) from None


def checked_country(country: str) -> str:
    """The country, if its holidays are known."""
    _calendar(country)
    return country


def shifted(day: date, shift: Shift, country: str | None) -> date:
    """The date on which to charge: this one, or the nearest business day in the shift's direction."""
    if shift is Shift.NONE:
        return day
    step = timedelta(days=1 if shift is Shift.NEXT else -1)
    while day.weekday() >= 5 or (country is not None and day in _calendar(country)):
        day += step
    return day
