"""Cron texts: which are taken, which dates they mean, and what is said about those that skip months."""

import random
from datetime import date, datetime, time, timedelta
from itertools import islice

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from schedules.calendar.cadence import (
    Cron,
    Every,
    Unit,
    anchor_form,
    fire_dates,
    many_times_warning,
    short_month_warning,
)
from schedules.calendar.periods import first_on_or_after, next_after, period_date
from schedules.errors import BadCadence

TEXTS = [
    "0 9 1 * *", "0 9 L * *", "30 1 * * *", "0 9 * * 1-5", "*/10 * 1,15 * *", "0 0 28 2 *", "59 23 31 * *",
    "0 9 * * fri#2", "0 9 * * L5", "0 9 15W * *", "0 9 15,L * *", "0 9 13 * FRI", "0 9 */2 * *", "* * * * *",
]  # fmt: skip
MONTHLY, YEARLY = Every(1, Unit.MONTH), Every(1, Unit.YEAR)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has 0 fields"),
        ("0 9 1 *", "has 4 fields"),
        ("0 9 1 * * *", "has 6 fields"),
        ("0 9 1 * * * 2026", "has 7 fields"),
        ("@monthly", "has 1 fields"),
        ("R 9 1 * *", "random or hashed"),
        ("r 9 1 * *", "random or hashed"),
        ("0 9 r * *", "random or hashed"),
        ("0 9 R(1-5)/2 * *", "random or hashed"),
        ("H H 1 * *", "random or hashed"),
        ("h/10 9 1 * *", "random or hashed"),
        ("0 9 30 2 *", "never fires"),
        ("0 9 31 4,6,9,11 *", "never fires"),
        ("61 9 1 * *", "cannot be read"),
        ("0 24 1 * *", "cannot be read"),
        ("0 9 0 * *", "cannot be read"),
        ("0 9 * MARCH *", "cannot be read"),
        ("a b c d e", "cannot be read"),
    ],
)
def test_a_cron_text_that_cannot_be_followed_is_refused_and_shown(text: str, words: str) -> None:
    with pytest.raises(BadCadence, match=words) as refusal:
        Cron(text)
    assert repr(text) in str(refusal.value)


@pytest.mark.parametrize(
    "text", ["0 9 * * THU", "0 9 1 MAR *", "0 9 * APR FRI", "0 9 1 jan-mar,oct *", "0 9 ? * MON"]
)
def test_names_of_months_and_weekdays_are_taken(text: str) -> None:
    assert Cron(text).text == text


@pytest.mark.parametrize("every", [0, -1, 121, True, 1.0, "1", None])
def test_an_every_that_is_no_sane_whole_number_is_refused_and_shown(every: object) -> None:
    with pytest.raises(BadCadence, match="is not possible; take 1 to 120") as refusal:
        Every(every, Unit.MONTH)  # type: ignore[arg-type]  # that is the point
    assert repr(every) in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "wall"),
    [("30 1 * * *", time(1, 30)), ("*/10 * 1 * *", time(0)), ("15,45 9-17 1 * *", time(9, 15))],
)
def test_the_first_time_of_day_is_the_billing_time(text: str, wall: time) -> None:
    assert Cron(text).wall_time() == wall


@settings(max_examples=60)
@given(st.dates(date(1970, 1, 1), date(2100, 1, 1)), st.sampled_from(TEXTS))
def test_its_dates_are_those_on_which_croniter_fires_in_plain_local_time(anchor: date, text: str) -> None:
    # Croniter walks the whole text, hours and minutes too, and knows no zone; ours walks days.
    fires = croniter(text, datetime.combine(anchor, time(0)) - timedelta(seconds=1), ret_type=datetime)
    wanted: list[date] = []
    for _ in range(300):
        day = fires.get_next().date()
        if day not in wanted:
            wanted.append(day)
    assert list(islice(fire_dates(Cron(text), anchor), len(wanted))) == wanted


fields = st.text("rRhH()0123456789-/*,LlWw#?", min_size=1, max_size=6)


