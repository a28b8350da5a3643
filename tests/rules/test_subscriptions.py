"""Opening: whenever it is rung, every period is answered once, as the plan's catch-up says."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedules.calendar.cadence import Cadence, Every, Unit
from schedules.calendar.periods import period_date
from schedules.calendar.shifts import Shift
from schedules.charging.charges import ChargeKind
from schedules.charging.identity import charge_key, subject_of_entropy
from schedules.money.amounts import Money
from schedules.subscriptions.cursor import (
    CAP_PAUSE,
    LONGEST_SHIFT,
    MISSED_AFTER,
    MOST_IN_ONE_RUN,
    Cursor,
    Opening,
    Series,
    advance,
    first_cursor,
    open_due,
)
from schedules.subscriptions.plans import CatchUp, Plan, due_at
from tests.rules.test_calendar_properties import cadences, days, everies, zones
from tests.rules.test_plans import plan

KEY = subject_of_entropy(bytes(13))
DAILY = Every(1, Unit.DAY)
modes = st.sampled_from(CatchUp)
shifts = st.sampled_from([(Shift.NONE, None), (Shift.NEXT, "KR"), (Shift.PREVIOUS, "KR")])
waits = st.lists(st.integers(0, 500), max_size=12)  # hours between one ring and the next


def at(text: str) -> datetime:
    """An instant in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def fates(opening: Opening) -> str:
    """Each charge's letter: charged, waived or held."""
    return "".join("w" if charge.waived else "h" if charge.held else "c" for charge in opening.charges)


@given(days, cadences, waits, modes, st.integers(1, 5), shifts)
def test_opening_neither_repeats_nor_drops_a_period(
    anchor: date,
    cadence: Cadence,
    hours: list[int],
    mode: CatchUp,
    cap: int,
    shift: tuple[Shift, str | None],
) -> None:
    """Whenever it is rung, and however long nobody rang: the numbers of what was opened are 0, 1, 2, …"""
    sold = plan(cadence, catch_up=mode, catch_up_cap=cap, shift=shift[0], holidays=shift[1])
    cursor = first_cursor(sold, anchor)
    now = cursor.due_at
    numbers: list[int] = []
    for wait in hours:
        now += timedelta(hours=wait)
        opening = open_due(sold, Series(KEY, anchor), cursor, now)
        for charge in opening.charges:
            assert charge.key == charge_key(ChargeKind.RENEWAL, KEY, charge.period_no)
            assert charge.due_at == due_at(sold, period_date(anchor, cadence, charge.period_no)) <= now
            assert charge.money == sold.price
            assert not (charge.waived and charge.held)
        numbers += [charge.period_no for charge in opening.charges]
        cursor = opening.cursor
        assert mode is CatchUp.ALL or cursor.due_at > now  # only the cap leaves some for later
    assert numbers == list(range(cursor.period_no))


@given(days, cadences, st.lists(st.integers(1, 60), min_size=1, max_size=60), modes, st.integers(1, 5))
def test_looking_only_when_it_says_so_opens_everything(
    anchor: date, cadence: Cadence, minutes: list[int], mode: CatchUp, cap: int
) -> None:
    """A worker that comes some minutes late each time misses nothing, and is never told to look before the due."""
    sold = plan(cadence, catch_up=mode, catch_up_cap=cap)
    cursor = first_cursor(sold, anchor)
    look = cursor.due_at
    for number, late in enumerate(minutes):
        opening = open_due(sold, Series(KEY, anchor), cursor, look + timedelta(minutes=late))
        assert [charge.period_no for charge in opening.charges] == [number]
        assert fates(opening) == "c"
        cursor, look = opening.cursor, opening.open_at
        assert look == cursor.due_at


@given(days, cadences, st.integers(0, 200), modes)
def test_catch_up_does_what_its_name_says(anchor: date, cadence: Cadence, late: int, mode: CatchUp) -> None:
    sold = plan(cadence, catch_up=mode, catch_up_cap=100)
    cursor = first_cursor(sold, anchor)
    now = cursor.due_at + timedelta(days=late)
    opening = open_due(sold, Series(KEY, anchor), cursor, now)
    missed = [now - charge.due_at > MISSED_AFTER for charge in opening.charges]
    match mode:
        case CatchUp.ALL:
            assert fates(opening) == "c" * len(missed)
        case CatchUp.LATEST:
            assert fates(opening) == "w" * (len(missed) - 1) + "c"
        case CatchUp.NONE:
            assert fates(opening) == "".join("w" if was else "c" for was in missed)
        case CatchUp.ASK:
            assert fates(opening) == "".join("h" if was else "c" for was in missed)


