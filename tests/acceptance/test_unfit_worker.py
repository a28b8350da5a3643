"""A worker that may not or cannot send takes no messages of charges: those beside it send them in time."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path

import pytest
import redis
from celery import Celery
from kombu import Connection, Queue

from schedules.charging.charges import ChargeStatus
from schedules.operations.queues import BULK
from schedules.operations.queues import QUEUES as WORKER_QUEUES
from tests import skewed
from tests.acceptance.again import ROOT
from tests.factories import charge_rows, on_sale, subscribed
from tests.installation import QUICK
from tests.rabbit import NEEDS_RABBITMQ, Rabbit, rabbit
from tests.services import drop_database, fresh_database
from tests.simulator.running import RunningSimulator, running_simulator
from tests.skewed import set_ahead
from tests.working import Worker
from worker.cli.local.stack import AGAIN
from worker.clock import wait, wait_until
from worker.embedded import EmbeddedServices
from worker.operations import operate
from worker.renewals import enqueue, open_charges

pytestmark = pytest.mark.timeout(600)
CHARGES, MORE = 100, 20
PATIENCE = 600  # seconds: no charge that waits for it is paid within a test
IN_TIME = 90.0  # seconds on a busy machine
QUEUES = ("--queues", "charges,charges.bulk")
TAKES_NONE, TAKES_AGAIN, TAKEN = "takes no charges", "takes charges again", "received"


@pytest.fixture(scope="module")
def simulator() -> Iterator[RunningSimulator]:
    """A gateway with cards for all customers."""
    with running_simulator() as running:
        for number in range(CHARGES + 2 * MORE):
            running.card(f"customer-{number}")
        yield running


@pytest.fixture(scope="module")
def node() -> Iterator[Rabbit]:
    """A RabbitMQ of this module's own."""
    with rabbit() as running:
        yield running


@pytest.fixture(params=["valkey", pytest.param("rabbitmq", marks=NEEDS_RABBITMQ)])
def broker(request: pytest.FixtureRequest, embedded: EmbeddedServices) -> str:
    """A broker of each kind, in which nothing waits."""
    if request.param == "rabbitmq":
        node: Rabbit = request.getfixturevalue("node")
        with Connection(node.url) as connection:
            for queue in WORKER_QUEUES:
                Queue(queue, channel=connection.default_channel).delete()
        return node.url
    url = embedded.broker_url.rpartition("/")[0] + "/14"  # nobody else is there
    redis.Redis.from_url(url).flushdb()
    return url


class Two:
    """A good worker and one that is not, on one database and broker."""

    def __init__(self, good: Worker, bad: Worker) -> None:
        self.good, self.bad = good, bad
        self.services = good.services
        self._customers = count()
        on_sale(self.services)

    def open(self, many: int) -> None:
        """Have so many more charges due."""
        for number in islice(self._customers, many):
            subscribed(self.services, f"customer-{number}")
        open_charges.open_due(self.services)

    def dispatch(self) -> None:
        """Queue what is due, as the dispatcher does, a message for each charge."""
        with Celery(broker=self.good.settings["AGAIN_BROKER_URL"]) as publisher:
            publisher.conf.task_create_missing_queue_type = "quorum"

            def publish(queued: Sequence[enqueue.Queued]) -> None:
                for each in queued:
                    publisher.send_task("again.charge", (each.charge_id, each.account), queue=BULK)

            enqueue.top_up(self.services, publish)

    def paid(self) -> int:
        """How many charges are paid."""
        return [row["status"] for row in charge_rows(self.services)].count(ChargeStatus.PAID)

    def dispatch_until(self, is_true: Callable[[], bool]) -> bool:
        """Dispatch in each second until something is true."""

        def come() -> bool:
            self.dispatch()
            wait(0.5)
            return is_true()

        return wait_until(come, IN_TIME)


