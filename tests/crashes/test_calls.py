"""Crash rows 6 to 11 and 16: death and sleep around the call that moves the money, and what the gateway adds."""

from datetime import timedelta
from typing import Any

import pytest

from schedules.charging.charges import AttemptState
from tests.crashes.process import STOP
from tests.crashes.shop import BRISK, PATIENCE, WORKERS, Shop, thaw
from worker.clock import elapsed, wait_until
from worker.failpoints import Failpoint


def test_row_6_a_worker_that_dies_between_claim_and_call_has_the_same_uid_sent_later(shop: Shop) -> None:
    """Guard: an unknown attempt is asked about until it is surely not there, and its uid is sent again."""
    shop.order(Failpoint.CHARGING_CLAIMED)
    key = shop.customer("row6")
    shop.struck(Failpoint.CHARGING_CLAIMED)
    assert shop.movements("row6") == []
    shop.mend()
    shop.outlast_lease(key)
    shop.let_end(key)
    (attempt,) = shop.attempts(key)
    assert (attempt["sends"], attempt["asks"]) == (2, 2)
    shop.books_agree("row6")


@pytest.mark.parametrize(
    ("customer_uid", "fault", "sends"),
    [
        pytest.param("row7a", "timeout_before", 2, id="and no money ever moves"),
        pytest.param("row7b", "slow", 1, id="and the money moves after its death"),
        pytest.param("row7c", "timeout_after", 1, id="and the money has moved"),
    ],
)
def test_row_7_a_worker_that_dies_during_the_call_neither_loses_nor_doubles_the_charge(
    shop: Shop, customer_uid: str, fault: str, sends: int
) -> None:
    """Guard: a lease that has run out makes the outcome unknown, never failed; the gateway's word ends that."""
    calls = shop.charges_sent()
    shop.fault(customer_uid, fault, times=1, seconds=2 if fault == "slow" else 70)
    key = shop.customer(customer_uid)
    assert wait_until(lambda: shop.charges_sent() == calls + 1, PATIENCE)
    if fault == "timeout_after":
        assert wait_until(lambda: len(shop.movements(customer_uid)) == 1, PATIENCE)
    shop.kill(WORKERS)
    shop.mend()
    if sends == 1:
        assert wait_until(lambda: len(shop.movements(customer_uid)) == 1, PATIENCE)
    shop.outlast_lease(key)
    shop.let_end(key)
    (attempt,) = shop.attempts(key)
    assert attempt["sends"] == sends
    assert shop.charges_sent() == calls + sends
    shop.books_agree(customer_uid)


def test_row_8_a_reply_that_is_lost_is_found_by_asking(shop: Shop) -> None:
    """Guard: what cannot be read after sending is unknown, not failed."""
    faults = ("reset_after", "timeout_after", "truncated")
    for fault in faults:
        shop.fault(fault, fault, times=1)
    keys = {fault: shop.customer(fault) for fault in faults}
    for fault, key in keys.items():
        shop.wait_for_attempt(key, AttemptState.UNKNOWN)
        assert len(shop.movements(fault)) == 1
    for key in keys.values():
        shop.let_end(key)
        (attempt,) = shop.attempts(key)
        assert attempt["sends"] == 1
    shop.books_agree(*faults)


def test_row_9_a_worker_that_dies_with_the_answer_in_its_hands_has_it_found_again(shop: Shop) -> None:
    """Guard: as row 7; the row was there before the call, so there is a uid to ask about."""
    shop.order(Failpoint.CHARGING_ANSWERED)
    key = shop.customer("row9")
    shop.struck(Failpoint.CHARGING_ANSWERED)
    assert len(shop.movements("row9")) == 1
    shop.mend()
    shop.outlast_lease(key)
    shop.let_end(key)
    (attempt,) = shop.attempts(key)
    assert attempt["sends"] == 1
    shop.books_agree("row9")


def test_row_9_a_worker_that_dies_before_its_answer_is_committed_has_it_found_again(shop: Shop) -> None:
    """Guard: attempt, charge and notice are settled in one transaction."""
    shop.order(Failpoint.SETTLING_WRITTEN)
    key = shop.customer("row9b")
    shop.struck(Failpoint.SETTLING_WRITTEN)
    shop.mend()
    shop.outlast_lease(key)
    shop.let_end(key)
    shop.books_agree("row9b")


def test_row_10_a_worker_that_wakes_after_its_lease_writes_nothing(shop: Shop) -> None:
    """Guard: every write of an answer names the fence and the state that the attempt was claimed with."""
    shop.order(Failpoint.CHARGING_ANSWERED, STOP)
    key = shop.customer("row10")
    sleeper = shop.struck(Failpoint.CHARGING_ANSWERED)
    shop.outlast_lease(key)
    shop.let_end(key)
    before = shop.attempts(key), shop.events(key)
    thaw(sleeper)
    assert wait_until(lambda: f"{before[0][0]['merchant_uid']}: a stale answer" in shop.log_of(sleeper), PATIENCE)
    assert (shop.attempts(key), shop.events(key)) == before
    shop.books_agree("row10")


