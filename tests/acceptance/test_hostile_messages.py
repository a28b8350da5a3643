"""Messages that cannot be ours, on every queue of both brokers: each is refused and counted, nothing restarts."""

import base64
import json
import random
import zlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import amqp
import pytest
import redis
from kombu import Connection

from schedules.operations.queues import BULK, CHARGES, QUEUES, REQUESTS
from tests.rabbit import NEEDS_RABBITMQ, rabbit
from tests.working import Worker, working
from worker.broker.messages import LARGEST, Reason
from worker.clock import SystemClock, wait_until
from worker.embedded import EmbeddedServices

pytestmark = pytest.mark.timeout(600)
ID = "6b0c0f63-2e4f-4a8e-9f7f-0d6a1c2b3e4f"
STATUS = "again.charge_status"
EMPTY = b"[[], {}, {}]"
BOMB_SIZE = 200_000_000  # bytes that a compressed body would take
MOST_MEMORY = 120_000_000  # bytes that the worker may grow by
# A task that each queue may carry, and that does nothing here.
TASKS = {
    "ops": "again.sweep", "reconcile": "again.lift_hold", CHARGES: "again.charge", BULK: "again.charge",
    "events": "again.deliver", REQUESTS: STATUS,
}  # fmt: skip

# Raw entries of a Redis list, with the reason for which each is refused.
RAW: tuple[tuple[bytes, Reason], ...] = (
    (b"", Reason.BAD_ENVELOPE),
    (b"5", Reason.BAD_ENVELOPE),
    (b"null", Reason.BAD_ENVELOPE),
    (b"[]", Reason.BAD_ENVELOPE),
    (b"{}", Reason.BAD_ENVELOPE),
    (b'{"body": "', Reason.BAD_ENVELOPE),
    (b"\xff\xfe\x00", Reason.BAD_ENVELOPE),
    (b'{"headers": [], "properties": {}}', Reason.BAD_ENVELOPE),
    (b'{"headers": {}, "properties": {}, "body": 5}', Reason.BAD_BODY),
    (b'{"headers": {}, "properties": {"body_encoding": "base64"}, "body": "A"}', Reason.BAD_BODY),
    (b'{"headers": {}, "properties": {"body_encoding": "rot13"}, "body": ""}', Reason.BAD_ENCODING),
    (b'{"headers": {}, "properties": {"body_encoding": []}, "body": ""}', Reason.BAD_ENCODING),
    (b"[" * 100_000, Reason.BAD_ENVELOPE),
    (b" " * (LARGEST + 1), Reason.TOO_LARGE),
)
# Bodies and headers of a message that is otherwise right, on both brokers.
BODIES: tuple[tuple[bytes, Reason], ...] = (
    (b"5", Reason.BAD_BODY),
    (b"", Reason.BAD_BODY),
    (b"\xff", Reason.BAD_BODY),
    (b"{}", Reason.BAD_BODY),
    (b"[]", Reason.BAD_BODY),
    (b"[1, 2, 3]", Reason.BAD_BODY),
    (b"[[], [], {}]", Reason.BAD_BODY),
    (b"[[], {}, {}, {}]", Reason.BAD_BODY),
    (b'[[], {"a": {"__type__": "datetime", "__value__": 5}}, {}]', Reason.BAD_BODY),
    (b'[[], {"a": {"__type__": "decimal", "__value__": "x"}}, {}]', Reason.BAD_BODY),
    (b"[" * 50_000 + b"]" * 50_000, Reason.BAD_BODY),
    (b'[[], {}, {"callbacks": [{"task": "again.charge", "args": [1]}]}]', Reason.EMBEDDED_TASKS),
    (b'[[], {}, {"errbacks": [{"task": "again.charge", "args": [1]}]}]', Reason.EMBEDDED_TASKS),
    (b'[[], {}, {"chain": [{"task": "again.charge", "args": [1]}]}]', Reason.EMBEDDED_TASKS),
    (b'[[], {}, {"chord": {"task": "again.charge", "args": [1]}}]', Reason.EMBEDDED_TASKS),
    (b'[[], {}, {"delivery_info": {}}]', Reason.EMBEDDED_TASKS),
)
HEADERS: tuple[tuple[dict[str, Any], Reason], ...] = (
    ({"task": None}, Reason.TASK_NOT_ALLOWED),
    ({"task": ["again.charge_status"]}, Reason.TASK_NOT_ALLOWED),
    ({"task": "celery.starmap"}, Reason.TASK_NOT_ALLOWED),
    ({"task": "celery.backend_cleanup"}, Reason.TASK_NOT_ALLOWED),
    ({"task": "nothing.of.ours"}, Reason.TASK_NOT_ALLOWED),
    ({"id": None}, Reason.BAD_HEADERS),
    ({"id": {"a": "b"}}, Reason.BAD_HEADERS),
    ({"id": ["a"]}, Reason.BAD_HEADERS),
    ({"id": "a\nb"}, Reason.BAD_HEADERS),
    ({"timelimit": "ab"}, Reason.BAD_HEADERS),
    ({"timelimit": [1, 2, 3]}, Reason.BAD_HEADERS),
    ({"retries": "a"}, Reason.BAD_HEADERS),
    ({"ignore_result": "no"}, Reason.BAD_HEADERS),
    ({"eta": "2999-01-01T00:00:00+00:00"}, Reason.DELAYED),
    ({"eta": 5}, Reason.DELAYED),
    ({"expires": "soon"}, Reason.BAD_EXPIRY),
    ({"expires": {}}, Reason.BAD_EXPIRY),
    ({"expires": "2999-01-01T00:00:00+00:00"}, Reason.BAD_EXPIRY),
    ({"compression": "zlib"}, Reason.COMPRESSED),
)


