"""The measurement of all contenders: publish charges to waiting workers until the last one is paid."""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Protocol

from celery import Celery
from kombu.exceptions import OperationalError as BrokerDown
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError

from worker.clock import elapsed

ROOT = Path(__file__).resolve().parents[2]
CONCURRENCIES = (4, 8, 16, 32)  # the values that `--concurrency 0` tries
LOOK_EVERY = 0.2  # seconds; the error of a duration is at most this
START_TIME = 120.0  # seconds that workers may take to start, on a busy machine
STOP_TIME = 60.0  # seconds that workers may take to stop
STALL_TIME = 60.0  # seconds without a further paid charge before the measurement fails


class Failed(Exception):
    """The measurement has failed."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of the command line."""

    database_url: str
    broker_url: str
    gateway: str
    charges: int
    processes: int
    concurrency: int
    client: str = ""


class Workers:
    """Worker processes, each in its own process group, and their output."""

    def __init__(self, command: list[str], environment: dict[str, str], processes: int, log: Path) -> None:
        self.log = log
        self.running: list[subprocess.Popen[bytes]] = []
        with log.open("wb") as output:
            for number in range(processes):
                command_line = [part.replace("{number}", str(number)) for part in command]
                worker = subprocess.Popen(
                    command_line, cwd=ROOT, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
                    stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
                self.running.append(worker)

    def said(self, words: str) -> int:
        """How often these words occur in the output."""
        return self.log.read_text(errors="replace").count(words)

    def check(self) -> None:
        """Raise Failed when a worker has ended by itself."""
        for worker in self.running:
            if worker.poll() is not None:
                raise Failed(f"a worker ended with {worker.returncode}:\n{self.last_words()}")

    def last_words(self) -> str:
        """The end of the output."""
        return self.log.read_text(errors="replace")[-3000:]

    def stop(self) -> None:
        """Terminate the workers, and kill those that do not end."""
        for worker in self.running:
            worker.terminate()
        for worker in self.running:
            try:
                worker.wait(STOP_TIME)
            except subprocess.TimeoutExpired:
                pass
            finally:
                _kill_group(worker)


class Contender(Protocol):
    """An implementation: fill, work, publish, count, clean up."""

    name: str

    def fill(self, charges: int) -> None:
        """Create the tables with so many open charges."""

    def command(self, concurrency: int) -> tuple[list[str], dict[str, str]]:
        """The command of one worker, with `{number}` for its number, and its environment."""

    def ready(self, workers: Workers) -> int:
        """How many workers are ready."""

    def publish(self, charges: int) -> None:
        """Publish every charge."""

    def paid(self) -> int:
        """How many charges are paid."""

    def clean(self) -> None:
        """Remove the tables and queues."""


def main(
    description: str | None, contender: Callable[[Arguments], Contender], clients: tuple[str, ...] = ()
) -> NoReturn:
    """Read the command line, measure, and print one line of JSON; exit with 1 and a message on failure."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--database-url", required=True, help="postgresql+psycopg://…")
    parser.add_argument("--broker-url", required=True, help="redis://…")
    parser.add_argument("--gateway", required=True, help="http://127.0.0.1:PORT")
    parser.add_argument("--charges", type=int, required=True)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--concurrency", type=int, default=8, help="in all; 0 tries a few and takes the best")
    if clients:
        parser.add_argument("--client", choices=clients, default=clients[0], help="an httpx.Client for each call?")
    arguments = Arguments(**vars(parser.parse_args()))
    if arguments.charges < 1 or arguments.processes < 1 or arguments.concurrency < 0:
        parser.error("--charges and --processes are at least 1, --concurrency is not negative")
    end_cleanly(lambda: print(json.dumps(_measure(contender(arguments), arguments)), flush=True))


def forget_queue(app: Celery, queue: str) -> None:
    """Remove a queue from Redis with the records of kombu about it."""
    with app.connection_for_write() as connection:
        channel: Any = connection.default_channel
        channel.client.delete(queue, f"_kombu.binding.{queue}", f"_kombu.binding_permanent.{queue}")


def end_cleanly(work: Callable[[], None]) -> NoReturn:
    """Run the work so that SIGTERM and Ctrl-C clean up too; print a message for failures."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        work()
    except (Failed, DBAPIError, BrokerDown, RedisError, OSError) as failure:
        print(f"failed: {failure}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)


def _measure(contender: Contender, arguments: Arguments) -> dict[str, object]:
    try:
        concurrency = arguments.concurrency or _best_concurrency(contender, arguments)
        # The cost of start and stop, subtracted below: the same workers without charges.
        idle = _cpu_of(lambda: _race(contender, arguments.processes, concurrency, 0))
        took: list[float] = []
        busy = _cpu_of(lambda: took.append(_race(contender, arguments.processes, concurrency, arguments.charges)))
    finally:
        contender.clean()
    facts: dict[str, object] = {
        "name": contender.name,
        "charges": arguments.charges,
        "seconds": round(took[0], 3),
        "per_second": round(arguments.charges / took[0], 1),
        "cpu_ms_per_charge": round(max(0.0, busy - idle) * 1000 / arguments.charges, 3),
        "processes": arguments.processes,
        "concurrency": concurrency,
    }
    return facts | ({"client": arguments.client} if arguments.client else {})


def _best_concurrency(contender: Contender, arguments: Arguments) -> int:
    charges = max(1, arguments.charges // 10)
    seconds: dict[int, float] = {}
    for concurrency in CONCURRENCIES:
        seconds[concurrency] = _race(contender, arguments.processes, concurrency, charges)
        print(f"{contender.name}, {concurrency} at once: {charges / seconds[concurrency]:.0f}/s", file=sys.stderr)
    return min(seconds, key=seconds.__getitem__)


def _race(contender: Contender, processes: int, concurrency: int, charges: int) -> float:
    """Seconds from the first publish to the last paid charge."""
    contender.fill(charges)
    command, environment = contender.command(max(1, concurrency // processes))
    with _working(command, environment, processes) as workers:
        _wait(lambda: contender.ready(workers) >= processes, workers)
        began = elapsed()
        contender.publish(charges)
        _wait_until_paid(contender, workers, charges)
        return elapsed() - began


@contextmanager
def _working(command: list[str], environment: dict[str, str], processes: int) -> Iterator[Workers]:
    with tempfile.TemporaryDirectory(prefix="again-baseline-") as folder:
        workers = Workers(command, environment, processes, Path(folder) / "log")
        try:
            yield workers
        finally:
            workers.stop()


def _wait(is_so: Callable[[], bool], workers: Workers) -> None:
    until = elapsed() + START_TIME
    while not is_so():
        workers.check()
        if elapsed() > until:
            raise Failed(f"no workers after {START_TIME:.0f} s:\n{workers.last_words()}")
        time.sleep(LOOK_EVERY)


def _wait_until_paid(contender: Contender, workers: Workers, charges: int) -> None:
    most, moved = -1, elapsed()
    while (paid := contender.paid()) < charges:
        workers.check()
        if paid > most:
            most, moved = paid, elapsed()
        if elapsed() - moved > STALL_TIME:
            raise Failed(f"stuck at {paid} of {charges} charges:\n{workers.last_words()}")
        time.sleep(LOOK_EVERY)


def _cpu_of(work: Callable[[], object]) -> float:
    """CPU seconds, user and system, of the children that ended during the work, and of their children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _kill_group(worker: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(worker.pid, signal.SIGKILL)  # children that are left
    except ProcessLookupError:
        return
    worker.wait()


def _terminated(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
