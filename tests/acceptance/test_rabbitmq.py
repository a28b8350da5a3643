"""RabbitMQ as the broker: the same promises, with quorum queues; where a server is at hand."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import amqp
import pytest
from celery import Celery
from kombu import Connection

from schedules.operations.health import CauseCode
from schedules.operations.queues import QUEUES
from tests.installation import QUICK, Installation, installed
from tests.rabbit import NEEDS_RABBITMQ, Rabbit, rabbit
from tests.services import drop_database, fresh_database
from worker.broker import rabbitmq
from worker.clock import wait_until
from worker.embedded import EmbeddedServices
from worker.store.operations import processes

pytestmark = [
    NEEDS_RABBITMQ,
    pytest.mark.timeout(600),
]
OPTIONS = {
    "confirm_publish": True, "read_timeout": 30,
    "frame_handler": rabbitmq.read_frames, "frame_writer": rabbitmq.write_frames,
}  # fmt: skip
IDENTITY = "5b0c0f63-2e4f-4a8e-9f7f-0d6a1c2b3e4f"


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
    """As docs/how-to/tasks.md says."""
    shop.wait_for(shop.customer("asked", "now"), "paid")
    with Celery(broker=shop.settings["AGAIN_BROKER_URL"], backend="rpc://") as backend:
        backend.conf.task_create_missing_queue_type = "quorum"
        asked = backend.send_task("again.charge_adhoc", queue="requests", kwargs=fields("r1"))
        assert asked.get(timeout=60)["ok"]
        answers: Any = backend.backend
        answers.result_consumer.stop()  # a connection of its own, which nobody else closes
    assert wait_until(lambda: len(shop.movements("asked")) == 2, 60)


def test_a_message_in_any_language_is_read(shop: Installation) -> None:
    """As docs/how-to/tasks.md says."""
    with Connection(shop.settings["AGAIN_BROKER_URL"]) as connection:
        channel: Any = connection.channel()
        channel.basic_publish(
            amqp.Message(
                json.dumps([[], fields("r2"), {}]), content_type="application/json", content_encoding="utf-8",
                application_headers={"task": "again.charge_adhoc", "id": IDENTITY}, correlation_id=IDENTITY,
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
    assert wait_until(lambda: shop.charge(key) is None, 20)
    node.forget(QUEUES)
    for name in ("worker-ops", "worker-charges-1", "worker-charges-2"):
        shop.standing.restart(name)
    shop.wait_for(key, "paid", 90)
    assert len(shop.movements("lost")) == 1


def test_a_worker_that_dies_during_a_call_neither_loses_nor_doubles_the_charge(shop: Installation) -> None:
    """Crash row 7: its message comes back, and finds the attempt under way; the lease and the gateway decide."""
    shop.simulator("faults", {"rules": [{"fault": "slow", "customer_uid": "row7", "times": 1, "seconds": 3}]})
    had = shop.calls("again")
    key = shop.customer("row7", "now")
    # A claim alone does not say that the call has left: then the gateway has no payment to find.
    assert wait_until(lambda: shop.calls("again") > had, 60)
    for worker in shop.standing.children("worker-charges"):
        worker.kill()
        worker.wait()
    for name in ("worker-charges-1", "worker-charges-2"):
        shop.standing.restart(name)
    shop.wait_for(key, "paid", 120)
    assert len(shop.movements("row7")) == 1


def test_a_memory_alarm_holds_up_neither_beat_nor_a_stop(shop: Installation, node: Rabbit) -> None:
    """The node answers nothing on a connection that it blocks, not even when that is closed."""
    shop.wait_for(shop.customer("before", "now"), "paid")
    with node.memory_alarm():
        key = shop.customer("alarm", "now")
        assert wait_until(lambda: "memory or disk alarm" in beat_logs(shop), 60), beat_logs(shop)[-3000:]
        had = node.connections()
        for _ in range(3):
            assert_beats_are_seen(shop)
        # It keeps each that is closed while it is blocked. The shop's own come and go, by a dozen at most.
        assert len(node.connections()) <= len(had) + 20
        codes = {cause["code"] for cause in shop.told_json("status")["causes"]}
        assert CauseCode.BROKER_REFUSES_WRITES in codes
        assert not codes & {CauseCode.BROKER_AWAY, CauseCode.NO_BEAT}
        stopped = shop.standing.children("beat") + shop.standing.children("worker")
        for process in stopped:
            process.terminate()
        assert [process.wait(60) for process in stopped] == [0] * len(stopped)
    for prefix in ("beat", "worker"):
        shop.standing.restart(prefix)
    shop.wait_for(key, "paid", 120)
    assert len(shop.movements("alarm")) == 1


def beat_logs(shop: Installation) -> str:
    """What the beats have logged."""
    return "".join(file.read_text() for file in (shop.standing.data / "logs").glob("beat-*.log"))


def assert_beats_are_seen(shop: Installation) -> None:
    """Each beat reports once more. Read from the rows: a blocked node keeps the connection of each command."""

    def seen() -> dict[int, datetime]:
        with shop.services.engine.begin() as db:
            return {
                each.pid: each.seen_at for each in processes.seen(db) if each.kind == "beat" and not each.ended
            }

    shown = seen()
    assert len(shown) == 2
    assert wait_until(lambda: all(at > shown[pid] for pid, at in seen().items()), 20), shown


def test_a_connection_that_a_node_blocks_takes_no_message_until_the_alarm_ends(node: Rabbit) -> None:
    with publisher(node) as (connection, publish):
        with node.memory_alarm():
            with suppress(rabbitmq.Blocked):
                publish()  # the node may accept the first
            for _ in range(3):
                with pytest.raises(rabbitmq.Blocked):
                    publish()
            assert connection.connected
        with suppress(*connection.connection_errors):  # it reads that the alarm is over
            publish()
        publish()


def test_a_connection_that_a_node_blocks_is_closed_without_an_answer(node: Rabbit) -> None:
    """The node sees its end by the lack of heartbeats, if it has any."""
    ports = set()
    with node.memory_alarm():
        for _ in range(3):
            with publisher(node, heartbeat=2) as (connection, publish), suppress(rabbitmq.Blocked):
                ports.add(connection.connection.sock.getsockname()[1])
                publish()
                publish()
        assert len(ports) == 3
        assert wait_until(lambda: not ports & node.connections(), 60)


def test_a_publisher_whose_connection_was_lost_goes_on_over_a_new_one(node: Rabbit) -> None:
    app = Celery(broker=node.url)
    app.conf.broker_transport_options = OPTIONS
    with app.connection_for_write() as connection, connection.Producer() as producer:
        producer.publish("words", routing_key="nowhere", retry=False)
        lost: Any = producer.channel
        connection.collect()
        with pytest.raises(connection.connection_errors):
            lost.basic_publish_confirm(amqp.Message("words"), routing_key="nowhere")
        producer.publish("words", routing_key="nowhere", retry=True, retry_policy={"max_retries": 1})
        assert producer.channel is not lost


@contextmanager
def publisher(node: Rabbit, heartbeat: int | None = None) -> Iterator[tuple[Any, Callable[[], object]]]:
    """A connection as ours are, and what publishes a message over it."""
    app = Celery(broker=node.url)
    app.conf.broker_transport_options = OPTIONS
    with app.connection_for_write(heartbeat=heartbeat) as connection:
        yield connection, lambda: connection.Producer().publish("words", routing_key="nowhere", retry=False)


def test_a_broker_that_goes_away_and_comes_back_is_found_again(shop: Installation, node: Rabbit) -> None:
    node.stop()
    key = shop.customer("late", "now")
    node.start()
    shop.wait_for(key, "paid", 120)
    assert len(shop.movements("late")) == 1
