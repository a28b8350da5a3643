"""A Redis broker that refuses writes for a while: the worker stays up, logs it once, and goes on afterwards."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from schedules.charging.charges import ChargeStatus
from schedules.operations.queues import BULK, REQUESTS
from tests.doubles import ScriptedGateway
from tests.factories import charge_rows, on_sale, subscribed
from tests.simulator.running import RunningSimulator, running_simulator
from tests.working import Worker, working
from worker.broker.messages import Reason
from worker.clock import wait, wait_until
from worker.embedded import EmbeddedServices, ValkeyServer, free_port
from worker.renewals import open_charges
from worker.services import Services

STATUS = "again.charge_status"
AS_REPLICA = 4.0  # seconds
FULL = 11.0  # seconds; a worker looks for what must be returned every ten
THREADS = 2
OUTAGE = 5.0  # seconds after the last call; acknowledgements fail within the first
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


def test_a_worker_whose_acknowledgements_all_fail_in_an_outage_takes_messages_again(
    embedded: EmbeddedServices, migrated_template: str, server: ValkeyServer, tmp_path: Path
) -> None:
    """Guard: kombu counts a message that could not be acknowledged as one that is being worked on, for ever.

    A worker that has as many of them as threads would read no queue again, and would not even see the outage.
    """
    with running_simulator() as simulator:
        settings = {
            "AGAIN_PORTONE_URL": simulator.url, "AGAIN_PORTONE_KEY": "sim_key",
            "AGAIN_PORTONE_SECRET": "sim_secret", "AGAIN_CONCURRENCY": str(THREADS),
        }  # fmt: skip
        with working(embedded, migrated_template, server.url, tmp_path, **settings) as worker:
            *before, after = due_charges(worker.services, simulator, THREADS + 1)
            simulator.fault("slow", seconds=1)
            publish(server, before)
            assert wait_until(lambda: simulator.see("ledger")["calls"].get("again") == THREADS, 60), worker.log()
            server.crash()
            assert wait_until(lambda: paid(worker.services) == set(before), 60), worker.log()
            wait(OUTAGE)
            server.restart()
            publish(server, [after])
            assert wait_until(lambda: after in paid(worker.services), 120), worker.log()
            assert worker.starts() == 1
        assert len(simulator.movements()) == THREADS + 1


def due_charges(services: Services, simulator: RunningSimulator, many: int) -> list[int]:
    """The row ids of so many charges that are due, each of a customer with a card."""
    offline = replace(services, gateways={"main": ScriptedGateway()})
    on_sale(offline)
    for number in range(many):
        simulator.card(f"customer-{number}")
        subscribed(offline, f"customer-{number}")
    open_charges.open_due(offline)
    return [row["id"] for row in charge_rows(offline)]


def publish(server: ValkeyServer, charge_ids: Sequence[int]) -> None:
    """Send the message of each charge."""
    with Celery(broker=server.url) as publisher:
        for charge_id in charge_ids:
            publisher.send_task("again.charge", (charge_id, "main"), queue=BULK)


def paid(services: Services) -> set[int]:
    """The row ids of the charges that are paid."""
    return {row["id"] for row in charge_rows(services) if row["status"] == ChargeStatus.PAID}


def blocked(broker: redis.Redis) -> int:
    """How many clients wait for a message."""
    clients: Any = broker.info("clients")
    return int(clients["blocked_clients"])