@contextmanager
def two(
    embedded: EmbeddedServices, template: str, broker: str, url: str, folder: Path, command: Sequence[str | Path],
    **changes: str,
) -> Iterator[Two]:  # fmt: skip
    """A good worker, and one that is started by another command or has other settings; both run."""
    database = fresh_database(embedded, template=template)
    settings = QUICK | {
        "AGAIN_DATABASE_URL": database, "AGAIN_BROKER_URL": broker, "AGAIN_PORTONE_URL": url,
        "AGAIN_PORTONE_KEY": "sim_key", "AGAIN_PORTONE_SECRET": "sim_secret", "AGAIN_LOG_LEVEL": "INFO",
        "AGAIN_QUEUE_PATIENCE": str(PATIENCE), "AGAIN_CONCURRENCY": "4", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    good = Worker(settings, folder / "good.log", (*AGAIN, "worker", *QUEUES))
    bad = Worker(settings | changes, folder / "bad.log", (*command, "worker", *QUEUES))
    operate.bind_if_new(good.services, "test")
    try:
        bad.start()
        good.start()
        yield Two(good, bad)
    finally:
        bad.end()
        good.end()
        drop_database(embedded, database)


def said(worker: Worker, words: str) -> int:
    """In how many ERROR lines a worker says this."""
    return sum(words in line and "ERROR" in line for line in worker.log().splitlines())


@pytest.mark.parametrize("seconds", [7200, -7200])
def test_a_worker_with_a_wrong_clock_takes_no_charges_until_it_is_right(
    seconds: int, broker: str, embedded: EmbeddedServices, migrated_template: str, simulator: RunningSimulator,
    tmp_path: Path,
) -> None:  # fmt: skip
    """Guard: none of a hundred charges waits until the patience with its message is over."""
    command = (sys.executable, "-m", skewed.__name__, str(tmp_path))
    with two(embedded, migrated_template, broker, simulator.url, tmp_path, command) as workers:
        workers.open(CHARGES)
        workers.dispatch()
        set_ahead(tmp_path, workers.bad.pid, seconds)  # it has messages in its hands by then, or takes some
        assert workers.dispatch_until(lambda: workers.paid() == CHARGES), workers.bad.log()[-3000:]
        assert wait_until(lambda: said(workers.bad, TAKES_NONE) == 1, 30)
        assert wait_until(lambda: workers.bad.log().count("Canceling queue") == 2, 30)
        taken = workers.bad.log().count(TAKEN)
        workers.open(MORE)
        assert workers.dispatch_until(lambda: workers.paid() == CHARGES + MORE), workers.bad.log()[-3000:]
        assert workers.bad.log().count(TAKEN) == taken
        set_ahead(tmp_path, workers.bad.pid, 0)
        assert wait_until(lambda: TAKES_AGAIN in workers.bad.log(), 30)
        assert workers.good.stop() == 0
        workers.open(MORE)
        assert workers.dispatch_until(lambda: workers.paid() == CHARGES + 2 * MORE), workers.bad.log()[-3000:]
        assert said(workers.bad, TAKES_NONE) == 1


def test_a_worker_that_does_not_reach_the_gateway_takes_no_charges_for_a_while(
    broker: str, embedded: EmbeddedServices, migrated_template: str, simulator: RunningSimulator, tmp_path: Path
) -> None:
    """Guard: it fails at once, and would take more messages than any other."""
    # The same host, so that the fingerprint is the same; another port, where nobody listens.
    nowhere = {"AGAIN_PORTONE_URL": "http://127.0.0.1:9"}
    with two(embedded, migrated_template, broker, simulator.url, tmp_path, AGAIN, **nowhere) as workers:
        workers.open(CHARGES)
        # One that it has tried twice by chance comes later: its next try is further away each time.
        assert workers.dispatch_until(lambda: workers.paid() >= CHARGES - 2), workers.bad.log()[-3000:]
        assert said(workers.bad, TAKES_NONE) == 1
        assert workers.bad.log().count("not_sent") < CHARGES / 3