@pytest.mark.parametrize("mode", CatchUp)
@pytest.mark.parametrize(
    ("shift", "anchor", "now"),
    [
        (Shift.NEXT, "2026-01-10", "2026-01-12T00:30"),  # Saturday, Sunday and Monday, all on Monday at 09:00 KST
        (Shift.PREVIOUS, "2026-01-09", "2026-01-09T00:30"),  # Friday, Saturday and Sunday, all on Friday
    ],
)
def test_days_that_a_shift_put_on_one_instant_are_all_charged_when_it_comes(
    mode: CatchUp, shift: Shift, anchor: str, now: str
) -> None:
    """Guard: `overtaken`. Nothing was missed, so that no plan's catch-up may let any of them go."""
    sold = plan(DAILY, catch_up=mode, shift=shift, holidays="KR")
    begins = date.fromisoformat(anchor)
    opening = open_due(sold, Series(KEY, begins), first_cursor(sold, begins), at(now))
    assert fates(opening) == "ccc"
    assert len({charge.due_at for charge in opening.charges}) == 1


def test_latest_charges_one_of_several_on_one_instant_that_was_missed() -> None:
    sold = plan(DAILY, catch_up=CatchUp.LATEST, shift=Shift.PREVIOUS, holidays="KR")
    begins = date(2026, 1, 9)
    assert fates(open_due(sold, Series(KEY, begins), first_cursor(sold, begins), at("2026-01-11T00:00"))) == "wwc"


def test_a_date_that_a_zone_skipped_is_charged_with_the_one_it_fell_on() -> None:
    sold = plan(DAILY, catch_up=CatchUp.LATEST, zone="Pacific/Apia")
    begins = date(2011, 12, 30)
    cursor = first_cursor(sold, begins)
    assert fates(open_due(sold, Series(KEY, begins), cursor, cursor.due_at)) == "cc"


@given(days, st.integers(1, 10), st.integers(1, 40))
def test_the_cap_bounds_one_run_and_the_rest_comes_a_day_later(anchor: date, cap: int, missed: int) -> None:
    sold = plan(catch_up_cap=cap)
    cursor = first_cursor(sold, anchor)
    now = due_at(sold, period_date(anchor, sold.cadence, missed - 1))
    opening = open_due(sold, Series(KEY, anchor), cursor, now)
    assert [charge.period_no for charge in opening.charges] == list(range(min(cap, missed)))
    assert opening.cursor.period_no == min(cap, missed)
    assert opening.open_at == (now + CAP_PAUSE if missed > cap else opening.cursor.due_at)


@pytest.mark.parametrize("mode", [CatchUp.LATEST, CatchUp.NONE, CatchUp.ASK])
def test_one_run_is_bounded_and_the_next_goes_on_at_once(mode: CatchUp) -> None:
    sold, anchor = plan(DAILY, catch_up=mode), date(2024, 1, 1)
    now = due_at(sold, anchor + timedelta(days=MOST_IN_ONE_RUN + 2))
    first = open_due(sold, Series(KEY, anchor), first_cursor(sold, anchor), now)
    assert (len(first.charges), first.cursor.period_no, first.open_at) == (MOST_IN_ONE_RUN, MOST_IN_ONE_RUN, now)
    second = open_due(sold, Series(KEY, anchor), first.cursor, now)
    assert second.open_at == second.cursor.due_at > now
    letter = "h" if mode is CatchUp.ASK else "w"
    assert fates(first) == letter * MOST_IN_ONE_RUN
    # The last but one is a day old to the second, which is not yet missed; `latest` lets it go all the same.
    assert fates(second) == letter + ("w" if mode is CatchUp.LATEST else "c") + "c"


@pytest.mark.parametrize("mode", [CatchUp.LATEST, CatchUp.NONE, CatchUp.ASK])
def test_a_full_run_with_nothing_left_is_a_finished_one(mode: CatchUp) -> None:
    sold, anchor = plan(DAILY, catch_up=mode), date(2024, 1, 1)
    now = due_at(sold, anchor + timedelta(days=MOST_IN_ONE_RUN - 1))
    opening = open_due(sold, Series(KEY, anchor), first_cursor(sold, anchor), now)
    assert fates(opening)[-1] == "c"
    assert opening.open_at == opening.cursor.due_at > now


@given(days, cadences, st.integers(0, 300), st.integers(0, 300), modes)
def test_nothing_is_opened_that_is_due_at_the_end_or_later(
    anchor: date, cadence: Cadence, ends: int, late: int, mode: CatchUp
) -> None:
    sold = plan(cadence, catch_up=mode, catch_up_cap=100)
    cursor = first_cursor(sold, anchor)
    now, ends_at = cursor.due_at + timedelta(days=late), cursor.due_at + timedelta(days=ends)
    opening = open_due(sold, Series(KEY, anchor, ends_at=ends_at), cursor, now)
    assert all(charge.due_at < ends_at for charge in opening.charges)
    ended_before = open_due(sold, Series(KEY, anchor), cursor, min(now, ends_at - timedelta(microseconds=1)))
    assert [c.period_no for c in opening.charges] == [c.period_no for c in ended_before.charges]


