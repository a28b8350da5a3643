"""Faults: what a client sees, and whether the money moved."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.simulator.running import RunningSimulator, running_simulator


@pytest.mark.parametrize(
    ("fault", "seen", "moved"),
    [
        ("timeout_before", httpx.ReadTimeout, 0),
        ("timeout_after", httpx.ReadTimeout, 1),
        ("reset_before", httpx.ReadError, 0),
        ("reset_after", httpx.ReadError, 1),
        ("reset_in_body", httpx.ReadError, 1),
    ],
)
def test_a_call_without_an_answer(
    simulator: RunningSimulator, fault: str, seen: type[httpx.HTTPError], moved: int
) -> None:
    simulator.card()
    simulator.call("GET", "/users/pg")
    simulator.fault(fault, seconds=30)
    simulator.client.timeout = httpx.Timeout(0.4)
    try:
        with pytest.raises((seen, httpx.RemoteProtocolError)):
            simulator.again()
    finally:
        simulator.client.timeout = httpx.Timeout(5)
    assert [movement["answered"] for movement in simulator.movements()] == [False] * moved


@pytest.mark.parametrize(
    ("fault", "status", "moved"),
    [
        ("http_500_before", 500, 0),
        ("http_500_after", 500, 1),
        ("http_502_before", 502, 0),
        ("http_502_after", 502, 1),
        ("http_429", 429, 0),
        ("token_expired", 401, 0),
        ("garbage", 200, 1),
        ("truncated", 200, 1),
    ],
)
def test_a_call_with_a_bad_answer(simulator: RunningSimulator, fault: str, status: int, moved: int) -> None:
    simulator.card()
    simulator.fault(fault)
    answer = simulator.again()
    assert answer.status_code == status
    if status == 200:
        with pytest.raises(ValueError):
            answer.json()
    assert len(simulator.movements()) == moved


def test_a_wrong_amount_is_in_the_answer_and_in_the_records(simulator: RunningSimulator) -> None:
    simulator.card()
    simulator.fault("wrong_amount")
    assert simulator.again(amount=1000).json()["response"]["amount"] == 1100
    assert simulator.call("GET", "/payments/find/order1").json()["response"]["amount"] == 1100


def test_a_payment_reported_failed_turns_paid_later(simulator: RunningSimulator) -> None:
    simulator.card()
    simulator.fault("late_paid", seconds=600)
    assert simulator.again().json()["response"]["status"] == "failed"
    assert simulator.movements() == []
    simulator.tell("clock", {"advance": 601})
    assert simulator.call("GET", "/payments/find/order1").json()["response"]["status"] == "paid"
    assert [movement["late"] for movement in simulator.movements()] == [True]


def test_a_payment_may_show_late(simulator: RunningSimulator) -> None:
    simulator.card()
    simulator.fault("late_shown", seconds=60)
    simulator.again()
    assert simulator.call("GET", "/payments/findAll/order1").status_code == 404
    simulator.tell("clock", {"advance": 61})
    assert simulator.call("GET", "/payments/findAll/order1").status_code == 200


@pytest.mark.parametrize(("switch", "taken"), [("allow", 2), ("reject", 1)])
def test_two_calls_at_once_with_one_uid(simulator: RunningSimulator, switch: str, taken: int) -> None:
    simulator.card()
    simulator.call("GET", "/users/pg")
    simulator.tell("faults", {"concurrent_same_uid": switch, "latency_ms": 300})
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: simulator.again(), range(2)))
    summary = simulator.see("ledger/summary")
    assert summary["charges"] == taken
    assert summary["max_in_flight_same_uid"] == 2
    assert summary["double"] == (["order1"] if taken == 2 else [])


def test_a_rate_hits_the_same_calls_whenever_it_is_run(simulator: RunningSimulator) -> None:
    def hit() -> list[int]:
        simulator.tell("reset", {})
        simulator.forget_token()
        simulator.card()
        simulator.tell("faults", {"seed": 7, "rules": [{"fault": "http_429", "rate": 0.3}]})
        return [number for number in range(60) if simulator.again(f"order{number}").status_code == 429]

    first = hit()
    assert first == hit()
    assert 5 < len(first) < 35


def test_a_rate_does_not_mind_the_order_of_arrival_and_each_sending_is_a_call_of_its_own(
    simulator: RunningSimulator,
) -> None:
    simulator.card()

    def hit(uids: list[str]) -> list[str]:
        simulator.tell("faults", {"seed": 7, "rules": [{"fault": "http_429", "rate": 0.5}]})
        return [uid for uid in uids if simulator.again(uid).status_code == 429]

    uids = [f"order{number}" for number in range(20)]
    assert hit(uids) == hit(uids[::-1])[::-1]
    assert 0 < len(hit(["order21"] * 20)) < 20


def test_a_rule_may_hit_so_many_times_and_one_uid_only(simulator: RunningSimulator) -> None:
    simulator.card()
    rule = {"fault": "http_429", "merchant_uid": "order2", "times": 1}
    simulator.tell("faults", {"rules": [rule]})
    assert [simulator.again(uid).status_code for uid in ("order1", "order2", "order2")] == [200, 429, 200]


def test_calls_above_the_cap_are_told_so(simulator: RunningSimulator) -> None:
    simulator.card()
    simulator.tell("faults", {"rate_cap": 1})
    statuses = {simulator.again(f"order{number}").status_code for number in range(20)}
    assert 429 in statuses


def test_a_rule_may_name_what_it_matches_apart(simulator: RunningSimulator) -> None:
    simulator.card("ann")
    simulator.card("bob")
    rules = [
        {"match": {"customer_uid": "bob"}, "fault": "http_429"},
        {"match": {"path": "/payments/findAll"}, "fault": "http_500_before"},
        {"match": {"call": "any", "merchant_uid": "order3"}, "fault": "http_502_before"},
    ]
    simulator.tell("faults", {"rules": rules})
    assert simulator.again("order1").status_code == 200
    assert simulator.again("order2", customer_uid="bob").status_code == 429
    assert simulator.call("GET", "/payments/findAll/order1").status_code == 500
    assert simulator.call("GET", "/payments/find/order1").status_code == 200
    assert simulator.call("GET", "/payments/find/order3").status_code == 502
    assert simulator.see("faults")["rules"][0]["match"] == {"call": "again", "customer_uid": "bob"}


def test_a_lost_answer_and_a_payment_that_shows_late_may_come_together(simulator: RunningSimulator) -> None:
    simulator.card()
    simulator.fault("http_500_after", shown_after=60, times=1)
    assert simulator.again().status_code == 500
    assert simulator.call("GET", "/payments/find/order1").status_code == 404
    assert simulator.again().json()["code"] == -1, "it is paid all the same"
    simulator.tell("clock", {"advance": 61})
    assert simulator.call("GET", "/payments/find/order1").json()["response"]["status"] == "paid"


@pytest.mark.parametrize("call", ["token", "find", "list", "key", "issue", "cancel", "schedule", "prepare"])
def test_every_call_can_go_wrong(simulator: RunningSimulator, call: str) -> None:
    calls = {
        "token": ("POST", "/users/getToken"), "find": ("GET", "/payments/find/none"),
        "list": ("GET", "/payments/status/all"), "key": ("GET", "/users/pg"),
        "issue": ("POST", "/subscribe/customers/ann"), "cancel": ("POST", "/payments/cancel"),
        "schedule": ("POST", "/subscribe/payments/unschedule"), "prepare": ("GET", "/payments/prepare/none"),
    }  # fmt: skip
    simulator.call("GET", "/users/pg")
    simulator.fault("http_502_before", call=call)
    method, path = calls[call]
    assert simulator.call(method, path).status_code == 502


def test_a_token_may_end_with_any_call(simulator: RunningSimulator) -> None:
    simulator.call("GET", "/users/pg")
    simulator.fault("token_expired", call="find", times=1)
    assert simulator.call("GET", "/payments/find/none").status_code == 401
    assert simulator.call("GET", "/payments/find/none").status_code == 401, "it stays dead"
    simulator.forget_token()
    assert simulator.call("GET", "/payments/find/none").status_code == 404


def keep(answer: httpx.Response, came: bytearray) -> None:
    """Keep what comes, even when the rest does not."""
    for part in answer.iter_raw():
        came.extend(part)


def test_a_body_that_is_cut_comes_in_part(simulator: RunningSimulator) -> None:
    simulator.card()
    simulator.fault("reset_in_body")
    simulator.call("GET", "/users/pg")
    body = {"customer_uid": "ann", "merchant_uid": "order1", "amount": 9900, "name": "Coffee"}
    headers = {"Authorization": str(simulator._token)}
    came = bytearray()
    with simulator.client.stream("POST", "/subscribe/payments/again", json=body, headers=headers) as answer:
        assert answer.status_code == 200
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            keep(answer, came)
    assert 0 < len(came) < int(answer.headers["content-length"])


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"rules": [{"fault": "slow", "match": {"uid": "order1"}}]}, "rules[0].match.uid"),
        ({"rules": [{"fault": "slow", "times": 1.5}]}, "rules[0].times"),
        ({"rules": [{"fault": "slow", "call": "telephone"}]}, "rules[0].call"),
        ({"rate_cap": "many"}, "rate_cap"),
        ({"concurrent_same_uid": "maybe"}, "concurrent_same_uid"),
        ({"sandbox": "yes"}, "sandbox"),
        ({"seed": "x"}, "seed"),
        ({"rules": [{"fault": "earthquake"}]}, "rules[0].fault"),
        ({"rules": [{"fault": "slow", "rate": 2}]}, "rules[0].rate"),
        ({"rules": [{"fault": "slow", "colour": "red"}]}, "rules[0].colour"),
        ({"rules": {}}, "rules"),
        ({"weather": 1}, "faults.weather"),
        ([], "faults"),
    ],
)
def test_faults_that_cannot_be_read_name_the_field(
    simulator: RunningSimulator, document: object, words: str
) -> None:
    answer = simulator.client.post("/_simulator/faults", json=document)
    assert answer.status_code == 400
    assert words in answer.json()["error"]


def test_a_faults_file_is_read_at_the_start(tmp_path: Path) -> None:
    faults = tmp_path / "faults.json"
    faults.write_text(json.dumps({"rules": [{"fault": "http_429"}]}))
    with running_simulator("--faults", str(faults), "--seed", "3") as simulator:
        assert simulator.see("faults")["seed"] == 3
        simulator.card()
        assert simulator.again().status_code == 429


def test_a_bad_faults_file_is_refused(tmp_path: Path) -> None:
    faults = tmp_path / "faults.json"
    faults.write_text('{"rules": [{"fault": "earthquake"}]}')
    command = [sys.executable, "-m", "simulator", "--port", "0", "--faults", str(faults)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "rules[0].fault" in done.stderr
