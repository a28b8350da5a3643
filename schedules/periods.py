"""The numbered series of dates: period n is counted from the anchor, never from the period before."""

import calendar
from datetime import date, timedelta
from itertools import islice

from schedules.cadence import Cadence, Cron, Every, Unit, fire_date_after, fire_dates
from schedules.errors import BadCadence

MOST_WALKED = 100_000  # dates of a cron text: 270 years of a daily one, in about five seconds


def period_date(anchor: date, cadence: Cadence, n: int) -> date:
    """The local date on which period n begins; for a cron text, number 0 is its first date from the anchor."""
    if n < 0:
        raise BadCadence(f"period number {n} is below 0")
    match cadence:
        case Every(every, unit):
            return _stepped(anchor, n * every, unit)
        case Cron():
            if n > MOST_WALKED:
                raise BadCadence(f"period number {n} of cron text {cadence.text!r} is above {MOST_WALKED}")
            return next(islice(fire_dates(cadence, anchor), n, None))


def next_after(cadence: Cadence, anchor: date, n: int, day: date) -> date:
    """The date of period n + 1, given that period n begins on this day.

    A cron text is walked one step from that day, so a run over many periods stays fast.
    """
    match cadence:
        case Every():
            return period_date(anchor, cadence, n + 1)
        case Cron():
            return fire_date_after(cadence, day)


def first_on_or_after(anchor: date, cadence: Cadence, day: date) -> tuple[int, date]:
    """The first period that begins on or after a day: its number and its date."""
    match cadence:
        case Every():
            n = max(0, _estimate(anchor, cadence, day) - 1)
            while period_date(anchor, cadence, n) < day:
                n += 1
            return n, period_date(anchor, cadence, n)
        case Cron():
            for n, found in enumerate(islice(fire_dates(cadence, anchor), MOST_WALKED + 1)):
                if found >= day:
                    return n, found
            raise BadCadence(
                f"cron text {cadence.text!r} has more than {MOST_WALKED} dates between {anchor} and {day}; "
                "take a later anchor"
            )


def whole_periods(anchor: date, cadence: Cadence, until: date) -> int:
    """How many whole periods lie between the anchor and a date: the largest n whose date is not after it."""
    n, day = first_on_or_after(anchor, cadence, until)
    return n if day == until else max(0, n - 1)


def trial_end(start: date, trial_days: int) -> date:
    """The new anchor after a trial of so many local calendar days."""
    return start + timedelta(days=trial_days)


def _estimate(anchor: date, cadence: Every, day: date) -> int:
    """A period number close to a day, from plain arithmetic."""
    match cadence.unit:
        case Unit.DAY:
            return (day - anchor).days // cadence.every
        case Unit.WEEK:
            return (day - anchor).days // (7 * cadence.every)
        case Unit.MONTH:
            months = (day.year - anchor.year) * 12 + day.month - anchor.month
            return months // cadence.every
        case Unit.YEAR:
            return (day.year - anchor.year) // cadence.every


def _stepped(anchor: date, count: int, unit: Unit) -> date:
    try:
        match unit:
            case Unit.DAY:
                return anchor + timedelta(days=count)
            case Unit.WEEK:
                return anchor + timedelta(weeks=count)
            case Unit.MONTH:
                return _months_on(anchor, count)
            case Unit.YEAR:
                return _months_on(anchor, 12 * count)
    except (OverflowError, ValueError):
        raise BadCadence(f"{count} {unit.value}s from {anchor} is beyond the year 9999") from None


def _months_on(anchor: date, months: int) -> date:
    year, month = divmod(anchor.year * 12 + anchor.month - 1 + months, 12)
    month += 1
    return date(year, month, min(anchor.day, calendar.monthrange(year, month)[1]))
