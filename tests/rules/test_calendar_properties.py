"""What holds for every date, zone and rule, not only for the cases that somebody thought of."""

import calendar
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedules.cadence import Cadence, Cron, Every, Unit
from schedules.errors import BadCadence, BadPlan, BadZone
from schedules.identity import subject_of_entropy
from schedules.money import Money
from schedules.periods import first_on_or_after, next_after, period_date
from schedules.plans import CatchUp, Plan, due_at
from schedules.shifts import Shift, shifted
from schedules.subscriptions import MISSED_AFTER, Cursor, advance, first_cursor, open_due
from schedules.zones import local_date, wall_to_utc, zone

KEY = subject_of_entropy(bytes(13))
zones = st.sampled_from(sorted(available_timezones() - {"localtime", "Factory", "posixrules"})).map(zone)
days = st.dates(date(1970, 1, 1), date(2100, 12, 31))
walls = st.times().map(lambda at: at.replace(second=0, microsecond=0))
everies = st.builds(Every, st.integers(1, 10), st.sampled_from(Unit))
crons = st.sampled_from(
    ["0 9 1 * *", "0 9 L * *", "30 1 * * *", "0 9 * * 1-5", "*/10 * 1,15 * *", "0 0 28 2 *"]
).map(Cron)
cadences: st.SearchStrategy[Cadence] = st.one_of(everies, crons)
modes = st.sampled_from(CatchUp)


def plan(cadence: Cadence = Every(1, Unit.MONTH), **changes: object) -> Plan:
    """A plan with everything unsaid chosen."""
    terms: dict[str, object] = {
        "code": "p", "version": 1, "price": Money(1000, "KRW"), "cadence": cadence, "statement_name": "p",
        "allow_short_months": True,
    }  # fmt: skip
    return Plan(**(terms | changes))  # type: ignore[arg-type]  # chosen by name


@given(days, everies, st.integers(0, 60))
def test_dates_rise_and_never_drift_from_the_anchors_day(anchor: date, every: Every, n: int) -> None:
    day, following = period_date(anchor, every, n), period_date(anchor, every, n + 1)
    assert day < following
    if every.unit in (Unit.MONTH, Unit.YEAR):
        assert day.day == min(anchor.day, calendar.monthrange(day.year, day.month)[1])
    else:
        assert (following - day).days == every.every * (7 if every.unit is Unit.WEEK else 1)


@given(days, cadences, st.integers(0, 30))
def test_a_step_from_a_date_and_a_count_from_the_anchor_agree(anchor: date, cadence: Cadence, n: int) -> None:
    day = period_date(anchor, cadence, n)
    assert next_after(cadence, anchor, n, day) == period_date(anchor, cadence, n + 1)


@given(days, cadences, st.integers(0, 800))
def test_the_first_date_on_or_after_a_day_is_the_first(anchor: date, cadence: Cadence, later: int) -> None:
    day = anchor + timedelta(days=later)
    n, found = first_on_or_after(anchor, cadence, day)
    assert found == period_date(anchor, cadence, n) >= day
    assert n == 0 or period_date(anchor, cadence, n - 1) < day


@given(days, crons, st.integers(1, 40))
def test_a_cron_text_has_one_date_a_day_at_most(anchor: date, cron: Cron, count: int) -> None:
    series = [period_date(anchor, cron, 0)]
    for n in range(count):
        series.append(next_after(cron, anchor, n, series[-1]))
    assert series[0] >= anchor
    assert all(before < after for before, after in pairwise(series))


@given(days, walls, zones)
def test_a_wall_time_keeps_its_date_unless_the_zone_skipped_it(day: date, wall: time, tz: object) -> None:
    from zoneinfo import ZoneInfo

    assert isinstance(tz, ZoneInfo)
    at = wall_to_utc(day, wall, tz)
    back = at.astimezone(tz)
    if back.replace(tzinfo=None) == datetime.combine(day, wall):
        # It exists: and of two it is the first.
        earlier = datetime.combine(day, wall, tz).replace(fold=1).astimezone(UTC)
        assert at <= earlier
        return
    # A gap: moved forward by its size, so the wall clock shows a later time, by no more than a day.
    moved = back.replace(tzinfo=None) - datetime.combine(day, wall)
    assert timedelta(0) < moved <= timedelta(days=1)


@given(days, zones)
def test_a_days_billing_times_are_in_the_order_of_the_days(day: date, tz: object) -> None:
    from zoneinfo import ZoneInfo

    assert isinstance(tz, ZoneInfo)
    # The same instant at the earliest: only where a zone skipped a whole date.
    assert wall_to_utc(day, time(9), tz) <= wall_to_utc(day + timedelta(days=1), time(9), tz)


