"""Celery's settings for each kind of broker."""

from typing import Any

import amqp
import pytest
from amqp.exceptions import RecoverableConnectionError
from kombu import Connection, Queue
from kombu.asynchronous import Hub

from worker import brokers
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


@pytest.mark.parametrize("has_loop", [True, False])
def test_what_was_done_in_one_turn_of_the_loop_is_acknowledged_together(
    embedded: EmbeddedServices, has_loop: bool
) -> None:
    """And at once where there is no loop; what is not acknowledged when the channel closes goes back."""
    url = embedded.broker_url.rpartition("/")[0] + "/9"  # nobody else is there
    with Connection(url) as connection:
        channel: Any = connection.channel()
        queue = Queue("work")(channel)
        queue.declare()
        with connection.Producer(channel) as producer:
            for number in range(4):
                producer.publish(number, routing_key="work", serializer="json")
        hub = Hub()
        if has_loop:
            connection.register_with_event_loop(hub)
        taken: list[Any] = [queue.get() for _ in range(4)]
        server = channel.client
        for message in taken[:2]:
            message.ack()
        held = 4 if has_loop else 2
        assert server.hlen(channel.unacked_key) == server.zcard(channel.unacked_index_key) == held
        for end_of_turn in tuple(hub.on_tick):
            end_of_turn()
        assert server.hlen(channel.unacked_key) == server.zcard(channel.unacked_index_key) == 2
        taken[2].ack()
        channel.close()
        hub.close()
    with Connection(url) as connection:
        channel = connection.channel()
        assert channel.client.hlen(channel.unacked_key) == 0
        again = Queue("work")(channel).get()
        assert again is not None
        assert again.payload == 3
        again.ack()
        assert Queue("work")(channel).get() is None


@pytest.mark.parametrize("was_blocked", [False, True])
def test_a_channel_whose_rabbitmq_connection_was_lost_raises_an_error_of_the_broker(was_blocked: bool) -> None:
    """kombu and beat connect anew after such an error alone; any other would end a beat."""
    connection: Any = brokers.RabbitConnection(host="127.0.0.1:1")
    channel = connection.Channel(connection, 1)
    connection.is_blocked = was_blocked
    connection.collect()
    with pytest.raises(RecoverableConnectionError):
        channel.basic_publish_confirm(amqp.Message("words"), routing_key="nowhere")
    channel.close()
    connection.check_blocked()  # it does not connect by itself, as py-amqp does where it reads after the end
    assert not connection.connected
