"""SIGTERM: nothing new leaves; what has not left is given back; what is under way ends at its time-out."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from celery import Celery
from sqlalchemy import text

from schedules.charging.charges import AttemptState
from schedules.operations.queues import BULK
from tests.acceptance.again import plain_environment
from tests.doubles import ScriptedGateway
from tests.factories import attempt_rows, charge_rows, many_opened
from tests.gateway.scripted import ScriptedServer, hang, scripted
from tests.installation import QUICK
from tests.services import drop_database, fresh_database
from tests.working import Worker, working
from worker import wiring
from worker.clock import wait_until
from worker.config import load_settings
from worker.embedded import EmbeddedServices
from worker.operations import operate

pytestmark = pytest.mark.timeout(300)
CALLS, CHARGES = 4, 60  # calls under way at a time, and charges of the one envelope: more than are claimed at once


@pytest.fixture
def silent() -> Iterator[ScriptedServer]:
    """A gateway that gives a token, takes every charge, and never answers."""
    with scripted() as server:
        server.by_request = lambda _: hang
        yield server


@pytest.fixture
def worker(
    silent: ScriptedServer, embedded: EmbeddedServices, migrated_template: str, tmp_path: Path
) -> Iterator[Worker]:
    """A worker at that gateway, with short time-outs."""
    broker = embedded.broker_url.rpartition("/")[0] + "/13"  # nobody else is there
    redis.Redis.from_url(broker).flushdb()
    settings = {"AGAIN_PORTONE_URL": silent.url, "AGAIN_CONCURRENCY": str(CALLS)}
    with working(embedded, migrated_template, broker, tmp_path, **settings) as running:
        operate.bind_if_new(running.services, "test")
        yield running


def states(worker: Worker) -> list[str]:
    """The states of all attempts."""
    return [row["state"] for row in attempt_rows(worker.services)]


def test_a_worker_that_is_told_to_stop_sends_nothing_more_and_gives_back_what_it_has_not_sent(
    worker: Worker, silent: ScriptedServer
) -> None:
    """Guard: a stop takes one call's time, however many charges are claimed."""
    ids = many_opened(replace(worker.services, gateways={"main": ScriptedGateway()}), CHARGES)
    with worker.services.engine.begin() as db:
        db.execute(text("UPDATE charges SET queued_until = now() + interval '10 minutes'"))
    with Celery(broker=worker.settings["AGAIN_BROKER_URL"]) as publisher:
        publisher.send_task("again.charge_many", (ids, "main"), queue=BULK)
    assert wait_until(lambda: len(silent.received) == CALLS, 30)
    assert wait_until(lambda: len(states(worker)) == CHARGES, 30)
    assert worker.stop() == 0, worker.log()[-3000:]
    assert len(silent.received) == CALLS
    ended = states(worker)
    assert ended.count(AttemptState.UNKNOWN) == CALLS
    assert ended.count(AttemptState.READY) == CHARGES - CALLS
    now = worker.services.clock.now()
    due = [row["next_attempt_at"] for row in charge_rows(worker.services) if row["next_attempt_at"] is not None]
    assert len(due) == CHARGES - CALLS
    assert max(due) <= now


def test_a_beat_that_is_told_to_stop_in_a_transaction_ends_it_and_gives_the_lead_back(
    embedded: EmbeddedServices, migrated_template: str
) -> None:
    """The handler of the signal uses no database: it would wait for a lock of the thread that it interrupts."""
    database = fresh_database(embedded, template=migrated_template)
    settings = QUICK | {
        "AGAIN_DATABASE_URL": database, "AGAIN_BROKER_URL": embedded.broker_url,
        "AGAIN_PORTONE_URL": "http://127.0.0.1:1", "AGAIN_PORTONE_KEY": "key", "AGAIN_PORTONE_SECRET": "secret",
    }  # fmt: skip
    services = wiring.connect(load_settings(settings))
    operate.bind_if_new(services, "test")
    services.engine.dispose()
    told = subprocess.run(
        [sys.executable, "-m", "tests.crashes.told_beat", "beat"],
        env=plain_environment(settings), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (told.returncode, "could not be given back" in told.stderr) == (0, False), told.stderr
    assert "Traceback" not in told.stderr
    drop_database(embedded, database)
