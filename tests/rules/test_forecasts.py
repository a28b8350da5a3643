"""What is foreseen of a subscription is what opening makes of it, whenever it is looked at."""

from dataclasses import replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedules.calendar.cadence import Cadence, Every, Unit
from schedules.calendar.shifts import Shift
from schedules.calendar.zones import local_date, zone
from schedules.charging.identity import subject_of_entropy
from schedules.subscriptions.cursor import first_cursor, open_due
from schedules.subscriptions.forecasts import Coming, Stand, coming
from schedules.subscriptions.plans import CatchUp, Plan
from tests.rules.test_calendar_properties import cadences, days, zones
from tests.rules.test_plans import plan
from tests.rules.test_subscriptions import at, modes, shifts

KEY = subject_of_entropy(bytes(13))
DAILY = Every(1, Unit.DAY)


def standing(sold: Plan, anchor: date, ends_at: datetime | None = None) -> Stand:
    """A subscription that nothing was opened of yet."""
    first = first_cursor(sold, anchor)
    return Stand(first, first.due_at, anchor, ends_at=ends_at)


def opened(sold: Plan, stand: Stand, now: datetime, first: date, last: date) -> list[Coming]:
    """What opening opens when it looks as soon as it may, from now on, and nobody foresees anything."""
    cursor, look_at, found = stand.cursor, max(stand.open_at, now), []
    for _ in range(400):
        opening = open_due(sold, replace(stand.series, key=KEY), cursor, look_at)
        day = local_date(look_at, zone(sold.zone))
        found += [
            Coming(charge.period_no, charge.due_at, look_at, day, charge.waived or charge.held)
            for charge in opening.charges
            if first <= day <= last
        ]
        cursor, look_at = opening.cursor, opening.open_at
    return found


@given(days, cadences, st.integers(-40, 40), st.integers(0, 40), modes, st.integers(1, 5), shifts, zones)
def test_it_is_what_opening_opens_when_it_looks_in_time(
    anchor: date, cadence: Cadence, behind: int, long: int, mode: CatchUp, cap: int,
    shift: tuple[Shift, str | None], where: ZoneInfo,
) -> None:  # fmt: skip
    sold = plan(cadence, catch_up=mode, catch_up_cap=cap, shift=shift[0], holidays=shift[1], zone=where.key)
    stand = standing(sold, anchor)
    now = stand.cursor.due_at + timedelta(days=behind)
    first = local_date(now, where)
    last = first + timedelta(days=long)
    assert list(coming(sold, stand, now, first, last)) == opened(sold, stand, now, first, last)


@pytest.mark.parametrize(("ends", "periods"), [(None, 31), ("2026-03-11T00:00", 10), ("2026-03-01T00:00", 0)])
def test_nothing_is_foreseen_at_or_after_the_end(ends: str | None, periods: int) -> None:
    sold = plan(DAILY)
    stand = standing(sold, date(2026, 3, 1), at(ends) if ends else None)
    found = list(coming(sold, stand, at("2026-02-01T00:00"), date(2026, 3, 1), date(2026, 3, 31)))
    assert len(found) == periods


def test_nothing_is_foreseen_in_the_past_and_what_was_missed_is_foreseen_for_now() -> None:
    sold = plan(DAILY, catch_up=CatchUp.ALL, catch_up_cap=3)
    stand, now = standing(sold, date(2026, 3, 1)), at("2026-03-05T03:00")
    assert list(coming(sold, stand, now, date(2026, 3, 1), date(2026, 3, 4))) == []
    found = list(coming(sold, stand, now, date(2026, 3, 1), date(2026, 3, 6)))
    assert [(c.period_no, c.at) for c in found] == [
        (0, now), (1, now), (2, now), *((n, now + timedelta(days=1)) for n in (3, 4, 5)),
    ]  # fmt: skip


def test_a_look_that_the_cap_put_off_is_waited_for() -> None:
    """The cursor is behind, and opening will not look at it before tomorrow."""
    sold = plan(DAILY)
    late = Stand(first_cursor(sold, date(2026, 3, 1)), at("2026-03-04T12:00"), date(2026, 3, 1))
    found = list(coming(sold, late, at("2026-03-03T12:00"), date(2026, 3, 3), date(2026, 3, 4)))
    assert {c.at for c in found} == {at("2026-03-04T12:00")}


def test_a_period_that_is_skipped_is_left_out_and_numbers_go_on_from_a_moved_anchor() -> None:
    sold = plan(DAILY)
    cursor = first_cursor(sold, date(2026, 3, 1), anchor_no=7)
    stand = Stand(cursor, cursor.due_at, date(2026, 3, 1), anchor_no=7, skip_to=9)
    found = list(coming(sold, stand, at("2026-02-01T00:00"), date(2026, 3, 1), date(2026, 3, 4)))
    assert [(c.period_no, c.left_out is None) for c in found] == [(7, False), (8, False), (9, True), (10, True)]
