"""A process one of whose threads fails ends with an ERROR, so that its supervisor starts it again."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
import redis
from celery import Celery
from sqlalchemy import text

from schedules.operations.queues import BULK, REQUESTS
from tests import dying, forking
from tests.acceptance.again import ROOT, plain_environment
from tests.dying import FAILS, FAILS_ONCE, MAIN, UNSTARTABLE
from tests.factories import many_opened
from tests.installation import QUICK
from tests.simulator.running import RunningSimulator, running_simulator
from worker import wiring
from worker.clock import wait, wait_until
from worker.config import load_settings
from worker.embedded import EmbeddedServices, free_port
from worker.operations import operate
from worker.runtime.background import FAILED, Part

pytestmark = pytest.mark.timeout(300)
START_TIME = 120.0  # seconds that a process may take on a busy machine
WORKER, BEAT, LISTENER = "worker", "beat", "listen"
# Which process has the thread.
PROCESSES = {part: LISTENER if part is Part.NOTICES else WORKER for part in Part}
MANY = 60  # charges that are due, one for each look


Start = Callable[[str, str, str], "Victim"]


@pytest.fixture(scope="module")
def simulator() -> Iterator[RunningSimulator]:
    """A gateway."""
    with running_simulator() as running:
        for number in range(MANY):
            running.card(f"customer-{number}")
        yield running


class Victim:
    """A process that is to end by the failure of a thread."""

    def __init__(
        self,
        simulator: RunningSimulator,
        command: str,
        part: str,
        how: str,
        settings: dict[str, str],
        folder: Path,
    ) -> None:
        self._simulator = simulator
        self._log = folder / "log"
        self._order = folder / "order"
        self._settings = settings
        self._port = free_port()
        self._is_worker = command == WORKER
        self.services = wiring.connect(load_settings(settings))
        operate.bind_if_new(self.services, "test")
        self._charge_ids = iter(self._charges())
        self._numbers = count()
        options = {WORKER: ["--concurrency", "2"], BEAT: [], LISTENER: ["--port", str(self._port)]}[command]
        options += ["--alive-file", str(folder / "alive")]
        environment = plain_environment(settings) | {
            "PYTHONPATH": str(ROOT), dying.PART: part, dying.HOW: how, dying.ORDER: str(self._order),
        }  # fmt: skip
        its_stdin, stdin = os.pipe()
        self._stdin = os.fdopen(stdin, "wb")
        with self._log.open("wb") as output, os.fdopen(its_stdin, "rb"):
            self.process = forking.start(
                [sys.executable, "-m", dying.__name__, command, *options, "--until-stdin-closes"],
                env=environment, stdin=its_stdin, stdout=output, stderr=output,
            )  # fmt: skip

    def _charges(self) -> list[int]:
        """Charges that are due; every other one may have been used before a restore, so that it is asked about."""
        ids = many_opened(self.services, MANY)
        plain, asked = ids[: MANY // 2], ids[MANY // 2 :]
        with self.services.engine.begin() as db:
            statement = "UPDATE installation SET asked_to = :last, restored_at = now()"
            db.execute(text(statement), {"last": plain[-1]})
        return [charge_id for pair in zip(plain, asked, strict=True) for charge_id in pair]

    def log(self) -> str:
        """What it has logged."""
        return self._log.read_text("utf-8", errors="replace")

    def is_up(self) -> bool:
        """Whether it does its work, and has done some of each kind."""
        self.use()
        if not self._is_worker:
            return "leads" in self.log() or self._answers("healthy")
        return "paid: " in self.log() and "refused" in self.log()

    def fail(self) -> None:
        """Have the thread fail when it runs next."""
        self._order.touch()
        assert wait_until(lambda: not self._order.exists(), 30)

    def has_ended(self) -> bool:
        """Whether it has ended; it is used until it has."""
        if self.process.poll() is None:
            self.use()
        return self.process.poll() is not None

    def use(self) -> None:
        """Give every thread something to do: a charge, a token that is refused, a bad message, a notice."""
        wait(0.3)
        if self._is_worker:
            self._simulator.fault("token_expired", times=1)
            charge_id = next(self._charge_ids, None)
            with Celery(broker=self._settings["AGAIN_BROKER_URL"]) as publisher:
                publisher.send_task("again.charge", (charge_id,), queue=BULK)
            broker = redis.Redis.from_url(self._settings["AGAIN_BROKER_URL"])
            broker.rpush(REQUESTS, b"5")
            broker.close()
        else:
            self._answers("portone", b'{"imp_uid": "imp_1", "merchant_uid": "a%d"}' % next(self._numbers))

    def close_stdin(self) -> None:
        """End its standard input."""
        self._stdin.close()

    def _answers(self, path: str, body: bytes | None = None) -> bool:
        with suppress(URLError, OSError):
            headers = {"Content-Type": "application/json"}
            url = f"http://127.0.0.1:{self._port}/{path}"
            with urlopen(Request(url, body, headers), timeout=5) as answer:
                return bool(answer.status == 200)
        return False

    def end(self) -> None:
        """Kill it, if it lives."""
        self.process.kill()
        self.process.wait()
        self.close_stdin()
        self.services.engine.dispose()


@pytest.fixture
def places(simulator: RunningSimulator, embedded: EmbeddedServices, database: str) -> dict[str, str]:
    """The settings of a process of this test's own."""
    broker = embedded.broker_url.rpartition("/")[0] + "/12"  # nobody else is there
    redis.Redis.from_url(broker).flushdb()
    return QUICK | {
        "AGAIN_DATABASE_URL": database, "AGAIN_BROKER_URL": broker, "AGAIN_PORTONE_URL": simulator.url,
        "AGAIN_PORTONE_KEY": "sim_key", "AGAIN_PORTONE_SECRET": "sim_secret",
        "AGAIN_LISTENER_ALLOW": "127.0.0.0/8", "AGAIN_LOG_LEVEL": "INFO", "AGAIN_METRICS_PORT": str(free_port()),
    }  # fmt: skip


