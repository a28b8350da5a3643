"""Webhooks: sent for what is paid, in the background, as JSON or form; never for a charge that failed at once."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

import pytest

from tests.simulator.running import RunningSimulator
from worker.clock import wait_until


class Listener:
    """A shop's own server, which remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        told = self.told

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                kind = self.headers["Content-Type"]
                form = {name: words[0] for name, words in parse_qs(body).items()}
                told.append((self.path, form if "form" in kind else json.loads(body)))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *arguments: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def heard(self, count: int) -> list[tuple[str, dict[str, Any]]]:
        """What was told, once it was told so often."""
        assert wait_until(lambda: len(self.told) >= count, 20), self.told
        return self.told


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    thread = Thread(target=listener.server.serve_forever)
    thread.start()
    yield listener
    listener.server.shutdown()
    thread.join()
    listener.server.server_close()


def test_a_payment_is_told_and_a_failed_charge_is_not(simulator: RunningSimulator, listener: Listener) -> None:
    simulator.tell("webhooks", {"url": f"{listener.url}/hook?shop=1"})
    simulator.card(card="approve_on_try", k=2)
    simulator.again()
    payment = simulator.again().json()["response"]
    told = {"imp_uid": payment["imp_uid"], "merchant_uid": "order1", "status": "paid"}
    assert listener.heard(1) == [("/hook?shop=1", told)]


def test_the_address_of_a_payment_comes_before_that_of_the_account(
    simulator: RunningSimulator, listener: Listener
) -> None:
    simulator.tell("webhooks", {"url": f"{listener.url}/account", "content_type": "form"})
    simulator.card()
    simulator.again(notice_url=f"{listener.url}/own")
    ((path, told),) = listener.heard(1)
    assert (path, told["merchant_uid"], told["status"]) == ("/own", "order1", "paid")


def test_a_webhook_comes_twice_or_not_at_all(simulator: RunningSimulator, listener: Listener) -> None:
    simulator.tell("webhooks", {"url": listener.url})
    simulator.card()
    rules = [
        {"fault": "webhook_missing", "match": {"merchant_uid": "order1"}},
        {"fault": "webhook_duplicated", "match": {"merchant_uid": "order2"}},
    ]
    simulator.tell("faults", {"rules": rules})
    simulator.again("order1")
    simulator.again("order2")
    simulator.again("order3")
    assert sorted(told["merchant_uid"] for _, told in listener.heard(3)) == ["order2", "order2", "order3"]


def test_a_cancel_is_told_only_when_asked_for(simulator: RunningSimulator, listener: Listener) -> None:
    simulator.card()
    simulator.again()
    simulator.tell("webhooks", {"url": listener.url})
    simulator.call("POST", "/payments/cancel", json={"merchant_uid": "order1", "amount": 100})
    body = {"merchant_uid": "order1", "amount": 200, "enable_webhook": True}
    cancelled = simulator.call("POST", "/payments/cancel", json=body).json()["response"]
    ((_, told),) = listener.heard(1)
    assert told["status"] == "cancelled"
    assert told["cancellation_id"] == cancelled["cancel_history"][1]["cancellation_id"]


def test_a_late_payment_is_told_when_it_turns_paid(simulator: RunningSimulator, listener: Listener) -> None:
    simulator.tell("webhooks", {"url": listener.url})
    simulator.card()
    simulator.fault("late_paid", seconds=0.3)
    assert simulator.again().json()["response"]["status"] == "failed"
    ((_, told),) = listener.heard(1)
    assert told["status"] == "paid"


def test_a_shop_that_does_not_listen_does_no_harm(simulator: RunningSimulator) -> None:
    simulator.tell("webhooks", {"url": "http://127.0.0.1:1/"})
    simulator.card()
    assert simulator.again(notice_url="not an address").json()["response"]["status"] == "paid"
    assert simulator.again("order2").json()["response"]["status"] == "paid"
