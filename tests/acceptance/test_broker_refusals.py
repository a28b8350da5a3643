"""A Redis broker that refuses writes for a while: the worker stays up, logs it once, and goes on afterwards."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from schedules.operations.queues import REQUESTS
from tests.working import Worker, working
from worker.broker.messages import Reason
from worker.clock import wait, wait_until
from worker.embedded import EmbeddedServices, ValkeyServer, free_port

STATUS = "again.charge_status"
AS_REPLICA = 4.0  # seconds
FULL = 11.0  # seconds; a worker looks for what must be returned every ten
SENT = 5  # messages that are sent in the moment in which the broker becomes full


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A broker of this test's own."""
    running = ValkeyServer(tmp_path / "valkey")
    running.start()
    yield running
    running.stop()


@pytest.fixture
def worker(
    embedded: EmbeddedServices, migrated_template: str, server: ValkeyServer, tmp_path: Path
) -> Iterator[Worker]:
    """A worker on it."""
    with working(embedded, migrated_template, server.url, tmp_path) as running:
        yield running


def test_a_worker_outlives_a_broker_that_refuses_writes_for_a_while(worker: Worker, server: ValkeyServer) -> None:
    """As a replica it refuses each read of a queue; with a full memory, what a worker writes."""
    broker = redis.Redis.from_url(server.url)
    broker.replicaof("127.0.0.1", str(free_port()))
    wait(AS_REPLICA)
    broker.replicaof("NO", "ONE")
    broker.config_set("maxmemory", "1")
    wait(FULL)
    broker.config_set("maxmemory", "0")
    answer = worker.answer(STATUS, request_key="nothing")
    assert (answer["ok"], answer["error"]) == (False, "refused")
    assert worker.starts() == 1
    log = worker.log()
    assert "it is started again" not in log
    for line in ("Connection to broker lost", "Frequent restarts detected"):
        assert log.count(line) == 1, log
    assert 1 <= log.count("Cannot connect to") <= 2, log  # at most once after each connection


def test_a_broker_that_becomes_full_while_a_worker_takes_a_message_loses_none_and_doubles_none(
    worker: Worker, server: ValkeyServer
) -> None:
    """BRPOP removes a message; a full broker refuses to store that it is unacknowledged. Each is counted once."""
    broker = redis.Redis.from_url(server.url)
    with broker.pipeline() as together:
        together.lpush(REQUESTS, *range(SENT))
        together.config_set("maxmemory", "1")
        together.execute()
    wait(FULL)
    assert broker.llen(REQUESTS) == SENT - 1  # the worker has taken one, and could not store it
    broker.config_set("maxmemory", "0")
    counted = {(REQUESTS, Reason.BAD_ENVELOPE): SENT}
    assert wait_until(lambda: worker.dead_letters() == counted, 60), (worker.dead_letters(), worker.log()[-3000:])
    wait(FULL)
    assert worker.dead_letters() == counted
    assert (broker.llen(REQUESTS), broker.hlen("unacked"), worker.starts()) == (0, 0, 1)


def test_a_connection_that_is_lost_after_an_acknowledgement_delivers_nothing_again(
    worker: Worker, server: ValkeyServer
) -> None:
    """Guard: the consumer notes that the message it took last is stored."""
    broker = redis.Redis.from_url(server.url)
    for number in range(SENT):
        broker.lpush(REQUESTS, number)
        assert wait_until(lambda: not broker.llen(REQUESTS) and not broker.hlen("unacked"), 20, 0.01)
        wait(0.1)
        broker.client_kill_filter(_type="normal", skipme=True)
        assert wait_until(lambda: blocked(broker) > 0, 20), worker.log()[-3000:]
    counted = {(REQUESTS, Reason.BAD_ENVELOPE): SENT}
    assert wait_until(lambda: worker.dead_letters() == counted, 20), (worker.dead_letters(), worker.log()[-3000:])
    wait(FULL)
    assert worker.dead_letters() == counted


def blocked(broker: redis.Redis) -> int:
    """How many clients wait for a message."""
    clients: Any = broker.info("clients")
    return int(clients["blocked_clients"])
