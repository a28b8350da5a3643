"""How long a day takes at a cap."""

from datetime import UTC, datetime, timedelta

from schedules.calendar.paces import departures, pace

NINE = datetime(2026, 12, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def test_calls_that_are_due_at_once_leave_one_after_the_other() -> None:
    assert list(departures([NINE] * 3, SECOND)) == [NINE, NINE + SECOND, NINE + 2 * SECOND]


def test_a_call_that_nobody_stands_before_leaves_when_it_is_due() -> None:
    late = NINE + timedelta(hours=1)
    assert list(departures([NINE, late, late], SECOND)) == [NINE, late, late + SECOND]


def test_without_a_cap_everything_leaves_when_it_is_due() -> None:
    assert list(departures([NINE] * 3, timedelta(0))) == [NINE] * 3


def test_a_day_is_added_up() -> None:
    told = pace([NINE] * 100 + [NINE + timedelta(hours=2)], SECOND / 50)
    assert told is not None
    assert told.calls == 101
    assert told.busy == timedelta(seconds=2.02)
    assert told.last_at == NINE + timedelta(hours=2)
    assert told.longest_wait == timedelta(seconds=1.98)


def test_a_day_without_calls_takes_nothing() -> None:
    assert pace([], SECOND) is None
