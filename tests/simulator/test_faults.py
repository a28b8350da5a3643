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


@pytest.mark.parametrize(
    ("document", "words"),
    [
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
