"""What holds for every date, zone and rule, not only for the cases that somebody thought of."""

import calendar
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedules.calendar.cadence import Cadence, Cron, Every, Unit
from schedules.calendar.periods import first_on_or_after, next_after, period_date, trial_end, whole_periods
from schedules.calendar.shifts import Shift, shifted
from schedules.calendar.zones import day_bounds, local_date, wall_to_utc, zone
from schedules.errors import BadCadence, BadPlan, BadZone

ZONES = sorted(available_timezones() - {"localtime", "Factory", "posixrules"})
zones = st.sampled_from(ZONES).map(zone)
days = st.dates(date(1970, 1, 1), date(2100, 12, 31))
walls = st.times().map(lambda at: at.replace(second=0, microsecond=0))
everies = st.builds(Every, st.integers(1, 10), st.sampled_from(Unit))
crons = st.sampled_from(
    ["0 9 1 * *", "0 9 L * *", "30 1 * * *", "0 9 * * 1-5", "*/10 * 1,15 * *", "0 0 28 2 *"]
).map(Cron)
cadences: st.SearchStrategy[Cadence] = st.one_of(everies, crons)
ONE_DAY = timedelta(days=1)


@st.composite
def change_days(draw: st.DrawFn) -> tuple[ZoneInfo, date]:
    """A zone, and a date around which its clocks change (any date, in a year in which they do not)."""
    tz, year = draw(zones), draw(st.integers(1970, 2037))
    noons = [datetime(year, 1, 1, 12, tzinfo=tz) + timedelta(days=n) for n in range(366)]
    changes = [after.date() for before, after in pairwise(noons) if before.utcoffset() != after.utcoffset()]
    return tz, draw(st.sampled_from(changes or [noons[100].date()])) + timedelta(days=draw(st.integers(-1, 1)))


@given(days, everies, st.integers(0, 60))
def test_dates_rise_and_never_drift_from_the_anchors_day(anchor: date, every: Every, n: int) -> None:
    day, following = period_date(anchor, every, n), period_date(anchor, every, n + 1)
    assert day < following
    if every.unit in (Unit.MONTH, Unit.YEAR):
        assert day.day == min(anchor.day, calendar.monthrange(day.year, day.month)[1])
        months = n * every.every * (12 if every.unit is Unit.YEAR else 1)
        assert (day.year - anchor.year) * 12 + day.month - anchor.month == months
    else:
        assert (following - day).days == every.every * (7 if every.unit is Unit.WEEK else 1)


@given(days, cadences, st.integers(0, 30))
def test_a_step_from_a_date_and_a_count_from_the_anchor_agree(anchor: date, cadence: Cadence, n: int) -> None:
    day = period_date(anchor, cadence, n)
    assert next_after(cadence, anchor, n, day) == period_date(anchor, cadence, n + 1)


@given(days, cadences, st.integers(-400, 800))
def test_the_first_date_on_or_after_a_day_is_that_of_a_walk(anchor: date, cadence: Cadence, later: int) -> None:
    day = anchor + timedelta(days=later)
    n, found = 0, period_date(anchor, cadence, 0)
    while found < day:
        n, found = n + 1, next_after(cadence, anchor, n, found)
    assert first_on_or_after(anchor, cadence, day) == (n, found)


@given(days, everies, st.integers(0, 40_000))
def test_whole_periods_are_those_that_have_ended(anchor: date, every: Every, later: int) -> None:
    until = anchor + timedelta(days=later)
    n = whole_periods(anchor, every, until)
    assert period_date(anchor, every, n) <= until < period_date(anchor, every, n + 1)


@given(days, crons, st.integers(1, 40))
def test_a_cron_text_has_one_date_a_day_at_most(anchor: date, cron: Cron, count: int) -> None:
    series = [period_date(anchor, cron, 0)]
    for n in range(count):
        series.append(next_after(cron, anchor, n, series[-1]))
    assert series[0] >= anchor
    assert all(before < after for before, after in pairwise(series))


