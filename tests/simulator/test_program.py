"""The simulator as a program: it says where it listens, and ends when it is told to."""

import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.simulator.running import running_simulator

ROOT = Path(__file__).resolve().parents[2]


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "simulator", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_one_line_with_its_address_and_ends_cleanly(number: signal.Signals) -> None:
    program = start("--port", "0")
    assert program.stdout is not None
    line = program.stdout.readline()
    url = re.findall(r"http://\S+", line)[0]
    assert httpx.get(f"{url}/_simulator/clock", trust_env=False).status_code == 200
    program.send_signal(number)
    told, errors = program.communicate(timeout=20)
    assert (program.returncode, told, errors) == (0, "", "")


def test_an_answer_leaves_at_once() -> None:
    """Without TCP_NODELAY each answer waits 40 ms for the client's acknowledgement of its head."""
    with running_simulator() as simulator:
        took = [simulator.call("GET", "/users/pg").elapsed.total_seconds() for _ in range(40)]
    assert min(took[20:]) < 0.03


def test_it_ends_although_a_call_hangs() -> None:
    with running_simulator() as simulator:
        simulator.card()
        simulator.call("GET", "/users/pg")
        simulator.fault("timeout_before", seconds=60)
        simulator.client.timeout = httpx.Timeout(0.2)
        with pytest.raises(httpx.ReadTimeout):
            simulator.again()
        # The context stops the program, and would wait 20 seconds at most.


def test_a_port_in_use_is_told_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        program = start("--port", str(taken.getsockname()[1]))
        told, errors = program.communicate(timeout=20)
    assert program.returncode != 0
    assert (told, errors.count("\n")) == ("", 1)
    assert "cannot listen on 127.0.0.1" in errors


@pytest.mark.parametrize("words", ["{", '{"rules": [{"fault": "slow", "rate": "often"}]}', '{"seed": "x"}'])
def test_bad_faults_are_told_in_one_line(tmp_path: Path, words: str) -> None:
    faults = tmp_path / "faults.json"
    faults.write_text(words)
    program = start("--port", "0", "--faults", str(faults))
    _, errors = program.communicate(timeout=20)
    assert (program.returncode, errors.count("\n")) == (1, 1)
    assert "faults cannot be read" in errors


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp949"])
def test_a_faults_file_of_any_common_encoding_is_read(tmp_path: Path, encoding: str) -> None:
    faults = tmp_path / "faults.json"
    rule = {"fault": "slow", "match": {"customer_uid": "홍길동"}}
    faults.write_bytes(json.dumps({"rules": [rule]}, ensure_ascii=False).encode(encoding))
    with running_simulator("--faults", str(faults)) as simulator:
        (read,) = simulator.see("faults")["rules"]
    assert read["match"]["customer_uid"] == "홍길동"


def test_nothing_secret_is_printed(tmp_path: Path) -> None:
    faults = tmp_path / "faults.json"
    faults.write_text(json.dumps({"rules": [{"fault": "reset_in_body"}, {"fault": "garbage", "call": "issue"}]}))
    program = start("--port", "0", "--key", "key-of-mine", "--secret", "secret-of-mine", "--faults", str(faults))
    assert program.stdout is not None
    url = re.findall(r"http://\S+", program.stdout.readline())[0]
    with httpx.Client(base_url=url, trust_env=False) as client:
        body = {"imp_key": "key-of-mine", "imp_secret": "secret-of-mine"}
        token = client.post("/users/getToken", json=body).json()["response"]["access_token"]
        headers = {"Authorization": token}
        card = {"card_number": "5333-1234-5678-1234", "expiry": "2030-12"}
        client.post("/subscribe/customers/ann", json=card, headers=headers)
        charge = {"customer_uid": "ann", "merchant_uid": "order1", "amount": 100, "name": "Coffee"}
        with pytest.raises(httpx.HTTPError):
            client.post("/subscribe/payments/again", json=charge, headers=headers)
    program.terminate()
    told, errors = program.communicate(timeout=20)
    assert (told, errors) == ("", "")
