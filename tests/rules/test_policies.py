"""Policies as a person writes them, as they are kept, and what a preview shows of them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedules.dunning.decisions import MOST_UNANSWERED, Said
from schedules.dunning.declines import DeclineClass
from schedules.dunning.policies import (
    CHOSEN_CLASSES,
    MONTH_END,
    STANDARD,
    CardCap,
    DunningPolicy,
    FinalAction,
    Hours,
    Way,
)
from schedules.dunning.policy_files import read_policy_file, written
from schedules.dunning.previews import preview
from schedules.errors import BadPolicy

DAY = timedelta(days=1)
NOW = datetime(2026, 3, 2, tzinfo=UTC)
hours = st.integers(1, 24 * 60)
ladders = st.lists(hours, unique=True, max_size=8).map(
    lambda found: tuple(timedelta(hours=hour) for hour in sorted(found))
)
paydays = st.lists(st.sampled_from([*range(1, 29), MONTH_END]), unique=True, max_size=5).map(
    lambda days: tuple(sorted(days))
)
ways = st.builds(Way, ladders, paydays, st.booleans())
spans = st.none() | st.integers(0, 180).map(lambda days: timedelta(days=days))
policies = st.builds(
    DunningPolicy,
    ladder=ladders,
    final=st.sampled_from(FinalAction),
    code=st.just("ours"),
    ways=st.dictionaries(st.sampled_from(CHOSEN_CLASSES), ways),
    hours=st.integers(0, 22).map(lambda hour: Hours(*(datetime(2000, 1, 1, h).time() for h in (hour, hour + 1)))),  # noqa: DTZ001 # a wall time
    holidays=st.sampled_from([None, "KR"]),
    grace=spans,
    upcoming=spans,
    last_warning=spans,
    cap=st.builds(CardCap, st.integers(1, 35), st.integers(1, 90).map(lambda days: timedelta(days=days))),
)


@given(policies)
def test_a_policy_is_read_back_as_it_was_kept(policy: DunningPolicy) -> None:
    assert DunningPolicy.from_json(policy.to_json(), "ours") == policy


@given(policies)
def test_a_policy_is_read_back_as_it_was_written(policy: DunningPolicy) -> None:
    assert read_policy_file(written(policy), "ours.toml") == policy


def test_the_default_is_one_that_could_be_written_in_a_file() -> None:
    assert read_policy_file(written(STANDARD), "standard.toml") == STANDARD


@pytest.mark.parametrize("ladder", [(DAY, DAY), (3 * DAY, DAY), (timedelta(0),), (-DAY,), (200 * DAY,)])
def test_a_ladder_that_does_not_rise_or_goes_too_far_is_refused(ladder: tuple[timedelta, ...]) -> None:
    with pytest.raises(BadPolicy):
        DunningPolicy(ladder=ladder)


def test_a_ladder_of_too_many_rungs_is_refused() -> None:
    with pytest.raises(BadPolicy, match="21 rungs is too long"):
        DunningPolicy(ladder=tuple(n * DAY for n in range(1, 22)))


@pytest.mark.parametrize(
    ("lines", "line", "words"),
    [
        (['ladder = ["3d", "1d"]'], 2, "ladder offset 1d does not come after 3d"),
        (["colour = 1"], 2, "'colour' is not known"),
        (["", "[classes.limit]", "paydays = [30]"], 4, "payday 30 is missing in February"),
        (["", "[classes.limit]", 'ladder = ["1x"]'], 4, "'1x' cannot be read as a span"),
        (["[classes.never_again]", "ladder = []"], 2, "class 'never_again' is not one to choose"),
        (['classes.later = { ladder = ["2d", "1d"] }'], 2, "does not come after"),
        (['hours = "22:00-08:00"'], 2, "end before they begin"),
        (['hours = "morning"'], 2, "write them like 08:00-22:00"),
        (['ladder = ["1d"]', 'wait = "12h"'], 3, "the rung at 1d comes after the end"),
        (['final = "hope"'], 2, "there are: cancel, pause, unpaid, keep, write_off"),
        (['holidays = "XX"'], 2, "'XX' has no calendar"),
        (["cap = { declines = 99 }"], 2, "99 declines is not between 1 and 35"),
        (["cap = 15"], 2, "no cap"),
        (['grace = "400d"'], 2, "grace of 400d is not between"),
        (["payday_time = 11h"], 2, "it is not TOML"),
        (["what is this"], 2, "it is not TOML"),
    ],
)
def test_a_bad_policy_is_refused_with_the_line_and_the_reason(lines: list[str], line: int, words: str) -> None:
    text = "\n".join(['code = "ours"', *lines])
    with pytest.raises(BadPolicy, match=rf"ours\.toml, line {line}: .*{words}"):
        read_policy_file(text, "ours.toml")


def test_a_policy_without_a_code_is_refused() -> None:
    with pytest.raises(BadPolicy, match="it has no code"):
        read_policy_file('ladder = ["1d"]', "ours.toml")


def told(policy: DunningPolicy, said: Said) -> list[tuple[int, str]]:
    return [((thing.at - NOW).days, thing.what) for thing in preview(policy, said, NOW, "Asia/Seoul")]


def test_a_preview_shows_tries_notices_and_the_end_in_order() -> None:
    policy = DunningPolicy(ladder=(DAY, 3 * DAY), final=FinalAction.PAUSE, grace=2 * DAY, last_warning=DAY)
    policy = replace(policy, wait=10 * DAY)
    assert told(policy, Said()) == [
        (0, "declined: charge.failed, subscription.past_due"),
        (1, "try 2"),
        (2, "the grace is over: subscription.suspended"),
        (3, "try 3"),
        (9, "the final action is near: dunning.last_warning"),
        (10, "final action: pause"),
    ]


def test_a_preview_of_a_lost_card_has_no_try() -> None:
    found = told(STANDARD, Said(DeclineClass.NEVER_AGAIN))
    assert not any(what.startswith("try") for _, what in found)
    assert found[-1] == (STANDARD.patience.days, "final action: cancel")


def test_a_preview_of_a_line_that_was_never_made_ends_in_a_hold_and_one_of_a_fault_of_ours_does_not_end() -> None:
    assert told(STANDARD, Said(DeclineClass.SETUP_FAULT))[-1][1] == "and so on, until it is paid or declined"
    line = told(STANDARD, Said(DeclineClass.NOT_A_DECLINE))
    assert [words for _, words in line[-2:]] == [f"try {MOST_UNANSWERED}", "the last one is held: charge.held"]