@settings(max_examples=400)
@given(st.tuples(fields, st.just("9"), fields, st.sampled_from(["*", "1", "r", "2,R"]), st.just("*")))
def test_a_text_that_is_taken_means_the_same_dates_each_time(parts: tuple[str, ...]) -> None:
    """Guard: the refusal of random parts; croniter takes `r` in either case without a word."""
    try:
        cron = Cron(" ".join(parts))
    except BadCadence:
        return
    answers = set()
    for seed in (1, 2, 3):
        random.seed(seed)
        answers.add((str(croniter.expand(cron.text)), *islice(fire_dates(cron, date(2024, 1, 1)), 3)))
    assert len(answers) == 1


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("0 9 31 * *", MONTHLY),
        ("0 9 29,30,31 * *", MONTHLY),
        ("0 9 30 * *", MONTHLY),
        ("0 9 31 */3 *", Every(3, Unit.MONTH)),
        ("0 9 31 3,6,9,12 *", Every(3, Unit.MONTH)),
        ("0 9 29 2 *", YEARLY),
        ("0 9 31 1,2 *", None),  # uneven months
        ("0 9 15,31 * *", None),  # twice a month
        ("0 9 30,L * *", None),
        ("0 9 31 * MON", None),  # or any Monday
        ("0 9 */2 * *", None),
    ],
)
def test_a_text_that_skips_months_is_warned_about_with_a_form_that_does_not(text: str, form: Every | None) -> None:
    cron = Cron(text)
    warning = short_month_warning(cron)
    assert warning is not None
    assert "skips every month that has none" in warning
    assert anchor_form(cron) == form
    if form is not None:
        assert f"--every {form.every} --unit {form.unit} with an anchor on day" in warning
    assert ("L instead of 31" in warning) == (31 in cron.days_named())


@pytest.mark.parametrize(
    "text",
    [
        "0 9 28 * *",
        "0 9 L * *",
        "0 9 * * *",
        "0 9 1-31 * *",
        "0 9 31 12 *",
        "0 9 30 4,6 *",
        "0 9 31W * *",
        "0 9 * * 5",
    ],
)
def test_a_text_that_skips_no_month_is_not_warned_about(text: str) -> None:
    assert short_month_warning(Cron(text)) is None
    assert anchor_form(Cron(text)) is None


@given(st.sampled_from(["0 9 31 * *", "0 9 30 * *", "0 9 31 */3 *", "0 9 29 2 *"]), st.integers(1970, 2090))
def test_the_offered_form_has_all_dates_of_the_text_and_those_it_skipped(text: str, year: int) -> None:
    cron = Cron(text)
    form = anchor_form(cron)
    assert form is not None
    ours = period_date(date(year, 1, 1), cron, 0)
    for n in range(40):
        assert first_on_or_after(ours, form, ours)[1] == ours
        ours = next_after(cron, ours, n, ours)
    # Each of its months has one, so that a year has as many as there are months named.
    anchor = period_date(date(year, 1, 1), cron, 0)
    wanted = 12 // form.every if form.unit is Unit.MONTH else 1
    assert period_date(anchor, form, wanted).year == anchor.year + 1


@pytest.mark.parametrize("text", ["0 9 1 * *", "0 9 L 12 *", "* * * * *"])
def test_where_the_calendar_ends_is_said(text: str) -> None:
    with pytest.raises(BadCadence, match="has no date after 9999-12-31"):
        next_after(Cron(text), date(2026, 1, 1), 1, date.max)


def test_a_walk_over_more_dates_than_any_subscription_has_is_refused() -> None:
    with pytest.raises(BadCadence, match="period number 1000000000 of cron text"):
        period_date(date(2026, 1, 1), Cron("0 9 1 * *"), 10**9)


@pytest.mark.parametrize(
    ("text", "times"),
    [("* * * * *", 1440), ("*/10 9 1 * *", 6), ("0 9,18 * * *", 2), ("0 * 1 * *", 24), ("0 9 * * *", None)],
)
def test_a_text_that_fires_more_than_once_a_day_is_told_that_a_day_is_billed_once(
    text: str, times: int | None
) -> None:
    warning = many_times_warning(Cron(text))
    assert (warning is None) if times is None else (warning is not None and f"fires {times} times" in warning)
