"""SlotRequest: a slot for each call, none that nobody waits for, and room after one that left too late."""

from itertools import pairwise

import pytest

from tests.factories import many_opened, with_settings
from worker.charging import rate_limiter
from worker.charging.claim import Claimed, claim_many
from worker.charging.rate_limiter import (
    LATE,
    PATIENCE,
    SLEW,
    Permit,
    SlotClock,
    SlotRequest,
    await_permit,
    interval,
    request_permits,
    too_late,
)
from worker.clock import OtherClock, elapsed, wait
from worker.services import Services
from worker.store.charging import rates


def claimed_many(services: Services, many: int) -> list[Claimed]:
    """So many charges, each claimed."""
    claims = claim_many(services, many_opened(services, many))
    return [claim for claim in claims if isinstance(claim, Claimed)]


def test_a_group_takes_a_slot_for_each_call(services: Services) -> None:
    permits = request_permits(
        services, [SlotRequest(each.intent.id, "main", 2) for each in claimed_many(services, 3)]
    )
    first, second, third = (permit.earliest for permit in permits)
    assert second - first == pytest.approx(third - second)
    assert second - first >= 0.5
    with services.engine.begin() as db:
        following = rates.grant(db, "main", 2, 60)
    assert following is not None
    assert elapsed() + following > third


def test_no_slot_is_taken_that_nobody_waits_for(services: Services) -> None:
    """Guard: at a low cap the last of a group would wait a minute, and its slot would go unused."""
    permits = request_permits(
        services, [SlotRequest(each.intent.id, "main", 1) for each in claimed_many(services, 12)]
    )
    granted = [permit for permit in permits if permit.is_granted]
    assert 1 < len(granted) < 8
    assert permits[: len(granted)] == granted
    assert granted[-1].earliest - elapsed() <= PATIENCE
    with services.engine.begin() as db:
        following = rates.grant(db, "main", 1, 60)
    assert following is not None
    assert following < PATIENCE + 2


def free_at(services: Services) -> tuple[float, float]:
    """When the account's next slot begins, and the time now, by the database's clock."""
    query = "SELECT extract(epoch FROM next_free_at), extract(epoch FROM clock_timestamp()) FROM rate_buckets"
    with services.engine.begin() as db:
        next_free_at, now = db.exec_driver_sql(query).one()
    return float(next_free_at), float(now)


def test_what_left_too_late_puts_off_what_follows(services: Services) -> None:
    """Guard: the late call falls into a second that those after it fill."""
    one, other = claimed_many(services, 2)
    (first,) = request_permits(services, [SlotRequest(one.intent.id, "main", 10)])
    before, _ = free_at(services)
    (second,) = request_permits(services, [SlotRequest(other.intent.id, "main", 10)], {"main": 0.7})
    after, now = free_at(services)
    assert second.earliest - first.earliest > (interval(10) + 0.7) * (1 - 2 * SLEW)
    earliest = max(before, now + services.check_times.extra)
    assert before + 0.7 + interval(10) - 0.001 < after < earliest + 0.7 + interval(10) + 0.001


def test_what_left_too_late_puts_off_what_others_send(services: Services) -> None:
    """Guard: though nothing of this process follows."""
    (one,) = claimed_many(services, 1)
    request_permits(services, [SlotRequest(one.intent.id, "main", 10)])
    before, _ = free_at(services)
    assert request_permits(services, [], {"main": 0.7}) == []
    after, now = free_at(services)
    assert before + 0.7 - 0.001 < after < max(before, now) + 0.7 + 0.001


def test_putting_off_an_account_without_slots_is_no_matter(services: Services) -> None:
    assert request_permits(services, [], {"nobody": 0.7}) == []
    with services.engine.begin() as db:
        assert rates.grant(db, "nobody", 10, 60) == 0


def test_a_little_late_is_within_what_the_spread_leaves(services: Services) -> None:
    assert too_late(100, LATE) == 0
    assert too_late(100, LATE + 0.01) == pytest.approx(0.01)
    assert too_late(5000, 0.05) == 0


@pytest.mark.parametrize("cap", [1, 7, 40, 120, 999])
def test_no_second_sees_more_than_the_cap_though_each_call_is_as_late_as_it_may_be(cap: int) -> None:
    """From the first of `cap + 1` calls, as late as is allowed, to the last, on time, is more than a second."""
    assert cap * interval(cap) * (1 - SLEW) - LATE > 1.01


class Late(OtherClock):
    """Estimates as after a slow answer: what it converts is late by some of that."""

    seconds = 0.3

    def here(self, asked_at: float, answered_at: float, theirs: float) -> float:
        return super().here(asked_at, answered_at, theirs) + self.seconds


def test_slots_come_no_closer_when_the_estimate_of_the_databases_clock_improves(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: a second would see more calls than the cap."""
    clock = Late()
    monkeypatch.setattr(rate_limiter, "_CLOCK", SlotClock(clock))
    ids = [each.intent.id for each in claimed_many(services, 4)]
    (before,) = request_permits(services, [SlotRequest(ids[0], "main", 40)])
    clock.seconds = 0.0
    slots = [before.earliest]
    for group in (ids[1:3], ids[3:]):
        slots += [
            permit.earliest
            for permit in request_permits(services, [SlotRequest(each, "main", 40) for each in group])
        ]
    assert min(later - earlier for earlier, later in pairwise(slots)) > interval(40) * (1 - 2 * SLEW)


def test_a_slot_that_another_thread_was_given_first_is_left_where_it_is() -> None:
    """Guard: else each such pair of answers would move all later slots."""
    clock, now = SlotClock(OtherClock()), elapsed()
    second = clock.begins("main", now, now, rates.Moment(0.1, 1000.0), 0.0)
    first = clock.begins("main", now, now, rates.Moment(0.0, 1000.0), 0.0)
    third = clock.begins("main", now, now, rates.Moment(0.2, 1000.0), 0.0)
    assert [second - first, third - second] == pytest.approx([0.1, 0.1])


@pytest.mark.parametrize("then", [1000.0, 90000.0])
def test_a_database_whose_clock_was_set_gives_slots_from_now_on(then: float) -> None:
    """Guard: else charges would wait for as long as a new primary's clock is ahead."""
    clock, now = SlotClock(OtherClock()), elapsed()
    clock.begins("main", now, now, rates.Moment(0.0, 9000.0), 0.0)
    after = clock.begins("main", now + 2, now + 2, rates.Moment(0.0, then), 0.0)
    following = clock.begins("main", now + 2, now + 2, rates.Moment(0.5, then), 0.0)
    assert [after, following] == pytest.approx([now + 2, now + 2.5], abs=0.1)


def test_a_slot_that_was_missed_is_not_used(services: Services) -> None:
    """Guard: a late call would make a second of somebody else's fuller than the cap."""
    made = with_settings(services, rate=20)
    (claimed,) = claimed_many(made, 1)
    (permit,) = request_permits(made, [SlotRequest(claimed.intent.id, "main", 20)])
    wait(permit.latest - elapsed() + 0.02)
    taken = await_permit(made, claimed)
    assert isinstance(taken, Permit)
    assert taken.latest > permit.latest
