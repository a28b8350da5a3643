"""Convert wall times in IANA zones to instants, and back."""

import difflib
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from schedules.errors import BadCadence, BadZone


@lru_cache(maxsize=1)
def _names() -> frozenset[str]:
    # Some systems have these in their folder of zones; the database does not.
    return frozenset(available_timezones()) - {"localtime", "Factory", "posixrules"}


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """Return the IANA zone with exactly this name; 'localtime', paths and other spellings are refused."""
    if name in _names():
        return ZoneInfo(name)
    lower = {known.lower(): known for known in _names()}
    near = difflib.get_close_matches(name.lower(), lower, 1)
    hint = f"did you mean {lower[near[0]]!r}?" if near else "take one such as 'Asia/Seoul'"
    raise BadZone(f"zone {name!r} is not in the IANA time zone database; {hint}")


def wall_to_utc(day: date, wall: time, tz: ZoneInfo) -> datetime:
    """Return the instant at which the wall clock shows this time on this date, in UTC.

    In a gap the time moves forward by the size of the gap; in an overlap it is the first of the two. A date
    that the zone skipped whole (Pacific/Apia, 2011-12-30) is a gap of a day: the time falls on the next date.
    """
    # With fold 0, a time in a gap is read with the offset before it, which moves it forward by the gap's size;
    # a time in an overlap is read as the first.
    try:
        return datetime.combine(day, wall, tz).replace(fold=0).astimezone(UTC)
    except OverflowError:
        raise BadCadence(
            f"{day} {wall:%H:%M} in {tz.key} is outside the years 1 to 9999; take another date"
        ) from None


def local_date(at: datetime, tz: ZoneInfo) -> date:
    """The date in the zone at this instant."""
    return at.astimezone(tz).date()


def day_bounds(first: date, last: date, tz: ZoneInfo) -> tuple[datetime, datetime]:
    """The first instant of one local date and the last whole second of another, in UTC.

    A date that the zone skipped whole has no seconds: its end is one second before its start.
    """
    if last == date.max:
        raise BadCadence(f"the end of {last} is after the last possible day; take an earlier one")
    start = wall_to_utc(first, time(0), tz)
    end = wall_to_utc(last + timedelta(days=1), time(0), tz) - timedelta(seconds=1)
    return start, end
