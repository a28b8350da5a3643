"""Each guard is taken away in memory, and the run shows it: a guard whose removal nothing notices is no guard."""

from datetime import timedelta

import pytest

from schedules.charging.charges import AttemptState
from tests.model.driving import ANCHOR, Size
from tests.model.gateway import CHECKED, Fate, Weather
from tests.model.guards import ALL, Guards
from tests.model.invariants import Broken
from tests.model.memory import Refusal
from tests.model.shops import run_in_memory, shop_in_memory
from tests.model.stage import Choose, Move, failpoints_stop_at
from tests.model.world import World
from worker.failpoints import Failpoint

# The guards that are taken away, and the first shop of the seed "guards" that shows it. Where two stand, each
# holds alone: the promise is kept twice.
NOTICED = {
    "pre_send_check": 0,
    "quiet_time": 0,
    "amount": 0,
    "unresolved_first": 0,
    "until": 0,
    "lease": 30,
    "restore_hold": 1,
    "fence+settled_once": 0,
    "unresolved_first+one_unresolved": 0,
    "claim_states+no_attempt_in_doubt": 0,
    "cursor+one_period": 0,
}
# Without these nothing is paid twice, but charges never come to an end: small shops show it as well.
NO_REST = ("unresolved_first", "cursor+one_period")
MORE_SHOPS = 25  # that are run from there on, for a change of the product changes the dice


@pytest.mark.parametrize("guards", NOTICED)
def test_without_it_the_run_breaks(guards: str) -> None:
    without = Guards(**dict.fromkeys(guards.split("+"), False))
    size = Size(6, 24) if guards in NO_REST else Size()
    with pytest.raises((Broken, Refusal)):
        run_shops_from(NOTICED[guards], size, without)


def run_shops_from(first: int, size: Size, guards: Guards) -> None:
    """Run this shop of the seed and those after it."""
    for number in range(first, first + MORE_SHOPS):
        run_in_memory(f"guards/{number}", size, guards)


def stale_worker_wakes_during_anothers_call(guards: Guards) -> World:
    """A worker sleeps from its claim until another is in its call for the same uid; then a third may come."""
    world = shop_in_memory(guards)
    with failpoints_stop_at(world.stage):
        world.arrange(["ann"], [ANCHOR])
        world.move(timedelta(days=2))
        world.open_due()
        world.top_up()
        message = world.broker.pop()
        sleeper = world.deliver(message, parked_at(Failpoint.CHARGING_CLAIMED), parks=True)
        for _ in range(6):  # its lease runs out; asked often enough after the quiet time, the uid was not sent
            world.move(timedelta(hours=1))
            world.sweep()
            world.ask_due()
            while world.broker:
                world.deliver(world.broker.pop())
            if world.books.attempts()[message.row_id][0]["state"] == AttemptState.NOT_SENT.value:
                break
        world.move(timedelta(minutes=1))
        caller = world.deliver(message, parked_at(CHECKED), parks=True)
        world.stage.go_on(sleeper)
        world.move(timedelta(minutes=1))
        world.deliver(message)
        world.stage.go_on(caller)
        world.look()
    return world


def test_the_fence_keeps_a_stale_worker_from_giving_anothers_attempt_back() -> None:
    """Guard: the fence, alone. Without it the same uid is in two calls at once, and both are taken."""
    world = stale_worker_wakes_during_anothers_call(ALL)
    assert world.gateway.calls == 1
    with pytest.raises(Broken, match="took 2 payments"):
        stale_worker_wakes_during_anothers_call(Guards(fence=False))


def a_declined_uid_is_paid_after_all_while_the_next_one_is_unknown(guards: Guards) -> World:
    """The debt is called paid by the first uid, and then the gateway tells that the second is paid too."""
    world = shop_in_memory(guards)
    with failpoints_stop_at(world.stage):
        world.arrange(["ann"], [ANCHOR])
        fates = iter([Weather(Fate.LATE_PAID, timedelta(days=1, minutes=1)), Weather(Fate.LOST_REPLY)])
        world.gateway.weather = lambda: next(fates)
        world.move(timedelta(days=2))
        world.open_due()
        for _ in range(2):
            world.top_up()
            world.deliver(world.broker.pop())
            world.move(timedelta(days=1))
        world.reconcile()
        world.ask_due()
        world.deliver(world.broker.pop())
        world.look()
    return world


def test_a_second_payment_of_a_debt_is_not_written_as_its_payment() -> None:
    """Guard: settling looks for a paid attempt, and the schema has one for each charge; each holds alone."""
    world = a_declined_uid_is_paid_after_all_while_the_next_one_is_unknown(ALL)
    (attempts,) = world.books.attempts().values()
    assert [attempt["state"] for attempt in attempts] == [AttemptState.PAID.value, AttemptState.UNKNOWN.value]
    with pytest.raises(Refusal, match="one_paid"):
        a_declined_uid_is_paid_after_all_while_the_next_one_is_unknown(Guards(has_paid=False))
    with pytest.raises(Broken, match="2 paid attempts"):
        a_declined_uid_is_paid_after_all_while_the_next_one_is_unknown(Guards(has_paid=False, one_paid=False))


@pytest.mark.parametrize("later", [Weather(), Weather(Fate.REFUSED), Weather(Fate.NOT_SENT)])
@pytest.mark.parametrize("fate", [Fate.UNCLEAR, Fate.UNCLEAR_PAID])
def test_what_failed_in_unclear_words_is_sent_again_under_the_same_uid(fate: Fate, later: Weather) -> None:
    """Guard: the same uid, which the gateway refuses when it is paid. A new one would be a second payment."""
    world = shop_in_memory(ALL)
    with failpoints_stop_at(world.stage):
        world.arrange(["ann"], [ANCHOR])
        world.move(timedelta(days=2))
        fates = iter([Weather(fate, timedelta(days=2)), later])
        world.gateway.weather = lambda: next(fates, Weather())
        world.open_due()
        world.settle_down()
        world.end()
    (attempts,) = world.books.attempts().values()
    assert [attempt["state"] for attempt in attempts] == [AttemptState.PAID.value]
    assert attempts[0]["sends"] > 1
    assert [payment.paid for payment in world.gateway.ledger[attempts[0]["merchant_uid"]]] == (
        [False, True] if fate is Fate.UNCLEAR else [True]
    )


def test_a_payment_that_shows_after_a_decline_without_a_record_is_the_debts_only_one() -> None:
    """Guard: an attempt that ended in doubt is asked about before the next call, in any interleaving."""
    size = Size(in_doubt=True)
    for number in range(10):
        run_in_memory(f"in doubt/{number}", size)
    with pytest.raises(Broken, match="took 2 payments"):
        run_shops_from(0, size, Guards(asks_in_doubt=False))


def parked_at(point: str) -> Choose:
    """Straight on to this stop."""
    return lambda stop: Move.PARK if stop == point else Move.PASS