def document(task: str, body: bytes = EMPTY, **headers: Any) -> bytes:
    """A message as docs/how-to/tasks.md writes it."""
    return json.dumps({
        "body": base64.b64encode(body).decode(), "content-type": "application/json", "content-encoding": "utf-8",
        "headers": {"task": task, "id": ID} | headers,
        "properties": {
            "correlation_id": ID, "delivery_tag": ID, "delivery_mode": 2, "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": "requests"},
        },
    }).encode()  # fmt: skip


def changed(rng: random.Random, raw: bytes) -> bytes:
    """The bytes with a few of them replaced, removed or doubled."""
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(raw))
        raw = raw[:at] + rng.choice([b"", rng.randbytes(1), raw[at : at + 40] * 2, b"null", b"[]"]) + raw[at + 1 :]
    return raw


def counted(expected: list[tuple[str, Reason]]) -> dict[tuple[str, str], int]:
    """How many are refused, by queue and reason."""
    return {key: expected.count(key) for key in expected}


def assert_unharmed(worker: Worker) -> None:
    """It has begun once, and answers."""
    answer = worker.answer(STATUS, request_key="nothing")
    assert (answer["ok"], answer["error"]) == (False, "refused")
    assert worker.starts() == 1, worker.log()[-3000:]
    assert "it is started again" not in worker.log()


@pytest.fixture
def valkey_worker(embedded: EmbeddedServices, migrated_template: str, tmp_path: Path) -> Iterator[Worker]:
    """A worker on Valkey."""
    broker = embedded.broker_url.rpartition("/")[0] + "/11"  # a database of the server that no other test uses
    redis.Redis.from_url(broker).flushdb()
    with working(embedded, migrated_template, broker, tmp_path) as worker:
        yield worker


@pytest.fixture
def valkey(valkey_worker: Worker) -> redis.Redis:
    """Its broker."""
    return redis.Redis.from_url(valkey_worker.settings["AGAIN_BROKER_URL"])


def is_drained(broker: redis.Redis) -> bool:
    """Whether nothing waits, and nothing is unacknowledged."""
    return not any(broker.llen(name) for name in QUEUES) and not broker.hlen("unacked")


def test_what_cannot_be_a_message_is_refused_with_its_reason_and_nothing_restarts(
    valkey_worker: Worker, valkey: redis.Redis
) -> None:
    expected: list[tuple[str, Reason]] = []
    for name in QUEUES:
        entries = [(raw, reason) for raw, reason in RAW]
        entries += [(document(TASKS[name], body), reason) for body, reason in BODIES]
        entries += [(document(**{"task": TASKS[name]} | headers), reason) for headers, reason in HEADERS]
        for raw, reason in entries:
            valkey.lpush(name, raw)
            expected.append((name, reason))
    assert wait_until(lambda: valkey_worker.dead_letters() == counted(expected), 60), (
        valkey_worker.dead_letters(), counted(expected), valkey_worker.log()[-3000:]
    )  # fmt: skip
    assert wait_until(lambda: is_drained(valkey), 20)
    assert_unharmed(valkey_worker)
    listed = valkey_worker.told_json("dead-letters", "--limit", "1000")
    assert listed["total"] == len(expected) == valkey_worker.told_json("status")["dead_letters"]
    assert {letter["queue"] for letter in listed["dead_letters"]} == set(QUEUES)
    valkey_worker.told("dead-letters", "purge")
    assert valkey_worker.told_json("dead-letters") == {"total": 0, "dead_letters": []}
    assert valkey_worker.stop() == 0


def test_bytes_that_are_changed_at_random_end_no_worker(valkey_worker: Worker, valkey: redis.Redis) -> None:
    """Most become no message, and are refused; some stay one, and are done or answered."""
    rng = random.Random(16)
    for name in QUEUES:
        for task in ("again.charge", STATUS, "again.dispatch"):
            valkey.lpush(name, *(changed(rng, document(task)) for _ in range(60)))
            valkey.lpush(name, *(document(task, changed(rng, b"[[1], {}, {}]")) for _ in range(60)))
        valkey.lpush(name, *(rng.randbytes(rng.randrange(200)) for _ in range(60)))
    assert wait_until(lambda: is_drained(valkey), 90), valkey_worker.log()[-3000:]
    assert_unharmed(valkey_worker)
    assert wait_until(lambda: sum(valkey_worker.dead_letters().values()) > 1000, 20)


