"""Celery's settings for each kind of broker."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import pytest
from amqp import spec
from amqp.exceptions import RecoverableConnectionError
from kombu import Connection, Queue

from schedules.operations.queues import QUEUES
from worker.app import celery_settings
from worker.broker import rabbitmq, redis_broker
from worker.config import Settings
from worker.embedded import EmbeddedServices, ValkeyServer
from worker.runtime.outages import Outage

NOW = datetime(2026, 11, 30, tzinfo=UTC)
GOOD = b'[{"body": "", "headers": {}, "properties": {}}, "", "work"]'  # an unacknowledged message


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


def test_a_key_of_a_wrong_type_replaces_none_that_was_renamed_before(channel: Any) -> None:
    for words in ("first", "second"):
        channel.client.set("work", words)
        redis_broker.repair(channel, ["work"], NOW)
    kept = channel.client.keys("work.refused*")
    assert {channel.client.get(key) for key in kept} == {b"first", b"second"}


def test_a_queue_that_another_worker_has_repaired_meanwhile_is_not_renamed(channel: Any) -> None:
    """Two workers repair at once, while messages come: the list that replaces the key stays."""
    ended = Event()

    def repair_often() -> None:
        while not ended.is_set():
            redis_broker.repair(channel, ["work"], NOW)

    workers = [Thread(target=repair_often) for _ in range(4)]
    for each in workers:
        each.start()
    try:
        for _ in range(150):
            channel.client.pipeline().delete("work").set("work", "words").execute()
            while channel.client.exists("work"):
                pass
            channel.client.lpush("work", "{}")
            assert channel.client.llen("work") == 1
    finally:
        ended.set()
        for each in workers:
            each.join()
    assert {channel.client.type(key) for key in channel.client.keys("work.refused*")} == {b"string"}


@pytest.mark.parametrize(
    "entry",
    [
        b"words", b"\xff", b"5", b"[1, 2]", b"[" * 100_000,
        b'[{"__type__": "datetime", "__value__": 5}, "", "work"]', b'[{}, "", null]', b'["text", "", "work"]',
        b'[{"headers": {}, "properties": {"a": "\xff"}}, "", "work"]', b"[1, 2, 3]",
        b'[{"headers": {}, "properties": {}}, 5, "work"]', b'[{"headers": {}, "properties": {}}, "", "other"]',
        b'[{"headers": [], "properties": {}}, "", "work"]', b'[{"headers": {}, "properties": []}, "", "work"]',
        b'[{"headers": {}, "properties": {"delivery_info": "text"}}, "", "work"]',
    ],
)  # fmt: skip
def test_an_unacknowledged_message_that_cannot_be_given_back_does_not_stop_the_return_of_the_others(
    channel: Any, entry: bytes
) -> None:
    old = NOW.timestamp() - 901
    channel.client.lpush("work", "{}")  # kombu returns a message only to a queue that is there
    channel.client.hset("unacked", mapping={"bad": entry, "good": GOOD, "new": entry})
    channel.client.zadd("unacked_index", {"bad": old + 0.5, "good": old, "new": NOW.timestamp()})
    redis_broker.repair(channel, ["work"], NOW)
    assert set(channel.client.hkeys("unacked")) == {b"good", b"new"}
    channel.client.zrem("unacked_index", "new")
    channel.qos.restore_visible(interval=1)
    assert channel.client.llen("work") == 2


def test_an_unreadable_message_is_removed_before_kombu_would_return_it(channel: Any) -> None:
    """kombu looks as often as the repair does: what is overdue at kombu's next look is removed at this one."""
    at = NOW.timestamp() - 900
    channel.client.hset("unacked", mapping={"soon": "words", "later": "words"})
    channel.client.zadd(
        "unacked_index", {"soon": at + redis_broker.REPAIR_EVERY - 1, "later": at + redis_broker.REPAIR_EVERY + 1}
    )
    redis_broker.repair(channel, ["work"], NOW)
    assert channel.client.hkeys("unacked") == [b"later"]


def test_unreadable_messages_are_removed_however_many_there_are(channel: Any) -> None:
    many = range(3 * redis_broker.PAGE + 1)
    channel.client.hset("unacked", mapping={str(each): GOOD if each % 2 else "words" for each in many})
    channel.client.zadd("unacked_index", {str(each): 1 + each for each in many})
    redis_broker.repair(channel, ["work"], NOW)
    assert (
        channel.client.hlen("unacked") == channel.client.zcard("unacked_index") == sum(each % 2 for each in many)
    )


