"""Crash rows 1 to 5 and 12: openers, dispatchers and the broker die, and messages are lost, doubled or late."""

import shutil
from datetime import timedelta

import pytest

from schedules.charging.charges import AttemptState, ChargeStatus
from tests.crashes.process import STOP
from tests.crashes.shop import OPS, PATIENCE, WORKERS, Shop, thaw
from worker.clock import wait_until
from worker.failpoints import Failpoint


def test_row_1_an_opener_that_dies_before_it_commits_leaves_nothing(shop: Shop) -> None:
    """Guard: charges and cursor move in one transaction, so the next tick finds the period due."""
    shop.order(Failpoint.OPENING_WRITTEN)
    key = shop.customer("row1")
    shop.struck(Failpoint.OPENING_WRITTEN)
    assert shop.first_charge(key) is None
    shop.mend()
    shop.let_end(key)
    shop.books_agree("row1")


@pytest.mark.parametrize(
    ("customer_uid", "point"), [("row2a", Failpoint.OPENING_COMMITTED), ("row2b", Failpoint.DISPATCHING_QUEUED)]
)
def test_row_2_a_charge_whose_message_was_never_sent_is_dispatched_later(
    shop: Shop, customer_uid: str, point: Failpoint
) -> None:
    """Guard: dispatching looks for what is due in the rows, and again when queue_patience is over."""
    shop.order(point)
    key = shop.customer(customer_uid)
    shop.struck(point)
    assert shop.first_charge(key) is not None
    assert shop.messages() == 0
    assert shop.attempts(key) == []
    shop.mend()
    shop.let_end(key)
    shop.books_agree(customer_uid)


def test_row_3_a_dispatcher_that_dies_with_its_messages_out_sends_them_twice_and_charges_once(shop: Shop) -> None:
    """Guard: the claim, under the charge's lock, asks whether it is due and whether an attempt is under way."""
    shop.fault("row3", "slow", seconds=1)
    shop.kill(WORKERS)
    shop.order(Failpoint.DISPATCHING_PUBLISHED)
    key = shop.customer("row3")
    shop.struck(Failpoint.DISPATCHING_PUBLISHED)
    assert shop.messages() == 1
    shop.installation.restart(OPS)
    shop.pass_time(timedelta(seconds=5))
    assert wait_until(lambda: shop.messages() == 2, PATIENCE)
    calls, held = shop.charges_sent(), shop.held_messages()
    shop.installation.restart(WORKERS)
    shop.let_end(key)
    shop.wait_until_worked_off(held)
    assert shop.charges_sent() == calls + 1
    shop.books_agree("row3")


@pytest.mark.parametrize("loss", ["flush", "crash"])
def test_row_4_a_broker_that_loses_everything_loses_no_charge(shop: Shop, loss: str) -> None:
    """Guard: a charge is thought to be queued for queue_patience only."""
    shop.kill(WORKERS)
    key = shop.customer(f"row4{loss}")
    assert wait_until(lambda: shop.messages() == 1, PATIENCE)
    if loss == "flush":
        shop.broker.flushall()
    else:
        assert shop.standing.services is not None
        shop.standing.services.valkey.crash()
        shutil.rmtree(shop.standing.services.valkey.folder / "appendonlydir")
        shop.standing.services.valkey.restart()
    assert shop.messages() == 0
    shop.installation.restart(WORKERS)
    shop.let_end(key)
    (attempt,) = shop.attempts(key)
    assert attempt["sends"] == 1
    shop.books_agree(f"row4{loss}")


def test_row_5_a_worker_that_dies_before_the_claim_leaves_a_charge_that_is_queued_again(shop: Shop) -> None:
    """Guard: as row 4; the broker's own redelivery would come as well, after the visibility time-out."""
    shop.order(Failpoint.CHARGING_BEGUN)
    key = shop.customer("row5")
    shop.struck(Failpoint.CHARGING_BEGUN)
    assert shop.attempts(key) == []
    shop.mend()
    shop.let_end(key)
    (attempt,) = shop.attempts(key)
    assert attempt["sends"] == 1
    shop.books_agree("row5")


def test_row_12_a_message_that_comes_back_after_the_charge_is_closed_does_nothing(shop: Shop) -> None:
    """Guard: the claim asks whether it is owed, and whether an attempt is paid; behind it, the pre-send check."""
    key = shop.customer("row12")
    shop.let_end(key)
    calls, tried, held = shop.charges_sent(), shop.attempts(key), shop.held_messages()
    shop.pass_time(timedelta(days=3))
    shop.publish(key, times=20)
    shop.wait_until_worked_off(held)
    assert (shop.charges_sent(), shop.attempts(key)) == (calls, tried)
    shop.books_agree("row12")


def test_row_12_a_message_that_comes_back_between_two_rungs_of_the_ladder_does_nothing(shop: Shop) -> None:
    """Guard: the claim asks whether the charge is due, which nothing behind it does."""
    key = shop.customer("row12c", card="no_money")
    shop.wait_for_attempt(key, AttemptState.DECLINED)
    calls, tried, held = shop.charges_sent(), shop.attempts(key), shop.held_messages()
    shop.publish(key, times=20)
    shop.wait_until_worked_off(held)
    assert (shop.charges_sent(), shop.attempts(key)) == (calls, tried)
    shop.installation.told("unsubscribe", key, "--now", "--why", "it would be tried again in other tests")
    shop.books_agree("row12c")


def test_row_12_a_subscription_that_ends_after_the_claim_is_not_charged(shop: Shop) -> None:
    """Guard: the pre-send check, just before the call; the claim was in order."""
    calls = shop.charges_sent()
    shop.order(Failpoint.CHARGING_CLAIMED, STOP)
    key = shop.customer("row12b")
    sleeper = shop.struck(Failpoint.CHARGING_CLAIMED)
    shop.installation.told("unsubscribe", key, "--now", "--why", "changed their mind")
    thaw(sleeper)
    shop.let_end(key, ChargeStatus.CANCELED)
    assert shop.charges_sent() == calls
    shop.books_agree("row12b")
