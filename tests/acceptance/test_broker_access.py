"""The broker users of docs/how-to/broker-access.md: a caller sends requests and reads its own answers, only."""

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import amqp
import pytest
import redis
from celery import Celery

from schedules.operations.queues import CHARGES, OPS, REQUESTS
from tests.rabbit import NEEDS_RABBITMQ, rabbit
from tests.working import working
from worker.embedded import EmbeddedServices

pytestmark = pytest.mark.timeout(300)
DEPLOY = Path(__file__).resolve().parents[2] / "deploy/broker"
CALLER, PASSWORD = "shop", "a-long-password"
STATUS = {"request_key": "nothing"}


def as_caller(url: str) -> str:
    """The same address with the caller's name and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{CALLER}:{PASSWORD}@{parts.hostname}:{parts.port}"))


@pytest.fixture
def valkey(embedded: EmbeddedServices) -> Iterator[str]:
    """The address of a broker that knows the caller."""
    url = embedded.broker_url.rpartition("/")[0] + "/13"
    with redis.Redis.from_url(url) as admin:
        admin.flushdb()
        _, name, *rules = (DEPLOY / "valkey-caller.acl").read_text().replace("PASSWORD", PASSWORD).split()
        admin.execute_command("ACL", "SETUSER", name, *rules)
        yield url
        admin.execute_command("ACL", "DELUSER", name)


def test_a_valkey_caller_asks_and_reads_its_own_answers(
    embedded: EmbeddedServices, migrated_template: str, valkey: str, tmp_path: Path
) -> None:
    url = as_caller(valkey)
    with working(embedded, migrated_template, valkey, tmp_path), Celery(broker=url, backend=url) as backend:
        asked = backend.send_task(
            "again.charge_status", kwargs=STATUS, queue="requests", declare=[], task_id=f"shop-{uuid.uuid4()}"
        )
        assert asked.get(timeout=60)["error"] == "refused"


@pytest.mark.parametrize(
    "forbidden",
    [
        lambda broker: broker.lpush(CHARGES, "x"),
        lambda broker: broker.lpush(OPS, "x"),
        lambda broker: broker.rpush(REQUESTS, "x"),
        lambda broker: broker.rpop(REQUESTS),
        lambda broker: broker.lrange(REQUESTS, 0, -1),
        lambda broker: broker.delete(REQUESTS),
        lambda broker: broker.set("again.mark.x", "garbage"),
        lambda broker: broker.get("again.mark.x"),
        lambda broker: broker.get("celery-task-meta-other-1"),
        lambda broker: broker.set("celery-task-meta-shop-1", "x"),
        lambda broker: broker.hset("unacked", "a", "b"),
        lambda broker: broker.sadd("_kombu.binding.charges", "x"),
        lambda broker: broker.publish("celery-task-meta-shop-1", "x"),
        lambda broker: broker.execute_command("SUBSCRIBE", "celery-task-meta-other-1"),
        lambda broker: broker.execute_command("PSUBSCRIBE", "*"),
        lambda broker: broker.keys("*"),
        lambda broker: broker.flushdb(),
        lambda broker: broker.config_get("*"),
        lambda broker: broker.eval("return 1", 0),
    ],
)
def test_a_valkey_caller_may_do_nothing_else(valkey: str, forbidden: Callable[[redis.Redis], object]) -> None:
    with redis.Redis.from_url(as_caller(valkey)) as broker:
        assert broker.ping()
        with pytest.raises(redis.exceptions.NoPermissionError):
            forbidden(broker)


@NEEDS_RABBITMQ
def test_a_rabbitmq_caller_asks_and_reads_its_own_answers_and_nothing_else(
    embedded: EmbeddedServices, migrated_template: str, tmp_path: Path
) -> None:
    with rabbit() as node:
        node.add_caller(CALLER, PASSWORD, DEPLOY / "rabbitmq-caller.json")
        with working(embedded, migrated_template, node.url, tmp_path):
            with Celery(broker=as_caller(node.url), backend="rpc://") as backend:
                asked = backend.send_task(
                    "again.charge_status",
                    kwargs=STATUS,
                    exchange="again.requests",
                    routing_key="requests",
                    declare=[],
                )
                assert asked.get(timeout=60)["error"] == "refused"
                answers: Any = backend.backend
                answers.result_consumer.stop()  # a connection of its own, which nobody else closes
            for forbidden in FORBIDDEN:
                with amqp.Connection(host_of(node.url), CALLER, PASSWORD, confirm_publish=True) as connection:
                    channel = connection.channel()
                    with pytest.raises(amqp.AccessRefused):
                        forbidden(channel)


def host_of(url: str) -> str:
    """Host and port of an address."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}"


MESSAGE = json.dumps([[], {}, {}])
FORBIDDEN: tuple[Callable[[Any], object], ...] = (
    lambda channel: channel.basic_publish(amqp.Message(MESSAGE), exchange="", routing_key=CHARGES),
    lambda channel: channel.basic_publish(amqp.Message(MESSAGE), exchange="", routing_key=REQUESTS),
    lambda channel: channel.basic_publish(amqp.Message(MESSAGE), exchange="celery.pidbox", routing_key=""),
    lambda channel: channel.basic_consume(REQUESTS),
    lambda channel: channel.basic_get(CHARGES),
    lambda channel: channel.queue_declare("mine"),
    lambda channel: channel.queue_delete(REQUESTS),
    lambda channel: channel.queue_purge(REQUESTS),
    lambda channel: channel.queue_bind(CHARGES, "again.requests", "requests"),
    lambda channel: channel.exchange_declare("mine", "fanout"),
)