def test_a_message_is_taken_for_one_of_the_list_that_it_was_in(valkey_worker: Worker, valkey: redis.Redis) -> None:
    """Its own routing key would send it to another queue when it is given back; its tag would hide another."""
    forged = json.loads(document("again.charge"))
    forged["properties"]["delivery_info"]["routing_key"] = CHARGES
    forged["properties"]["reply_to"] = BULK
    valkey.lpush(REQUESTS, json.dumps(forged))
    answered = json.loads(document(STATUS))
    answered["properties"]["reply_to"] = BULK
    valkey.lpush(REQUESTS, json.dumps(answered))
    expected = [(REQUESTS, Reason.TASK_NOT_ALLOWED), (REQUESTS, Reason.BAD_REPLY)]
    assert wait_until(lambda: valkey_worker.dead_letters() == counted(expected), 20), valkey_worker.dead_letters()
    assert_unharmed(valkey_worker)


def test_size_compression_and_delay_cost_no_memory(valkey_worker: Worker, valkey: redis.Redis) -> None:
    before = valkey_worker.memory()
    bomb = zlib.compress(b"[" * BOMB_SIZE, 9)
    assert len(bomb) < LARGEST
    for _ in range(3):
        valkey.lpush(REQUESTS, document(STATUS, bomb, compression="application/x-gzip"))
    later = (SystemClock().now() + timedelta(days=300)).isoformat()
    for _ in range(30):
        pipe = valkey.pipeline()
        for _ in range(100):
            pipe.lpush(REQUESTS, document(STATUS, eta=later))
        pipe.execute()
    for _ in range(4):
        valkey.lpush(REQUESTS, document(STATUS, EMPTY + b" " * 8_000_000))
    assert wait_until(lambda: is_drained(valkey), 60)
    assert_unharmed(valkey_worker)
    assert valkey_worker.memory() - before < MOST_MEMORY
    # A flood is recorded as far as it fits in the recorder's own bound; the log has the rest.
    assert wait_until(lambda: valkey_worker.dead_letters().get((REQUESTS, Reason.DELAYED), 0) >= 1000, 20)
    assert valkey_worker.dead_letters()[REQUESTS, Reason.COMPRESSED] == 3


def test_a_key_that_is_no_list_and_an_unreadable_unacknowledged_message_stop_nothing(
    valkey_worker: Worker, valkey: redis.Redis
) -> None:
    valkey.set(CHARGES, "not a list")
    valkey.hset("unacked", "bad", "not json")
    valkey.zadd("unacked_index", {"bad": 1})
    assert wait_until(lambda: bool(valkey.exists(f"{CHARGES}.refused")), 30), valkey_worker.log()[-2000:]
    assert wait_until(lambda: not valkey.hexists("unacked", "bad"), 40), valkey_worker.log()[-2000:]
    assert_unharmed(valkey_worker)


@NEEDS_RABBITMQ
def test_rabbitmq_messages_that_cannot_be_ours_are_refused_too(
    embedded: EmbeddedServices, migrated_template: str, tmp_path: Path
) -> None:
    with rabbit() as node, working(embedded, migrated_template, node.url, tmp_path) as worker:
        expected = sent_to_rabbitmq(node.url)
        assert wait_until(lambda: worker.dead_letters() == counted(expected), 60), (
            worker.dead_letters(), counted(expected), worker.log()[-3000:]
        )  # fmt: skip
        assert_unharmed(worker)
        assert worker.stop() == 0


def sent_to_rabbitmq(url: str) -> list[tuple[str, Reason]]:
    """Send each kind of message to each queue; what is expected of them."""
    rng = random.Random(16)
    expected: list[tuple[str, Reason]] = []
    with Connection(url) as connection:
        channel: Any = connection.channel()

        def send(name: str, body: bytes, reason: Reason, **changes: Any) -> None:
            headers = {"task": TASKS[name], "id": ID} | changes.pop("headers", {})
            usual = {"content_type": "application/json", "content_encoding": "utf-8", "correlation_id": ID}
            message = amqp.Message(body, application_headers=headers, **(usual | changes))
            channel.basic_publish(message, exchange="", routing_key=name)
            expected.append((name, reason))

        for name in QUEUES:
            for body, reason in BODIES:
                send(name, body, reason)
            for headers, reason in HEADERS:
                send(name, EMPTY, reason, headers=headers)
            for _ in range(30):
                send(name, b"[" + rng.randbytes(50), Reason.BAD_BODY)
            send(name, b" " * (LARGEST + 1), Reason.TOO_LARGE)
            bomb = zlib.compress(b"[" * 1_000_000)
            send(name, bomb, Reason.COMPRESSED, headers={"compression": "application/x-gzip"})
            send(name, EMPTY, Reason.BAD_ENCODING, content_encoding="zlib")
            send(name, EMPTY, Reason.BAD_ENCODING, content_type="application/x-python-serialize")
            send(name, EMPTY, Reason.BAD_REPLY, reply_to=BULK)
            send(name, EMPTY, Reason.BAD_ENCODING, content_type=b"\xff\xfe")  # py-amqp cannot decode it
    return expected
