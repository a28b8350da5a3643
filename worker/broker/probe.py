"""Whether the broker takes messages: it is asked to store something, as a publisher would ask it."""

from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import ResponseError

from schedules.operations.health import Cause, CauseCode
from worker.broker import rabbitmq

KEY = "again.probe"
LASTS = 60  # seconds
PATIENCE = 5  # seconds


def find_cause(app: Celery) -> Cause | None:
    """Why the broker takes no messages; None when it does."""
    # With heartbeats a RabbitMQ node sees that this connection has ended, also while it blocks it.
    with app.connection_for_write(heartbeat=2 * PATIENCE) as connection:
        lost: tuple[type[BaseException], ...] = (OperationalError, *connection.connection_errors)
        try:
            connection.ensure_connection(max_retries=1, timeout=PATIENCE, interval_start=0)
            store = getattr(connection.default_channel, "client", None)
            return _ask_redis(store) if store is not None else _ask_rabbitmq(connection)
        except lost as error:
            where = connection.as_uri().replace("://:**@", "://")
            return Cause(CauseCode.BROKER_AWAY, f"the broker at {where} does not answer: {error}")


def _ask_redis(store: Any) -> Cause | None:
    """A replica, a full memory without eviction and a disk that cannot be written all refuse a SET."""
    try:
        store.set(KEY, "1", ex=LASTS)
    except ResponseError as error:
        return Cause(CauseCode.BROKER_REFUSES_WRITES, f"the broker answers, and refuses to store: {error}")
    return None


def _ask_rabbitmq(connection: Any) -> Cause | None:
    """Publish twice: a node with a memory or disk alarm blocks a connection after its first message."""
    with connection.Producer() as producer:
        try:
            for _ in range(2):
                # To a queue that is not there: RabbitMQ confirms such a message, and drops it.
                producer.publish("", routing_key=KEY, retry=False, timeout=PATIENCE, confirm_timeout=PATIENCE)
        except rabbitmq.Blocked as error:
            return Cause(CauseCode.BROKER_REFUSES_WRITES, f"the broker answers, and refuses to store: {error}")
        except TimeoutError:
            connection.collect()  # closing it in order would wait for the node
            words = f"it confirmed no message within {PATIENCE} s"
            return Cause(CauseCode.BROKER_REFUSES_WRITES, f"the broker answers, and {words}")
    return None
