"""The simulator's own side tells what really happened."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.simulator.running import RunningSimulator
from worker.clock import wait_until


def test_the_ledger_can_be_read_in_pieces(simulator: RunningSimulator) -> None:
    simulator.card()
    for number in range(5):
        simulator.again(f"order{number}")
    rest = simulator.see("ledger?after=3")
    assert [movement["uid"] for movement in rest["movements"]] == ["order3", "order4"]
    assert (rest["total"], rest["calls"]["again"]) == (5, 5)
    assert [movement["uid"] for movement in simulator.see("ledger?after=1&limit=2")["movements"]] == [
        "order1",
        "order2",
    ]
    assert simulator.client.get("/_simulator/ledger?after=-1").status_code == 400


def test_the_ledger_shows_who_bought_masked(simulator: RunningSimulator) -> None:
    simulator.card()
    simulator.again(buyer_name="김밥", buyer_email="kim@example.com", buyer_tel="01012345678")
    (movement,) = simulator.movements()
    assert movement["buyer"] == {"name": "김*", "email": "k***@example.com", "tel": "0**********"}


def test_the_summary_adds_up(simulator: RunningSimulator) -> None:
    simulator.card()
    simulator.again("order1", amount=1000)
    simulator.again("order2", amount=500)
    simulator.call("POST", "/payments/cancel", json={"merchant_uid": "order1", "amount": 300})
    summary = simulator.see("ledger/summary")
    told = {name: summary[name] for name in ("charges", "amount", "cancels", "cancelled", "double", "unanswered")}
    assert told == {
        "charges": 2, "amount": 1500, "cancels": 1, "cancelled": 300, "double": [], "unanswered": 0,
    }  # fmt: skip
    assert summary["max_in_flight_same_uid"] == 1


def test_a_cancel_whose_answer_was_lost_is_not_answered(simulator: RunningSimulator) -> None:
    simulator.card()
    simulator.again()
    simulator.fault("http_502_after", call="cancel", merchant_uid="order1")
    assert simulator.call("POST", "/payments/cancel", json={"merchant_uid": "order1"}).status_code == 502
    assert [(movement["kind"], movement["answered"]) for movement in simulator.movements()] == [
        ("charge", True),
        ("cancel", False),
    ]


def test_a_client_that_went_away_before_the_answer_was_not_answered(simulator: RunningSimulator) -> None:
    simulator.card()
    simulator.call("GET", "/users/pg")
    simulator.fault("slow", seconds=0.5)
    simulator.client.timeout = httpx.Timeout(0.2)
    try:
        with pytest.raises(httpx.ReadTimeout):
            simulator.again()
    finally:
        simulator.client.timeout = httpx.Timeout(5)
    assert wait_until(lambda: len(simulator.movements()) == 1, 20)
    assert [movement["answered"] for movement in simulator.movements()] == [False]


def test_a_second_call_is_taken_while_the_first_hangs_and_refused_when_it_has_ended(
    simulator: RunningSimulator,
) -> None:
    """The worst case: the gateway looks at finished calls only. With `reject` the second is refused."""
    simulator.card()
    simulator.call("GET", "/users/pg")
    simulator.fault("timeout_after", times=1, seconds=30)
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=simulator.url, timeout=2, trust_env=False) as other:
        headers = {"Authorization": str(simulator._token)}
        body = {"customer_uid": "ann", "merchant_uid": "order1", "amount": 9900, "name": "Coffee"}
        first = pool.submit(other.post, "/subscribe/payments/again", json=body, headers=headers)
        assert wait_until(lambda: len(simulator.movements()) == 1, 20)
        assert simulator.again().json()["response"]["status"] == "paid"
        with pytest.raises(httpx.ReadTimeout):
            first.result()
    assert simulator.again().json()["code"] == -1
    summary = simulator.see("ledger/summary")
    assert (summary["double"], summary["max_in_flight_same_uid"]) == (["order1"], 2)


def test_one_call_after_the_other_is_never_two_at_once(simulator: RunningSimulator) -> None:
    simulator.card(card="no_money")
    for _ in range(5):
        simulator.again()
    assert simulator.see("ledger/summary")["max_in_flight_same_uid"] == 1


def test_the_clock_is_set_runs_on_and_is_reset(simulator: RunningSimulator) -> None:
    assert abs(simulator.see("clock")["now"] - time.time()) < 5
    set_to = simulator.tell("clock", {"now": "2026-01-31T09:00:00+09:00"})["now"]
    assert 1769817600 <= set_to < 1769817605
    assert wait_until(lambda: simulator.see("clock")["now"] > set_to, 20), "it stands"
    assert simulator.tell("clock", {"advance": 86400})["now"] >= set_to + 86400
    assert simulator.tell("clock", {"now": 1000})["now"] < 1005
    assert abs(simulator.tell("clock", {"reset": True})["now"] - time.time()) < 5


@pytest.mark.parametrize("wish", [{}, {"now": "tomorrow"}, {"advance": "a day"}, {"now": [1]}, [], "now"])
def test_a_clock_that_cannot_be_set_is_told_so(simulator: RunningSimulator, wish: object) -> None:
    answer = simulator.client.post("/_simulator/clock", json=wish)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_the_rate_is_counted_in_real_time(simulator: RunningSimulator) -> None:
    simulator.card()
    simulator.tell("faults", {"rate_cap": 3})
    statuses = [simulator.again(f"order{number}").status_code for number in range(6)]
    rate = simulator.see("rate")
    assert rate["refused"] == statuses.count(429) > 0
    assert sum(rate["charges_by_second"].values()) == 6
    assert 3 < rate["most_in_a_second"] <= 6


def test_a_reset_empties_everything(simulator: RunningSimulator) -> None:
    simulator.card()
    simulator.again()
    simulator.tell("faults", {"rate_cap": 1, "rules": [{"fault": "slow"}]})
    simulator.tell("clock", {"advance": 1000})
    simulator.tell("reset", {})
    assert simulator.movements() == []
    assert simulator.see("cards") == {"cards": []}
    assert (simulator.see("faults")["rules"], simulator.see("faults")["rate_cap"]) == ([], None)
    assert abs(simulator.see("clock")["now"] - time.time()) < 5
    assert simulator.again().status_code == 401, "the token is forgotten as well"
