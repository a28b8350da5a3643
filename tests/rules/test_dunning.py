"""The plain ladder: offsets from the first decline, and three counters that are never mixed."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedules.dunning import (
    LEAST_SPACING,
    AskGateway,
    Collected,
    DunningPolicy,
    FinalAction,
    GiveUp,
    History,
    SendAgain,
    SetAside,
    TryAgain,
    decide,
)
from schedules.errors import BadPolicy
from schedules.outcomes import Declined, NotSent, Paid, Refused, Unknown

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
POLICY = DunningPolicy(ladder=(DAY, 3 * DAY, 7 * DAY))
offsets = st.lists(st.integers(1, 60), unique=True, max_size=20).map(lambda days: tuple(sorted(days)))
histories = st.builds(
    History,
    first_declined_at=st.none(),
    declines=st.just(0),
    technical_tries=st.integers(0, 500),
    refusals=st.integers(0, 500),
)


def test_money_ends_it() -> None:
    assert decide(Paid("imps_1"), History(), POLICY, "uid", NOW) == Collected()


def test_rungs_are_counted_from_the_first_decline() -> None:
    first = NOW - DAY
    history = History(first_declined_at=first, declines=1)
    assert decide(Declined("no"), history, POLICY, "uid", NOW) == TryAgain(first + 3 * DAY)


def test_the_ladder_ends_with_the_policys_final_action() -> None:
    policy = DunningPolicy(ladder=(DAY,), final=FinalAction.CANCEL)
    history = History(first_declined_at=NOW, declines=1)
    assert decide(Declined("no"), history, policy, "uid", NOW) == GiveUp(FinalAction.CANCEL)


def test_after_downtime_rungs_that_are_past_are_not_used_up_at_once() -> None:
    history = History(first_declined_at=NOW - 30 * DAY, declines=1)
    assert decide(Declined("no"), history, POLICY, "uid", NOW) == TryAgain(NOW + LEAST_SPACING)


def test_doubt_asks_and_a_mismatch_calls_a_person() -> None:
    assert decide(Unknown("time-out"), History(), POLICY, "uid", NOW) == AskGateway()
    assert decide(Unknown("990 instead of 9900", mismatch=True), History(), POLICY, "uid", NOW) == SetAside(
        "990 instead of 9900"
    )


@given(histories)
def test_an_outage_however_long_uses_up_no_rung(history: History) -> None:
    """NotSent and Refused leave the ladder's own counters alone, and always come back."""
    assert isinstance(decide(NotSent("ConnectError"), history, POLICY, "uid", NOW), SendAgain)
    assert isinstance(decide(Refused("credentials"), history, POLICY, "uid", NOW), TryAgain)
    assert decide(Declined("no"), history, POLICY, "uid", NOW) == TryAgain(NOW + DAY)


@given(st.integers(0, 1000))
def test_a_technical_retry_comes_within_an_hour_and_a_half(tries: int) -> None:
    decision = decide(NotSent("x"), History(technical_tries=tries), POLICY, f"uid{tries}", NOW)
    assert isinstance(decision, SendAgain)
    assert timedelta(seconds=15) <= decision.at - NOW < timedelta(minutes=90)


@given(offsets)
def test_every_ladder_gives_as_many_tries_as_it_has_rungs_in_rising_order(days: tuple[int, ...]) -> None:
    policy = DunningPolicy(ladder=tuple(timedelta(days=d) for d in days))
    now, history, tries = NOW, History(), []
    while isinstance(decision := decide(Declined("no"), history, policy, "uid", now), TryAgain):
        tries.append(decision.at)
        now = decision.at
        history = History(first_declined_at=history.first_declined_at or NOW, declines=history.declines + 1)
    assert tries == [NOW + timedelta(days=d) for d in days]


@given(offsets, st.sampled_from(FinalAction))
def test_a_policy_is_read_back_as_it_was_kept(days: tuple[int, ...], final: FinalAction) -> None:
    policy = DunningPolicy(ladder=tuple(timedelta(days=d) for d in days), final=final)
    assert DunningPolicy.from_json(policy.to_json()) == policy


@pytest.mark.parametrize("ladder", [(DAY, DAY), (3 * DAY, DAY), (timedelta(0),), (-DAY,), (DAY,) * 21])
def test_a_ladder_that_does_not_rise_or_is_too_long_is_refused(ladder: tuple[timedelta, ...]) -> None:
    with pytest.raises(BadPolicy):
        DunningPolicy(ladder=ladder)
