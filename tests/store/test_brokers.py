"""Celery's settings for each kind of broker."""

from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from amqp import spec
from amqp.exceptions import RecoverableConnectionError
from kombu import Connection, Queue

from worker.app import QUEUES, celery_settings
from worker.broker import rabbitmq, redis_broker
from worker.config import Settings
from worker.embedded import EmbeddedServices

NOW = datetime(2026, 11, 30, tzinfo=UTC)


def settings(broker: str) -> dict[str, Any]:
    """Celery's settings with a broker at this address."""
    return celery_settings(
        Settings(
            _env_file=None, environment="test", database_url="postgresql://h/d", broker_url=broker,
            portone_url="http://127.0.0.1:1", portone_key="key", portone_secret="secret",
        )
    )  # fmt: skip


@pytest.mark.parametrize("broker", ["amqp://user@host//", "amqps://user@host//"])
def test_rabbitmq_gets_quorum_queues_and_says_what_it_has(broker: str) -> None:
    made = settings(broker)
    assert [queue.queue_arguments for queue in made["task_queues"]] == [{"x-queue-type": "quorum"}] * len(QUEUES)
    options = made["broker_transport_options"]
    assert options == {
        "confirm_publish": True, "read_timeout": 30, "write_timeout": 30,
        "frame_handler": rabbitmq.read_frames, "frame_writer": rabbitmq.write_frames,
    }  # fmt: skip
    assert made["result_backend"] == "rpc://"


def test_redis_gets_none_of_that() -> None:
    made = settings("redis://127.0.0.1:6379/0")
    assert [queue.queue_arguments for queue in made["task_queues"]] == [{}] * len(QUEUES)
    assert made["broker_transport_options"]["visibility_timeout"] == 900
    assert made["result_backend"] == "redis://127.0.0.1:6379/0"


def test_the_transports_are_those_of_kombu() -> None:
    for url in ("redis://h/0", "rediss://h/0", "amqp://h//", "amqps://h//"):
        kind = Connection(url).get_transport_cls()
        assert kind.__module__ in ("kombu.transport.redis", "kombu.transport.pyamqp")


@pytest.fixture
def channel(embedded: EmbeddedServices) -> Iterator[Any]:
    """A channel to a database of the server that nobody else uses."""
    url = embedded.broker_url.rpartition("/")[0] + "/9"
    with Connection(url, transport_options={"visibility_timeout": 900}) as connection:
        opened: Any = connection.default_channel
        opened.client.flushdb()
        yield opened
        opened.client.flushdb()


def test_what_a_channel_has_not_acknowledged_when_it_closes_is_delivered_again(channel: Any) -> None:
    url = channel.connection.client.as_uri(include_password=True)
    queue = Queue("work")(channel)
    queue.declare()
    with channel.connection.client.Producer(channel) as producer:
        for number in range(3):
            producer.publish(number, routing_key="work", serializer="json")
    taken: list[Any] = [queue.get() for _ in range(3)]
    taken[0].ack()
    taken[1].ack()
    channel.close()
    with Connection(url) as connection:
        again: Any = Queue("work")(connection.default_channel).get()
        assert again.payload == 2
        again.ack()
        assert Queue("work")(connection.default_channel).get() is None


@pytest.mark.parametrize("key", ["work", "unacked", "unacked_index"])
def test_a_key_of_a_wrong_type_is_renamed(channel: Any, key: str) -> None:
    channel.client.set(key, "words")
    redis_broker.repair(channel, ["work", "other"], NOW)
    assert not channel.client.exists(key)
    assert channel.client.get(f"{key}.refused") == b"words"


@pytest.mark.parametrize(
    "entry",
    [
        b"words", b"\xff", b"5", b"[1, 2]", b"[" * 100_000,
        b'[{"__type__": "datetime", "__value__": 5}, "", "work"]',
    ],
)  # fmt: skip
def test_an_unacknowledged_message_that_cannot_be_read_does_not_stop_the_return_of_the_others(
    channel: Any, entry: bytes
) -> None:
    old = NOW.timestamp() - 901
    channel.client.lpush("work", "{}")  # kombu returns a message only to a queue that is there
    channel.client.hset("unacked", mapping={"bad": entry, "good": b'[{"body": ""}, "", "work"]', "new": entry})
    channel.client.zadd("unacked_index", {"bad": old + 0.5, "good": old, "new": NOW.timestamp()})
    redis_broker.repair(channel, ["work"], NOW)
    assert set(channel.client.hkeys("unacked")) == {b"good", b"new"}
    channel.client.zrem("unacked_index", "new")
    channel.qos.restore_visible(interval=1)
    assert channel.client.llen("work") == 2


def test_a_message_that_has_been_acknowledged_meanwhile_is_left_alone(channel: Any) -> None:
    channel.client.zadd("unacked_index", {"gone": 1})
    redis_broker.repair(channel, ["work"], NOW)
    assert channel.client.zcard("unacked_index") == 1


class Lines:
    """What stands where py-amqp's connection to a node would: it keeps what is written."""

    frame_max = 131072
    bytes_sent = 0

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.collected: list[object] = []
        self.channels = {7: SimpleNamespace(collect=lambda: self.collected.append(7))}
        self.on_blocked: Any = None
        self.on_unblocked: Any = None
        self.drained = 0

    def write(self, frame: bytes) -> None:
        """Keep it."""
        self.written.append(bytes(frame))

    def collect(self) -> None:
        """Close the socket."""
        self.collected.append("connection")

    def drain_events(self, timeout: float) -> None:
        """Read nothing."""
        assert timeout == 0
        self.drained += 1
        raise TimeoutError


def test_a_connection_that_a_node_blocks_writes_no_method_and_closes_without_an_answer() -> None:
    node = Lines()
    write = rabbitmq.write_frames(node, node)
    write(1, 7, spec.Channel.Open, b"", None)
    assert len(node.written) == 1
    with pytest.raises(rabbitmq.Blocked):
        node.on_blocked("low on memory")
    for method in (spec.Channel.Open, spec.Channel.Close, spec.Connection.Close):
        with pytest.raises(rabbitmq.Blocked):
            write(1, 7, method, b"", None)
    assert (len(node.written), node.drained, node.collected) == (1, 1, [7, "connection"])
    write(8, 0, None, None, None)  # a heartbeat
    assert len(node.written) == 2
    with pytest.raises(RecoverableConnectionError):
        node.on_unblocked()
    assert node.collected[-1] == "connection"