@pytest.fixture
def popped(channel: Any) -> redis_broker.LastPopped:
    """Of a consumer on the channel."""
    last = redis_broker.LastPopped()
    last.check_messages(channel)
    return last


ENTRIES = [b"first", b"second", b"third"]  # of a list, in the order in which BRPOP takes them


def entries(channel: Any) -> list[bytes]:
    """What waits, in the order in which BRPOP takes it."""
    return list(reversed(channel.client.lrange("work", 0, -1)))


def pop(channel: Any) -> dict[str, Any]:
    """Push the entries, and take the first."""
    channel.client.lpush("work", *ENTRIES)
    _, raw = channel.client.brpop("work")
    envelope: dict[str, Any] = json.loads(raw)
    return envelope


def test_a_message_that_was_popped_and_not_stored_is_pushed_back_once_to_where_it_was(
    channel: Any, popped: redis_broker.LastPopped
) -> None:
    pop(channel)
    assert entries(channel) == ENTRIES[1:]
    for _ in range(2):
        popped.push_back(channel)
        assert entries(channel) == ENTRIES


def test_a_message_whose_push_was_done_and_not_answered_is_not_pushed_again(
    channel: Any, popped: redis_broker.LastPopped
) -> None:
    tag = pop(channel)["properties"]["delivery_tag"]
    channel.client.set(f"{redis_broker.RETURNED}{tag}", "1")
    popped.push_back(channel)
    assert entries(channel) == ENTRIES[1:]


def test_a_message_that_kombu_has_stored_is_not_pushed_back(channel: Any, popped: redis_broker.LastPopped) -> None:
    tag = pop(channel)["properties"]["delivery_tag"]
    channel.client.hset("unacked", tag, "words")
    popped.push_back(channel)
    assert entries(channel) == ENTRIES[1:]


def test_a_message_that_reached_the_consumer_is_not_pushed_back(
    channel: Any, popped: redis_broker.LastPopped
) -> None:
    """It may have been acknowledged since."""
    pop(channel)
    popped.settle()
    popped.push_back(channel)
    assert entries(channel) == ENTRIES[1:]


def test_only_the_message_that_was_popped_last_is_pushed_back(
    channel: Any, popped: redis_broker.LastPopped
) -> None:
    """kombu sends no BRPOP before it has stored what the former one answered with."""
    pop(channel)
    channel.client.brpop("work")
    popped.push_back(channel)
    assert entries(channel) == ENTRIES[1:]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A broker of this test's own."""
    running = ValkeyServer(tmp_path / "valkey")
    running.start()
    yield running
    running.stop()


def test_a_message_that_a_full_broker_refuses_is_pushed_back_by_a_later_connection(server: ValkeyServer) -> None:
    last = redis_broker.LastPopped()
    with Connection(server.url) as first:
        last.check_messages(first.default_channel)
        pop(first.default_channel)
    with Connection(server.url) as operator, Connection(server.url) as second, Connection(server.url) as third:
        opened: Any = operator.default_channel
        opened.client.config_set("maxmemory", "1")
        with pytest.raises(second.channel_errors):
            redis_broker.prepare(second, last, ["work"], NOW)
        assert not second.connected
        opened.client.config_set("maxmemory", "0")
        assert entries(opened) == ENTRIES[1:]
        redis_broker.prepare(third, last, ["work"], NOW)
        assert third.connected
        assert entries(opened) == ENTRIES


def test_a_message_that_has_been_acknowledged_meanwhile_is_left_alone(channel: Any) -> None:
    channel.client.zadd("unacked_index", {"gone": 1})
    redis_broker.repair(channel, ["work"], NOW)
    assert channel.client.zcard("unacked_index") == 1


@pytest.mark.parametrize("fault", ["refused", "silent", "away"])
def test_a_repair_that_the_broker_refuses_or_does_not_answer_is_logged_in_one_line_and_raises_nothing(
    server: ValkeyServer, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    outage = Outage(logging.getLogger("again.brokers"), "the repair")
    options = {"visibility_timeout": 900, "socket_timeout": 0.5}
    with Connection(server.url, transport_options=options) as connection:
        opened: Any = connection.default_channel
        opened.client.set("work", "words")
        begin = {
            "refused": lambda: opened.client.replicaof("127.0.0.1", "1"),
            "silent": lambda: opened.client.client_pause(3000),
            "away": server.stop,
        }[fault]
        begin()
        for _ in range(2):
            redis_broker.repair_or_log(connection, ["work"], NOW, outage)
    (line,) = [record for record in caplog.records if record.name == "again.brokers"]
    assert (line.levelname, line.exc_info) == ("ERROR", None)


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
