"""Leaving: a slot for each call, none that nobody waits for, and room after one that left too late."""

import pytest

from tests.factories import many_opened, with_settings
from worker.clock import elapsed, wait
from worker.store import rates
from worker.workflows import charging
from worker.workflows.grouping import Claimed, Groups
from worker.workflows.leaving import LATE, PATIENCE, Leaving, ask_leave, interval, too_late
from worker.workflows.services import Services


def claimed_many(services: Services, many: int) -> list[Claimed]:
    """So many charges, each claimed."""
    claims = Groups(services).claim_many(many_opened(services, many))
    return [claim for claim in claims if isinstance(claim, Claimed)]


def test_a_group_takes_a_slot_for_each_call(services: Services) -> None:
    leaves = ask_leave(services, [Leaving(each.intent.id, "main", 2) for each in claimed_many(services, 3)])
    first, second, third = (leave.earliest for leave in leaves)
    assert second - first == pytest.approx(third - second)
    assert second - first >= 0.5
    with services.engine.begin() as db:
        following = rates.grant(db, "main", 2, 60)
    assert following is not None
    assert elapsed() + following > third


def test_no_slot_is_taken_that_nobody_waits_for(services: Services) -> None:
    """Guard: at a low cap the last of a group would wait a minute, and its slot would go unused."""
    leaves = ask_leave(services, [Leaving(each.intent.id, "main", 1) for each in claimed_many(services, 12)])
    granted = [leave for leave in leaves if leave.is_granted]
    assert 1 < len(granted) < 8
    assert leaves[: len(granted)] == granted
    assert granted[-1].earliest - elapsed() <= PATIENCE
    with services.engine.begin() as db:
        following = rates.grant(db, "main", 1, 60)
    assert following is not None
    assert following < PATIENCE + 2


def test_what_left_too_late_puts_off_what_follows(services: Services) -> None:
    """Guard: the late call falls into a second that those after it fill."""
    one, other = claimed_many(services, 2)
    (first,) = ask_leave(services, [Leaving(one.intent.id, "main", 10)])
    (second,) = ask_leave(services, [Leaving(other.intent.id, "main", 10)], {"main": 0.7})
    assert second.earliest - first.earliest == pytest.approx(interval(10) + 0.7, abs=0.02)


def test_what_left_too_late_puts_off_what_others_send(services: Services) -> None:
    """Guard: though nothing of this process follows."""
    (one,) = claimed_many(services, 1)
    (first,) = ask_leave(services, [Leaving(one.intent.id, "main", 10)])
    assert ask_leave(services, [], {"main": 0.7}) == []
    with services.engine.begin() as db:
        following = rates.grant(db, "main", 10, 60)
    assert following is not None
    assert elapsed() + following - first.earliest == pytest.approx(interval(10) + 0.7, abs=0.02)


def test_putting_off_an_account_without_slots_is_no_matter(services: Services) -> None:
    assert ask_leave(services, [], {"nobody": 0.7}) == []
    with services.engine.begin() as db:
        assert rates.grant(db, "nobody", 10, 60) == 0


def test_a_little_late_is_within_what_the_spread_leaves(services: Services) -> None:
    assert too_late(100, LATE) == 0
    assert too_late(100, LATE + 0.01) == pytest.approx(0.01)
    assert too_late(5000, 0.05) == 0


@pytest.mark.parametrize("cap", [1, 7, 40, 120, 999])
def test_no_second_sees_more_than_the_cap_though_each_call_is_as_late_as_it_may_be(cap: int) -> None:
    """From the first of `cap + 1` calls, as late as is allowed, to the last, on time, is more than a second."""
    assert cap * interval(cap) - LATE > 1.01


def test_a_slot_that_was_missed_is_not_used(services: Services) -> None:
    """Guard: a late call would make a second of somebody else's fuller than the cap."""
    made = with_settings(services, rate=20)
    (claimed,) = claimed_many(made, 1)
    (leave,) = ask_leave(made, [Leaving(claimed.intent.id, "main", 20)])
    wait(leave.latest - elapsed() + 0.02)
    taken = charging._await_leave(made, claimed)
    assert taken.is_granted
    assert taken.latest > leave.latest