def test_nothing_is_opened_a_moment_early_and_the_period_is_when_due() -> None:
    sold, anchor = plan(), date(2026, 1, 31)
    cursor = first_cursor(sold, anchor)
    early = open_due(sold, Series(KEY, anchor), cursor, cursor.due_at - timedelta(microseconds=1))
    assert early == Opening((), cursor, cursor.due_at)
    assert fates(open_due(sold, Series(KEY, anchor), cursor, cursor.due_at)) == "c"


@given(days, cadences, st.integers(-50, 400), shifts)
def test_an_anchor_in_the_past_charges_nothing_of_the_past(
    anchor: date, cadence: Cadence, later: int, shift: tuple[Shift, str | None]
) -> None:
    sold = plan(cadence, shift=shift[0], holidays=shift[1])
    not_before = first_cursor(sold, anchor).due_at + timedelta(days=later)
    walked = first_cursor(sold, anchor)
    while walked.due_at < not_before:
        walked = advance(sold, anchor, walked)
    assert first_cursor(sold, anchor, not_before) == walked


@given(st.dates(date(1990, 1, 1), date(2060, 12, 31)), st.sampled_from(["KR", "RU", "AM", "MM", "TW"]), shifts)
def test_no_shift_is_longer_than_looking_back_allows_for(
    day: date, country: str, shift: tuple[Shift, str | None]
) -> None:
    sold = plan(DAILY, shift=shift[0], holidays=country)
    unshifted = due_at(replace(sold, shift=Shift.NONE), day)
    assert abs(due_at(sold, day) - unshifted) < LONGEST_SHIFT


@given(days, everies, st.lists(zones, min_size=1, max_size=6), shifts)
def test_a_zone_change_between_periods_neither_repeats_nor_drops_a_number(
    anchor: date, every: Every, moves: list[object], shift: tuple[Shift, str | None]
) -> None:
    """The cursor goes by number and local date; the zone only says at what instant that date is due."""
    sold = plan(every, price=Money(1, "KRW"), shift=shift[0], holidays=shift[1])
    cursor = first_cursor(sold, anchor)
    numbers = []
    for tz in moves:
        moved: Plan = replace(sold, zone=str(tz))
        # The running period keeps its due time; the change takes effect with the next.
        opening = open_due(moved, Series(KEY, anchor), cursor, cursor.due_at)
        numbers += [charge.period_no for charge in opening.charges]
        cursor = opening.cursor
        day = period_date(anchor, every, cursor.period_no)
        assert cursor == Cursor(len(numbers), day, due_at(moved, day))
    assert numbers == list(range(len(numbers)))


@given(days, everies, everies, st.integers(1, 40), st.integers(-20, 60))
def test_numbers_go_on_and_dates_are_counted_from_an_anchor_that_was_moved(
    anchor: date, before: Every, after: Every, periods: int, by: int
) -> None:
    """The guard: the anchor's own number. Without it numbers that were charged would come again."""
    sold, moved = plan(before), plan(after)
    cursor = first_cursor(sold, anchor)
    for _ in range(periods):
        cursor = advance(sold, anchor, cursor)
    new_anchor = cursor.period_date + timedelta(days=by)
    begun = first_cursor(moved, new_anchor, None, cursor.period_no)
    series = Series(KEY, new_anchor, cursor.period_no)
    opening = open_due(
        replace(moved, catch_up_cap=100), series, begun, advance(moved, new_anchor, begun, cursor.period_no).due_at
    )
    assert [charge.period_no for charge in opening.charges] == [periods, periods + 1]
    assert opening.cursor.period_date == period_date(new_anchor, after, 2)


@given(days, everies, modes, st.integers(1, 5))
def test_what_a_person_has_skipped_is_waived_and_the_next_is_charged(
    anchor: date, every: Every, mode: CatchUp, skipped: int
) -> None:
    sold = plan(every, catch_up=mode)
    cursor, fate = first_cursor(sold, anchor), ""
    for _ in range(skipped + 2):
        opening = open_due(sold, Series(KEY, anchor, skip_to=skipped), cursor, cursor.due_at)
        fate += fates(opening)
        cursor = opening.cursor
    assert fate == "w" * skipped + "cc"


def test_a_skipped_period_overtakes_no_other() -> None:
    """The guard: `latest` counts from the newest period that is charged, not from one that a person let go."""
    sold, anchor = plan(DAILY, catch_up=CatchUp.LATEST), date(2026, 1, 1)
    cursor = advance(sold, anchor, first_cursor(sold, anchor))
    late = open_due(sold, Series(KEY, anchor, skip_to=0), cursor, cursor.due_at + timedelta(days=2))
    assert fates(late) == "wwc"
    last = late.charges[-1].period_no
    skipping = open_due(sold, Series(KEY, anchor, skip_to=last), cursor, cursor.due_at + timedelta(days=2))
    assert fates(skipping) == "wwc"
    everything = open_due(sold, Series(KEY, anchor, skip_to=last + 1), cursor, cursor.due_at + timedelta(days=2))
    assert fates(everything) == "www"