def test_row_10_a_stale_answer_is_left_out_while_another_worker_sends_the_same_uid(shop: Shop) -> None:
    """Guard: the fence alone, for the state is the same. Without it the uid would be sent a third time, at once.

    The first worker's call was refused by the rate cap, so its stale answer says that the uid may be sent.
    """
    shop.fault("row10b", "http_429", times=1)
    shop.fault("row10b", "slow", times=1, seconds=2)
    shop.order(Failpoint.CHARGING_ANSWERED, STOP)
    key = shop.customer("row10b")
    sleeper = shop.struck(Failpoint.CHARGING_ANSWERED)
    calls = shop.charges_sent()
    shop.outlast_lease(key)
    shop.ask_until(key, AttemptState.NOT_SENT)
    shop.let_be_tried(key)
    assert wait_until(lambda: shop.charges_sent() == calls + 1, PATIENCE)
    sending = shop.attempts(key)
    assert (sending[0]["state"], sending[0]["sends"]) == (AttemptState.SENDING, 2)
    thaw(sleeper)
    stale = f"{sending[0]['merchant_uid']}: a stale answer (NotSent)"
    assert wait_until(lambda: stale in shop.log_of(sleeper), PATIENCE), shop.log_of(sleeper)
    assert shop.attempts(key) == sending
    shop.let_end(key)
    assert shop.charges_sent() == calls + 1
    shop.books_agree("row10b")


@pytest.mark.parametrize(
    ("customer_uid", "meanwhile"),
    [
        pytest.param("row11a", AttemptState.PAID, id="after another has been paid"),
        pytest.param("row11b", AttemptState.SENDING, id="while another's call is under way"),
    ],
)
def test_row_11_a_worker_that_wakes_after_its_lease_does_not_send(
    shop: Shop, customer_uid: str, meanwhile: AttemptState
) -> None:
    """Guard: the deadline of a call counts from before the pre-send check, by a clock that goes on in sleep.

    The gateway would refuse a uid that is paid, but takes two calls at once.
    """
    shop.order(Failpoint.CHARGING_LOOKED, STOP)
    key = shop.customer(customer_uid)
    sleeper = shop.struck(Failpoint.CHARGING_LOOKED)
    calls = shop.charges_sent()
    late = elapsed() + float(BRISK["AGAIN_CALL_DEADLINE"])
    assert wait_until(lambda: elapsed() > late, PATIENCE)
    if meanwhile is AttemptState.SENDING:
        shop.fault(customer_uid, "slow", times=1, seconds=2)
    shop.outlast_lease(key)
    shop.ask_until(key, AttemptState.NOT_SENT)
    shop.let_be_tried(key)
    shop.wait_for_attempt(key, meanwhile)
    thaw(sleeper)
    uid = shop.attempts(key)[0]["merchant_uid"]
    assert wait_until(lambda: f"{uid}: a stale answer" in shop.log_of(sleeper), PATIENCE)
    shop.let_end(key)
    assert shop.charges_sent() == calls + 1
    shop.books_agree(customer_uid)


@pytest.mark.parametrize(
    ("customer_uid", "point"),
    [
        pytest.param("row6c", Failpoint.CHARGING_CLAIMED, id="after its claim"),
        pytest.param("row6l", Failpoint.CHARGING_LOOKED, id="just before its call"),
    ],
)
def test_row_6_a_worker_that_wakes_after_its_lease_gives_back_what_it_has_not_sent(
    shop: Shop, customer_uid: str, point: Failpoint
) -> None:
    """Guard: it knows that nothing has left, so no quiet answers are waited for: it goes out within a minute."""
    shop.order(point, STOP)
    key = shop.customer(customer_uid)
    sleeper = shop.struck(point)
    calls = shop.charges_sent()
    late = elapsed() + float(BRISK["AGAIN_CALL_DEADLINE"])
    assert wait_until(lambda: elapsed() > late, PATIENCE)
    shop.outlast_lease(key)
    thaw(sleeper)
    shop.wait_for_attempt(key, AttemptState.READY)
    charge = shop.first_charge(key)
    assert charge is not None
    assert charge["next_attempt_at"] <= shop.now() + timedelta(minutes=1)
    assert shop.charges_sent() == calls
    shop.let_end(key)
    (attempt,) = shop.attempts(key)
    assert (attempt["sends"], attempt["asks"]) == (2, 0)
    assert shop.charges_sent() == calls + 1
    shop.books_agree(customer_uid)


def test_row_16_a_failed_attempt_that_turns_paid_after_its_successor_is_found_and_given_back(shop: Shop) -> None:
    """Guard: the reconciler, which pages the gateway's own list; our side alone cannot see this."""
    shop.fault("row16", "late_paid", times=1, seconds=timedelta(days=2).total_seconds())
    key = shop.customer("row16")
    shop.wait_for_attempt(key, AttemptState.DECLINED)
    charge = shop.let_end(key)
    shop.books_agree("row16")
    shop.pass_time(timedelta(days=2))
    assert wait_until(lambda: len(shop.movements("row16")) == 2, PATIENCE)
    shop.pass_time(timedelta(hours=1))  # for the reconciler's next run

    def found(state: str) -> list[dict[str, Any]]:
        listed = shop.installation.told_json("findings", "--all")
        return [f for f in listed if f["charge_key"] == charge["key"] and f["state"] == state]

    assert wait_until(lambda: found("open") != [], PATIENCE)
    (finding,) = found("open")
    late, paid = shop.attempts(key)
    assert (finding["kind"], finding["merchant_uid"]) == ("double", late["merchant_uid"])
    assert paid["state"] == AttemptState.PAID
    shop.installation.told("findings", "refund", str(finding["id"]), "--why", "paid twice")
    assert wait_until(lambda: found("refunded") != [], PATIENCE)
    shop.installation.told("resume-charging", "--account", "main", "--why", "looked at")
    shop.books_agree("row16")
