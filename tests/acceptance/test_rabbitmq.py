"""RabbitMQ as the broker: the same promises, with quorum queues; where a server is at hand."""

import json
from collections.abc import Iterator
from typing import Any

import amqp
import pytest
from celery import Celery
from kombu import Connection

from tests.installation import QUICK, Installation, installed
from tests.rabbit import Rabbit, program, rabbit
from tests.services import drop_database, fresh_database
from worker.app import QUEUES
from worker.clock import wait_until
from worker.embedded import EmbeddedServices

pytestmark = [
    pytest.mark.skipif(program("rabbitmq-server") is None, reason="no rabbitmq-server on this machine"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def node() -> Iterator[Rabbit]:
    """A broker."""
    with rabbit() as running:
        yield running


@pytest.fixture(scope="module")
def shop(node: Rabbit, embedded: EmbeddedServices) -> Iterator[Installation]:
    """A shop whose messages go over it."""
    database = fresh_database(embedded)
    with installed(QUICK | {"AGAIN_BROKER_URL": node.url, "AGAIN_DATABASE_URL": database}) as installation:
        yield installation
    drop_database(embedded, database)


def fields(request_key: str) -> dict[str, object]:
    """What is asked for, of the customer `asked`."""
    return {
        "customer_uid": "asked", "amount": 500, "currency": "KRW", "name": "Extra", "request_key": request_key,
        "reason": "a test", "actor": "tester",
    }  # fmt: skip


def test_a_subscription_is_paid_over_quorum_queues(shop: Installation, node: Rabbit) -> None:
    shop.wait_for(shop.customer("ann", "now"), "paid")
    assert len(shop.movements("ann")) == 1
    queues = node.queues()
    assert {name: queues[name] for name in QUEUES} == dict.fromkeys(QUEUES, "quorum")


def test_a_backend_that_asks_is_answered(shop: Installation) -> None:
    """As docs/tasks.md says."""
    shop.wait_for(shop.customer("asked", "now"), "paid")
    with Celery(broker=shop.settings["AGAIN_BROKER_URL"], backend="rpc://") as backend:
        backend.conf.task_create_missing_queue_type = "quorum"
        asked = backend.send_task("again.charge_adhoc", queue="requests", kwargs=fields("r1"))
        assert asked.get(timeout=60)["ok"]
        answers: Any = backend.backend
        answers.result_consumer.stop()  # a connection of its own, which nobody else closes
    assert wait_until(lambda: len(shop.movements("asked")) == 2, 60)


def test_a_message_in_any_language_is_read(shop: Installation) -> None:
    """As docs/tasks.md says."""
    identity = "5b0c0f63-2e4f-4a8e-9f7f-0d6a1c2b3e4f"
    with Connection(shop.settings["AGAIN_BROKER_URL"]) as connection:
        channel: Any = connection.channel()
        channel.basic_publish(
            amqp.Message(
                json.dumps([[], fields("r2"), {}]), content_type="application/json", content_encoding="utf-8",
                application_headers={"task": "again.charge_adhoc", "id": identity}, correlation_id=identity,
            ),
            exchange="", routing_key="requests",
        )  # fmt: skip
    assert wait_until(lambda: len(shop.movements("asked")) == 3, 60)


def test_messages_that_the_broker_loses_cost_time_alone(shop: Installation, node: Rabbit) -> None:
    """Crash row 4: due charges without a message are queued again."""
    for worker in shop.standing.children("worker"):
        worker.kill()
        worker.wait()
    key = shop.customer("lost", "now")
    assert wait_until(lambda: shop.charge(key) is None, 5)
    node.forget(QUEUES)
    for name in ("worker-ops", "worker-charges-1", "worker-charges-2"):
        shop.standing.restart(name)
    shop.wait_for(key, "paid", 90)
    assert len(shop.movements("lost")) == 1


def test_a_worker_that_dies_during_a_call_neither_loses_nor_doubles_the_charge(shop: Installation) -> None:
    """Crash row 7: its message comes back, and finds the attempt under way; the lease and the gateway decide."""
    shop.simulator("faults", {"rules": [{"fault": "slow", "customer_uid": "row7", "times": 1, "seconds": 3}]})
    key = shop.customer("row7", "now")
    assert wait_until(lambda: "sending" in shop.attempt_states(key), 60)
    for worker in shop.standing.children("worker-charges"):
        worker.kill()
        worker.wait()
    for name in ("worker-charges-1", "worker-charges-2"):
        shop.standing.restart(name)
    shop.wait_for(key, "paid", 120)
    assert len(shop.movements("row7")) == 1


def test_a_broker_that_goes_away_and_comes_back_is_found_again(shop: Installation, node: Rabbit) -> None:
    node.stop()
    key = shop.customer("late", "now")
    node.start()
    shop.wait_for(key, "paid", 120)
    assert len(shop.movements("late")) == 1