@pytest.fixture
def start(simulator: RunningSimulator, places: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """Starts a process, one of whose threads is to fail."""
    started: list[Victim] = []

    def begun(command: str, part: str, how: str) -> Victim:
        started.append(Victim(simulator, command, part, how, places, tmp_path))
        return started[-1]

    yield begun
    for victim in started:
        victim.end()


def assert_ended_by(victim: Victim, part: Part, how: str) -> None:
    """It has ended, with the status of a failure, and says by an ERROR line why."""
    assert wait_until(victim.has_ended, START_TIME), victim.log()[-3000:]
    assert victim.process.returncode == FAILED, victim.log()[-3000:]
    assert re.search(rf"ERROR.*background thread {part} {how}", victim.log()), victim.log()[-3000:]


@pytest.mark.parametrize("part", Part)
def test_a_process_ends_when_one_of_its_threads_fails(part: Part, start: Start) -> None:
    """Guard: a process without one of its threads must not live on."""
    victim = start(PROCESSES[part], part, FAILS)
    assert wait_until(victim.is_up, START_TIME), victim.log()[-3000:]
    victim.fail()
    if part is Part.STDIN:
        victim.close_stdin()
    assert_ended_by(victim, part, "failed")


@pytest.mark.parametrize("part", Part)
def test_a_process_ends_when_one_of_its_threads_cannot_be_started(part: Part, start: Start) -> None:
    """Guard: as above, where memory or the number of threads is short."""
    victim = start(PROCESSES[part], part, UNSTARTABLE)
    assert_ended_by(victim, part, "could not be started")


def test_a_worker_whose_main_thread_fails_works_on_or_ends(start: Start) -> None:
    """Guard: a worker whose consumer is gone must not live on; Celery may begin its consumer anew."""
    victim = start(WORKER, MAIN, FAILS_ONCE)
    assert wait_until(victim.is_up, START_TIME), victim.log()[-3000:]
    victim.fail()
    before = victim.log().count("paid: ")

    def goes_on() -> bool:
        return victim.log().count("paid: ") > before + 4  # calls under way may end after it

    assert wait_until(lambda: victim.has_ended() or goes_on(), START_TIME), victim.log()[-3000:]
    assert victim.process.poll() != 0, victim.log()[-3000:]


@pytest.mark.parametrize("command", [BEAT, LISTENER])  # a worker's catches what happens to it, and goes on
def test_a_process_ends_when_its_main_thread_fails(command: str, start: Start) -> None:
    victim = start(command, MAIN, FAILS)
    assert wait_until(victim.is_up, START_TIME), victim.log()[-3000:]
    victim.fail()
    assert wait_until(victim.has_ended, START_TIME), victim.log()[-3000:]
    assert victim.process.returncode not in (0, -9), victim.log()[-3000:]
