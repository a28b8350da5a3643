"""Celery's settings for each kind of broker."""

from typing import Any

import pytest
from kombu import Connection

from worker.app import QUEUES, celery_settings
from worker.config import Settings
from worker.embedded import EmbeddedServices


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
    assert options == {"confirm_publish": True, "read_timeout": 30, "write_timeout": 30}
    assert made["result_backend"] == "rpc://"


def test_redis_gets_none_of_that() -> None:
    made = settings("redis://127.0.0.1:6379/0")
    assert [queue.queue_arguments for queue in made["task_queues"]] == [{}] * len(QUEUES)
    assert made["broker_transport_options"]["visibility_timeout"] == 900
    assert made["result_backend"] == "redis://127.0.0.1:6379/0"


def test_redis_is_asked_by_one_client_until_its_connections_are_new(embedded: EmbeddedServices) -> None:
    """kombu makes a client for each message taken and acknowledged, which costs more than the message."""
    with Connection(embedded.broker_url) as connection:
        assert connection.as_uri().startswith("redis://")
        channel: Any = connection.channel()
        with channel.conn_or_acquire() as first, channel.conn_or_acquire() as second:
            assert first is second
            assert first.ping()
        channel._disconnect_pools()  # as kombu does when the broker was away
        with channel.conn_or_acquire() as third:
            assert third is not first
            assert third.ping()