@given(days, st.integers(0, 730))
def test_a_trial_counts_calendar_days(start: date, trial_days: int) -> None:
    assert (trial_end(start, trial_days) - start).days == trial_days


def check_wall_time(day: date, wall: time, tz: ZoneInfo) -> None:
    """Guard: fold 0. The answer is the first instant that shows the wall time, or is moved by the whole gap."""
    at, wanted = wall_to_utc(day, wall, tz), datetime.combine(day, wall)
    around = [datetime.combine(day, time(12), UTC) + timedelta(hours=h) for h in range(-48, 49)]
    offsets = {hour.astimezone(tz).utcoffset() or timedelta(0) for hour in around}
    shows = [
        instant for offset in offsets if shown(instant := (wanted - offset).replace(tzinfo=UTC), tz) == wanted
    ]
    if shows:
        assert at == min(shows)
        return
    # Skipped: it is shown later by the gap's size, which is found by halving, down to the second.
    before, after = at - timedelta(hours=30), at
    while after - before > timedelta(seconds=1):
        middle = before + (after - before) // 2
        if middle.astimezone(tz).utcoffset() == at.astimezone(tz).utcoffset():
            after = middle
        else:
            before = middle
    gap = shown(after, tz) - shown(before, tz) - (after - before)
    assert shown(at, tz) - wanted == gap > timedelta(0)


def shown(at: datetime, tz: ZoneInfo) -> datetime:
    """What the wall clock shows."""
    return at.astimezone(tz).replace(tzinfo=None)


@given(days, walls, zones)
def test_a_wall_time_is_its_first_instant_or_moves_by_the_gap(day: date, wall: time, tz: ZoneInfo) -> None:
    check_wall_time(day, wall, tz)


