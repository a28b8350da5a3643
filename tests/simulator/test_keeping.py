"""What the simulator keeps in a file: cards, payments, ledger, schedules and faults, over a kill too."""

import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from simulator.kept import Kind, Records
from tests.simulator.running import RunningSimulator, running_simulator

DAY = 86_400


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Where it is kept."""
    return tmp_path / "simulator.sqlite"


def seen(simulator: RunningSimulator) -> dict[str, Any]:
    """All that a client and a tester see of what is kept."""
    now = int(simulator.see("clock")["now"])
    summary = simulator.see("ledger/summary")
    del summary["calls"], summary["max_in_flight_same_uid"]  # counts of one start
    lists = {
        status: simulator.call("GET", f"/payments/status/{status}?limit=1000&to={now + DAY}").json()["response"]
        for status in ("all", "paid", "failed", "cancelled")
    }
    span = f"schedule_from={now - DAY}&schedule_to={now + 80 * DAY}&limit=1000"
    return {
        "movements": simulator.movements(), "summary": summary, "cards": simulator.see("cards"), "lists": lists,
        "faults": simulator.see("faults"), "webhooks": simulator.see("webhooks"),
        "schedules": simulator.call("GET", f"/subscribe/payments/schedule?{span}").json()["response"],
        "prepared": simulator.call("GET", "/payments/prepare/prepared-1").json()["response"],
        "keys": [simulator.call("GET", f"/subscribe/customers/{name}").json() for name in ("ann", "bob", "cid")],
    }  # fmt: skip


def live(simulator: RunningSimulator, seed: int) -> None:
    """Do some of everything that changes what is kept."""
    dice = random.Random(seed)
    simulator.card("ann")
    simulator.card("bob", "approve_on_try", k=3)
    simulator.card("cid", "no_money", shape="B")
    simulator.card("dan")
    simulator.tell("webhooks", {"url": "http://127.0.0.1:1/hook", "content_type": "form"})
    body = {"merchant_uid": "prepared-1", "amount": 500}
    simulator.call("POST", "/payments/prepare", json=body)
    simulator.call("PUT", "/payments/prepare", json=body | {"amount": 700})
    at = int(simulator.see("clock")["now"]) + 3600
    entries = [{"merchant_uid": f"later-{n}", "schedule_at": at + n, "amount": 100 + n} for n in range(3)]
    simulator.call("POST", "/subscribe/payments/schedule", json={"customer_uid": "ann", "schedules": entries})
    simulator.call(
        "POST", "/subscribe/payments/unschedule", json={"customer_uid": "ann", "merchant_uid": ["later-1"]}
    )
    simulator.call("DELETE", "/subscribe/customers/dan")
    simulator.tell("faults", {"rules": [
        {"fault": "late_paid", "rate": 0.3, "seconds": 30}, {"call": "find", "fault": "http_429", "times": 3},
    ]})  # fmt: skip
    for number in range(30):
        simulator.again(f"order-{number}", dice.choice(("ann", "bob", "cid", "nobody")), dice.randint(1, 99) * 100)
        if dice.random() < 0.3:
            uid = f"order-{dice.randint(0, number)}"
            simulator.call("POST", "/payments/cancel", json={"merchant_uid": uid, "amount": dice.choice((0, 100))})
    simulator.call("GET", "/payments/find/order-1")  # meets the second rule, which is left for two more


@pytest.mark.parametrize("seed", [1, 2])
def test_all_that_was_answered_is_there_after_a_kill(state: Path, seed: int) -> None:
    """Guard: what a call changed is in the file before its answer leaves."""
    with running_simulator("--state", str(state)) as simulator:
        live(simulator, seed)
        before = seen(simulator)
        simulator.kill()
    assert before["movements"]
    assert before["schedules"]["total"] == 3
    with running_simulator("--state", str(state)) as simulator:
        assert seen(simulator) == before


def test_it_goes_on_where_it_was(state: Path) -> None:
    with running_simulator("--state", str(state)) as simulator:
        simulator.card("bob", "approve_on_try", k=2)
        simulator.card("cid")
        simulator.again("order-1", "bob")
        simulator.fault("late_paid", seconds=60)
        simulator.again("order-2", "cid")
        imp_uid = simulator.call("GET", "/payments/find/order-2").json()["response"]["imp_uid"]
        simulator.kill()
    with running_simulator("--state", str(state)) as simulator:
        simulator.tell("faults", {})
        paid = simulator.again("order-3", "bob").json()["response"]
        assert (paid["status"], paid["imp_uid"] > imp_uid) == ("paid", True), "the card's second try, a new number"
        simulator.tell("clock", {"advance": 61})
        assert [movement["uid"] for movement in simulator.movements()] == ["order-3", "order-2"]
        refused = simulator.again("order-3", "bob").json()
        assert refused["code"] == -1, "a uid that was paid is refused"


def test_a_call_that_hangs_has_moved_its_money_when_it_is_killed(state: Path) -> None:
    """Guard: the money is in the file before the answer, which never comes here."""
    with running_simulator("--state", str(state)) as simulator:
        simulator.card()
        simulator.fault("reset_after")
        with pytest.raises(httpx.TransportError):
            simulator.again("order-1")
        simulator.kill()
    with running_simulator("--state", str(state)) as simulator:
        (movement,) = simulator.movements()
        assert (movement["uid"], movement["answered"]) == ("order-1", False)


def test_a_reset_is_kept_too(state: Path) -> None:
    with running_simulator("--state", str(state)) as simulator:
        live(simulator, 1)
        simulator.tell("reset", {})
        simulator.card("eve")
        simulator.kill()
    with running_simulator("--state", str(state)) as simulator:
        assert simulator.movements() == []
        assert [card["customer_uid"] for card in simulator.see("cards")["cards"]] == ["eve"]
        assert simulator.see("faults")["rules"] == []


def test_without_a_file_nothing_is_kept() -> None:
    for _ in range(2):
        with running_simulator() as simulator:
            assert simulator.see("cards") == {"cards": []}
            simulator.card()


def refused(state: Path) -> str:
    """What a simulator that does not start with this file says."""
    command = [sys.executable, "-m", "simulator", "--port", "0", "--state", str(state)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_a_file_that_cannot_be_used_is_named_in_one_line(state: Path, tmp_path: Path) -> None:
    with running_simulator("--state", str(state)):
        assert "is it in use by another simulator?" in refused(state)
    with closing(sqlite3.connect(state)) as file:
        file.execute("PRAGMA user_version = 7")
    assert "has format 7, and this simulator reads 1" in refused(state)
    state.write_text("no database at all, and longer than a header of sqlite" * 9)
    assert f"{state} cannot be used" in refused(state)
    assert "cannot be used" in refused(tmp_path / "nowhere" / "state")


def test_a_clock_of_a_file_follows_the_file_alone(tmp_path: Path) -> None:
    """Guard: a shop that reads the file too has the simulator's time at every moment."""
    file = tmp_path / "clock"
    file.write_text("0")
    with running_simulator("--clock-file", str(file)) as simulator:
        assert abs(simulator.see("clock")["now"] - time.time()) < 5
        (tmp_path / "new").write_text(str(30 * DAY))
        (tmp_path / "new").replace(file)
        assert abs(simulator.see("clock")["now"] - time.time() - 30 * DAY) < 5
        answer = simulator.client.post("/_simulator/clock", json={"advance": DAY})
        assert answer.status_code == 400
        assert f"moved by the file {file}" in answer.json()["error"]
        simulator.tell("reset", {})
        assert abs(simulator.see("clock")["now"] - time.time() - 30 * DAY) < 5


def test_its_owner_alone_reads_the_file(state: Path) -> None:
    """It holds buyers' names, e-mails, telephones and addresses."""
    state.touch(0o644)
    with closing(Records(state)) as records:
        records.write([(Kind.SETTING, "a", 1)], afresh=False)
        assert {file.stat().st_mode & 0o777 for file in state.parent.glob(f"{state.name}*")} == {0o600}


def test_a_write_that_fails_is_undone_and_the_next_one_is_kept(state: Path) -> None:
    with closing(Records(state)) as records:
        records.write([(Kind.SETTING, "a", 1)], afresh=False)
        with pytest.raises(TypeError):
            records.write([(Kind.SETTING, "a", 2), (Kind.SETTING, "b", object())], afresh=True)
        records.write([(Kind.SETTING, "c", 3)], afresh=False)
        assert list(records.read(Kind.SETTING)) == [("a", 1), ("c", 3)]