@given(days, cadences, st.lists(st.integers(0, 500), max_size=12), modes, st.integers(1, 5))
def test_opening_neither_repeats_nor_drops_a_period(
    anchor: date, cadence: Cadence, waits: list[int], mode: CatchUp, cap: int
) -> None:
    """Whenever it is rung, and however long nobody rang: the numbers of what was opened are 0, 1, 2, …"""
    sold = plan(cadence, catch_up=mode, catch_up_cap=cap)
    cursor = first_cursor(sold, anchor)
    now = cursor.due_at
    numbers: list[int] = []
    for hours in waits:
        now += timedelta(hours=hours)
        opening = open_due(sold, KEY, anchor, cursor, now)
        numbers += [charge.period_no for charge in opening.charges]
        assert all(charge.due_at <= now for charge in opening.charges)
        cursor = opening.cursor
    assert numbers == list(range(cursor.period_no))


@given(days, cadences, st.integers(0, 200), modes)
def test_catch_up_does_what_its_name_says(anchor: date, cadence: Cadence, late: int, mode: CatchUp) -> None:
    sold = plan(cadence, catch_up=mode, catch_up_cap=100)
    cursor = first_cursor(sold, anchor)
    now = cursor.due_at + timedelta(days=late)
    charges = open_due(sold, KEY, anchor, cursor, now).charges
    missed = [now - charge.due_at > MISSED_AFTER for charge in charges]
    waived = [charge.waived is not None for charge in charges]
    held = [charge.held is not None for charge in charges]
    match mode:
        case CatchUp.ALL:
            assert not any(waived)
            assert not any(held)
        case CatchUp.LATEST:
            assert waived == [True] * (len(charges) - 1) + [False]
        case CatchUp.NONE:
            assert waived == missed
        case CatchUp.ASK:
            assert held == missed


@given(days, everies, st.integers(0, 40), zones)
def test_a_zone_change_between_periods_neither_repeats_nor_drops_a_number(
    anchor: date, every: Every, n: int, tz: object
) -> None:
    """The cursor goes by number and local date; the zone only says at what instant that date is due."""
    from zoneinfo import ZoneInfo

    assert isinstance(tz, ZoneInfo)
    before = plan(every)
    after = plan(every, zone=tz.key)
    day = period_date(anchor, every, n)
    moved = advance(after, anchor, Cursor(n, day, due_at(before, day)))
    assert (moved.period_no, moved.period_date) == (n + 1, period_date(anchor, every, n + 1))


@given(days, st.sampled_from([Shift.NEXT, Shift.PREVIOUS]))
def test_a_shift_ends_on_a_business_day_in_its_direction(day: date, shift: Shift) -> None:
    moved = shifted(day, shift, "KR")
    assert moved.weekday() < 5
    assert moved >= day if shift is Shift.NEXT else moved <= day
    assert shifted(moved, shift, "KR") == moved


@given(days, st.integers(1, 400))
def test_an_anchor_in_the_past_charges_nothing_of_the_past(anchor: date, later: int) -> None:
    sold = plan(Every(1, Unit.MONTH))
    now = due_at(sold, anchor) + timedelta(days=later)
    cursor = first_cursor(sold, anchor, now)
    assert cursor.due_at >= now
    assert cursor.period_no == 0 or due_at(sold, period_date(anchor, sold.cadence, cursor.period_no - 1)) < now


@pytest.mark.parametrize(
    "text", ["0 9 1 *", "0 9 1 * * *", "R 9 1 * *", "H H 1 * *", "0 9 30 2 *", "x", "61 9 1 * *", ""]
)
def test_a_cron_text_that_cannot_be_followed_is_refused(text: str) -> None:
    with pytest.raises(BadCadence):
        Cron(text)


@pytest.mark.parametrize("text", ["0 9 * * THU", "0 9 1 MAR *", "0 9 * APR FRI", "0 9 L * *"])
def test_names_of_months_and_weekdays_are_taken(text: str) -> None:
    assert Cron(text).text == text


@pytest.mark.parametrize("name", ["", "asia/seoul", "localtime", "/etc/passwd", "../UTC", "Asia/Soul", "KST"])
def test_a_zone_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(BadZone, match="not in the IANA"):
        zone(name)


@pytest.mark.parametrize(
    "changes",
    [
        {"statement_name": "x" * 41}, {"statement_name": ""}, {"statement_name": "a\nb"}, {"code": "no spaces"},
        {"trial_days": -1}, {"catch_up_cap": 0}, {"shift": Shift.NEXT}, {"billing_time": time(9, 0, 1)},
        {"holidays": "XX"}, {"cadence": Cron("0 9 31 * *"), "allow_short_months": False},
    ],
)  # fmt: skip
def test_a_plan_whose_parts_do_not_fit_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(BadPlan):
        plan(**changes)  # type: ignore[arg-type]  # chosen by name


def test_a_date_that_the_zone_skipped_whole_falls_on_the_next() -> None:
    at = wall_to_utc(date(2011, 12, 30), time(9), zone("Pacific/Apia"))
    assert local_date(at, zone("Pacific/Apia")) == date(2011, 12, 31)
