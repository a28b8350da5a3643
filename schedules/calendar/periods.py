"""The numbered dates of a cadence: period n is computed from the anchor, never from period n - 1."""

import calendar
from datetime import date, timedelta
from itertools import islice

from schedules.calendar.cadence import Cadence, Cron, Every, Unit, fire_date_after, fire_dates
from schedules.errors import BadCadence

MOST_WALKED = 100_000  # dates of a cron text: 270 years of a daily one, in about five seconds


def period_date(anchor: date, cadence: Cadence, n: int, *, month_day: int | None = None) -> date:
    """The local date on which period n begins; for a cron text, number 0 is its first date from the anchor.

    `month_day` is the day of the month that months and years use instead of the anchor's own, where the anchor's
    month is too short for it.
    """
    if n < 0:
        raise BadCadence(f"period number {n} is below 0")
    match cadence:
        case Every(every, unit):
            return _stepped(anchor, n * every, unit, month_day or anchor.day)
        case Cron():
            if n > MOST_WALKED:
                raise BadCadence(f"period number {n} of cron text {cadence.text!r} is above {MOST_WALKED}")
            return next(islice(fire_dates(cadence, anchor), n, None))


def next_after(cadence: Cadence, anchor: date, n: int, day: date, *, month_day: int | None = None) -> date:
    """The date of period n + 1, given that period n begins on this day.

    A cron text advances by one step from that day, so that many periods stay fast.
    """
    match cadence:
        case Every():
            return period_date(anchor, cadence, n + 1, month_day=month_day)
        case Cron():
            return fire_date_after(cadence, day)


def first_on_or_after(
    anchor: date, cadence: Cadence, day: date, *, month_day: int | None = None
) -> tuple[int, date]:
    """The first period that begins on or after a day: its number and its date."""
    match cadence:
        case Every():
            n = max(0, _estimate(anchor, cadence, day) - 1)
            while (found := period_date(anchor, cadence, n, month_day=month_day)) < day:
                n += 1
            return n, found
        case Cron():
            for n, found in enumerate(islice(fire_dates(cadence, anchor), MOST_WALKED + 1)):
                if found >= day:
                    return n, found
            raise BadCadence(
                f"cron text {cadence.text!r} has more than {MOST_WALKED} dates between {anchor} and {day}; "
                "take a later anchor"
            )


def whole_periods(anchor: date, cadence: Cadence, until: date) -> int:
    """Return the number of whole periods from the anchor to a date: the largest n whose date is not after it."""
    n, day = first_on_or_after(anchor, cadence, until)
    return n if day == until else max(0, n - 1)


def kept_month_day(
    anchor: date, month_day: int | None, cadence: Cadence, day: date, *, is_new: bool
) -> int | None:
    """The `month_day` of a series that is counted anew from `day`, the next date of the series before.

    Months and years keep the day of the month that was asked for: from the 31st, 28 February stays "the 31st". The
    other cadences have no day of the month. They keep that of the series before them while `is_new`, which means
    that no period of theirs has begun. None when `day` itself says it.
    """
    wanted = month_day or anchor.day
    by_month = isinstance(cadence, Every) and cadence.unit in (Unit.MONTH, Unit.YEAR)
    is_cut = wanted > day.day == calendar.monthrange(day.year, day.month)[1]
    return wanted if (by_month or is_new) and is_cut else None


def trial_end(start: date, trial_days: int) -> date:
    """The new anchor after a trial of so many local calendar days."""
    return start + timedelta(days=trial_days)


def _estimate(anchor: date, cadence: Every, day: date) -> int:
    """Estimate the period number of a day."""
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


def _stepped(anchor: date, count: int, unit: Unit, month_day: int) -> date:
    try:
        match unit:
            case Unit.DAY:
                return anchor + timedelta(days=count)
            case Unit.WEEK:
                return anchor + timedelta(weeks=count)
            case Unit.MONTH:
                return _months_on(anchor, count, month_day)
            case Unit.YEAR:
                return _months_on(anchor, 12 * count, month_day)
    except (OverflowError, ValueError):
        raise BadCadence(f"{count} {unit.value}s from {anchor} is beyond the year 9999") from None


def _months_on(anchor: date, months: int, month_day: int) -> date:
    year, month = divmod(anchor.year * 12 + anchor.month - 1 + months, 12)
    month += 1
    return date(year, month, min(month_day, calendar.monthrange(year, month)[1]))
