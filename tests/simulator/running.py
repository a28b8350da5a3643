"""Starts the real simulator as a process, and talks to it as a client of its own would."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests import forking
from worker.clock import wait_until


class RunningSimulator:
    """A simulator process, with a token and a client."""

    def __init__(self, url: str, process: "subprocess.Popen[bytes]") -> None:
        self.url = url
        self._process = process
        self.client = httpx.Client(base_url=url, timeout=5, trust_env=False)
        self._token: str | None = None

    def kill(self) -> None:
        """Kill it, as a crash does."""
        self._process.kill()
        self._process.wait()

    def forget_token(self) -> None:
        """Ask for a token again with the next call."""
        self._token = None

    def tell(self, path: str, document: object) -> Any:
        """Set something on the simulator's own side."""
        answer = self.client.post(f"/_simulator/{path}", json=document)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def see(self, path: str) -> Any:
        """Look at the simulator's own side."""
        return self.client.get(f"/_simulator/{path}").json()

    def call(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Call the gateway with a token."""
        if self._token is None:
            body = {"imp_key": "sim_key", "imp_secret": "sim_secret"}
            self._token = self.client.post("/users/getToken", json=body).json()["response"]["access_token"]
        headers = {"Authorization": f"Bearer {self._token}"}
        return self.client.request(method, path, headers=headers, **arguments)

    def card(self, customer_uid: str = "ann", card: str = "approve", **more: object) -> None:
        """Put a card under a customer_uid."""
        self.tell("cards", {"customer_uid": customer_uid, "card": card, **more})

    def again(
        self, uid: str = "order1", customer_uid: str = "ann", amount: object = 9900, **more: object
    ) -> httpx.Response:
        """Charge a billing key."""
        body = {"customer_uid": customer_uid, "merchant_uid": uid, "amount": amount, "name": "Coffee", **more}
        return self.call("POST", "/subscribe/payments/again", json=body)

    def fault(self, fault: str, call: str = "again", **more: object) -> None:
        """Let one fault happen, always unless told otherwise."""
        self.tell("faults", {"rules": [{"fault": fault, "call": call, **more}]})

    def movements(self) -> list[dict[str, Any]]:
        """The ledger."""
        return list(self.see("ledger")["movements"])


@contextmanager
def running_simulator(*arguments: str) -> Iterator[RunningSimulator]:
    """A simulator process on a free port; stopped at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "simulator", "--port", str(port), *arguments]
    process = forking.start(command, env=os.environ, stdout=subprocess.DEVNULL)
    running = RunningSimulator(f"http://127.0.0.1:{port}", process)

    def answers() -> bool:
        assert process.poll() is None, "the simulator ended"
        try:
            return running.client.get("/_simulator/clock").status_code == 200
        except httpx.ConnectError:
            return False

    try:
        assert wait_until(answers, 20)
        yield running
    finally:
        running.client.close()
        process.terminate()
        process.wait(20)