@settings(max_examples=400)
@given(change_days(), st.sampled_from([0, 1, 30, 60, 90, 120, 150, 180, 210, 540, 1380, 1410, 1439]))
def test_it_is_so_on_the_days_when_clocks_change_too(change: tuple[ZoneInfo, date], minutes: int) -> None:
    check_wall_time(change[1], time(minutes // 60, minutes % 60), change[0])


@pytest.mark.parametrize("year", [1986, 2011, 2026])
def test_in_every_zone_each_date_has_one_billing_instant_and_they_keep_the_dates_order(year: int) -> None:
    """Two dates share an instant only where a zone skipped the first of them."""
    dates = [date(year, 1, 1) + timedelta(days=n) for n in range(366)]
    for name in ZONES:
        tz = zone(name)
        dues = [wall_to_utc(day, time(9), tz) for day in dates]
        for (day, due), (_, following) in pairwise(zip(dates, dues, strict=True)):
            skipped = local_date(due, tz) != day
            assert due == following if skipped else due < following


@given(change_days())
def test_the_bounds_of_days_leave_no_second_out_and_none_twice(change: tuple[ZoneInfo, date]) -> None:
    tz, day = change
    (start, end), (following, _) = day_bounds(day, day, tz), day_bounds(day + ONE_DAY, day + ONE_DAY, tz)
    assert end + timedelta(seconds=1) == following
    assert local_date(start - timedelta(seconds=1), tz) < day <= local_date(start, tz)
    assert day_bounds(day, day + ONE_DAY, tz)[0] == start


@given(days, st.sampled_from([Shift.NEXT, Shift.PREVIOUS]), st.sampled_from(["KR", "US", "SA", "CN", None]))
def test_a_shift_goes_to_the_nearest_business_day_in_its_direction(
    day: date, shift: Shift, country: str | None
) -> None:
    moved = shifted(day, shift, country)
    assert shifted(moved, shift, country) == moved
    assert moved >= day if shift is Shift.NEXT else moved <= day
    between = [min(day, moved) + timedelta(days=n) for n in range(abs((moved - day).days) + 1)]
    # None that was passed over is a business day: each would stay where it is, were it one.
    assert [shifted(passed, shift, country) for passed in between] == [moved] * len(between)
    assert shifted(day, Shift.NONE, country) == day


@pytest.mark.parametrize(
    ("day", "shift", "country", "moved"),
    [
        ("2026-02-17", Shift.NEXT, "KR", "2026-02-19"),  # Seollal
        ("2026-02-17", Shift.PREVIOUS, "KR", "2026-02-13"),
        ("2026-03-01", Shift.NEXT, "KR", "2026-03-03"),  # a Sunday, whose substitute is the Monday
        ("2026-05-05", Shift.NEXT, "KR", "2026-05-06"),
        ("2026-09-24", Shift.NEXT, "KR", "2026-09-28"),  # Chuseok, then a weekend
        ("2026-01-03", Shift.NEXT, "KR", "2026-01-05"),
        ("2026-01-05", Shift.NEXT, "KR", "2026-01-05"),
        ("2026-01-02", Shift.NEXT, "SA", "2026-01-04"),  # its weekend is Friday and Saturday
        ("2026-01-04", Shift.NEXT, "CN", "2026-01-04"),  # a Sunday that was made up for as a workday
        ("2026-01-03", Shift.PREVIOUS, None, "2026-01-02"),
    ],
)
def test_known_days_off_move_a_date(day: str, shift: Shift, country: str | None, moved: str) -> None:
    assert shifted(date.fromisoformat(day), shift, country) == date.fromisoformat(moved)


@pytest.mark.parametrize("country", ["", "XX", "Korea", "HolidayBase", "NYSE", "utils", "__name__"])
def test_a_country_without_a_calendar_is_refused(country: str) -> None:
    """Guard: the list of codes; the library would take any name of its own for a country."""
    with pytest.raises(BadPlan, match="has no calendar of holidays"):
        shifted(date(2026, 1, 1), Shift.NEXT, country)


def test_a_country_in_small_letters_is_told_its_spelling() -> None:
    with pytest.raises(BadPlan, match="did you mean 'KR'"):
        shifted(date(2026, 1, 1), Shift.NEXT, "kr")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("", "take one such as"), ("asia/seoul", "did you mean 'Asia/Seoul'"), ("Asia/Soul", "'Asia/Seoul'"),
        ("localtime", ""), ("/etc/localtime", ""), ("../UTC", ""), ("/usr/share/zoneinfo/UTC", ""), ("KST", ""),
        ("Factory", ""), ("posixrules", ""), ("Asia/Seoul\0", ""),
    ],
)  # fmt: skip
def test_a_zone_that_does_not_exist_is_refused(name: str, hint: str) -> None:
    with pytest.raises(BadZone, match=f"not in the IANA time zone database; .*{hint}"):
        zone(name)


def test_a_date_that_the_zone_skipped_whole_falls_on_the_next_and_has_no_seconds() -> None:
    tz, skipped = zone("Pacific/Apia"), date(2011, 12, 30)
    at = wall_to_utc(skipped, time(9), tz)
    assert at == wall_to_utc(date(2011, 12, 31), time(9), tz)
    assert local_date(at, tz) == date(2011, 12, 31)
    start, end = day_bounds(skipped, skipped, tz)
    assert end == start - timedelta(seconds=1)


@pytest.mark.parametrize(
    "beyond",
    [
        lambda: period_date(date(2026, 1, 31), Every(1, Unit.MONTH), 10**6),
        lambda: period_date(date(2026, 1, 31), Every(10, Unit.YEAR), 10**18),
        lambda: next_after(Every(1, Unit.DAY), date.max, 0, date.max),
        lambda: wall_to_utc(date.max, time(23), zone("America/New_York")),
        lambda: day_bounds(date.max, date.max, zone("UTC")),
        lambda: shifted(date(9999, 12, 31), Shift.NEXT, "SA"),
        lambda: period_date(date(2026, 1, 31), Every(1, Unit.MONTH), -1),
    ],
)
def test_what_lies_outside_the_calendar_is_refused_in_words(beyond: object) -> None:
    assert callable(beyond)
    with pytest.raises(BadCadence):
        beyond()
