"""The environment of a benchmark: real services in a folder, a minimal gateway, workers and beat, and a shop."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psycopg

from worker import wiring
from worker.clock import wait_until
from worker.config import load_settings
from worker.embedded import EmbeddedServices
from worker.operations import operate
from worker.services import Services
from worker.store.operations import revisions

PYTHON = sys.executable
TICK = os.sysconf("SC_CLK_TCK")


def cpu_of(pid: int) -> float:
    """CPU seconds of a process with its threads; reads /proc, so Linux only."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def cpu_of_all(pids: Sequence[int]) -> float:
    """CPU seconds of these processes and all their children, also ended ones."""
    return sum(_cpu_with_children(pid) for pid in pids)


def _cpu_with_children(pid: int) -> float:
    total = 0.0
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended: its time is the parent's
            total += _cpu_with_children(int(child))
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return total + sum(map(int, fields[11:15])) / TICK


def memory_of(pid: int) -> float:
    """The maximum memory of a process so far, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


@dataclass(frozen=True, slots=True)
class Seen:
    """The payments at the gateway: when each arrived, with its customer_uid and merchant_uid."""

    arrivals: Sequence[tuple[float, str, str]]
    doubles: int

    @property
    def per_second(self) -> float:
        """Payments per second between the first and the last."""
        return (len(self.arrivals) - 1) / (self.arrivals[-1][0] - self.arrivals[0][0])

    def most_in_a_second(self) -> int:
        """The most payments that arrived in any one second."""
        most = first = 0
        for last, (at, _, _) in enumerate(self.arrivals):
            while self.arrivals[first][0] <= at - 1:
                first += 1
            most = max(most, last - first + 1)
        return most


class LightGateway:
    """A gateway process, as a context manager."""

    def __init__(self, latency: float = 0.05, look_up: float = 0.0) -> None:
        command = [PYTHON, "-m", "benchmarks.gateway", "--latency", str(latency), "--look-up", str(look_up)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def seen(self) -> Seen:
        """The payments so far."""
        with urlopen(f"{self.url}/witness", timeout=60) as answer:
            document = json.load(answer)
        return Seen(document["arrivals"], document["doubles"])

    def __enter__(self) -> "LightGateway":
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


@dataclass
class Place:
    """Running services, the settings of an installation on them, and the programs that were started."""

    embedded: EmbeddedServices
    environment: dict[str, str]
    logs: Path
    services: Services
    programs: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *words: str, **changes: str) -> subprocess.Popen[str]:
        """Start a program, for example a worker or a beat; its log is written to the folder of the place."""
        with (self.logs / f"{words[0]}-{len(self.programs)}.log").open("w") as log:
            program = subprocess.Popen(
                [PYTHON, "-m", "worker.cli", *words, "--until-stdin-closes"],
                stdin=subprocess.PIPE, stdout=log, stderr=log, text=True,
                env=os.environ | self.environment | changes, cwd=Path(__file__).parent.parent,
            )  # fmt: skip
        self.programs.append(program)
        return program

    def stop(self) -> None:
        """Stop the started programs, and wait for their ends."""
        for program in self.programs:
            program.send_signal(signal.SIGTERM)
        for program in self.programs:
            try:
                program.wait(60)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()
            if program.stdin is not None:
                program.stdin.close()
        self.programs.clear()

    @property
    def url(self) -> str:
        """The address of the database for psycopg."""
        return self.services.settings.sqlalchemy_url.replace("+psycopg", "")

    def ask(self, query: str) -> Any:
        """Return the only value of a query."""
        with psycopg.connect(self.url) as db:
            row = db.execute(query).fetchone()
        return row[0] if row else None

    def execute(self, *statements: str, **values: object) -> None:
        """Run statements without checks of foreign keys, and then ANALYZE."""
        with psycopg.connect(self.url) as db:
            db.execute("SET session_replication_role = replica")
            for statement in statements:
                db.execute(statement, values or None)
            db.commit()
            db.autocommit = True
            db.execute("VACUUM ANALYZE")

    def wait_for(self, query: str, value: object, seconds: float) -> None:
        """Wait until a query returns this value; otherwise end the benchmark with the last value."""
        if not wait_until(lambda: bool(self.ask(query) == value), seconds, every=0.2):
            raise SystemExit(f"waited {seconds:g} s for {value!r} from {query}, and it is {self.ask(query)!r}")


@contextmanager
def placed(gateway: str, **changes: str) -> Iterator[Place]:
    """Services for one benchmark, durable as in production, with migrated tables; removed at the end."""
    with tempfile.TemporaryDirectory(prefix="again-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        with (
            EmbeddedServices(Path(folder) / "services", durable=True) as embedded,
            at(embedded, gateway, Path(folder), **changes) as place,
        ):
            yield place


@contextmanager
def at(embedded: EmbeddedServices, gateway: str, logs: Path, **changes: str) -> Iterator[Place]:
    """An installation on running services."""
    environment = {
        "AGAIN_ENVIRONMENT": "benc",
        "AGAIN_DATABASE_URL": embedded.database_url,
        "AGAIN_BROKER_URL": embedded.broker_url,
        "AGAIN_PORTONE_URL": gateway,
        "AGAIN_PORTONE_KEY": "key",
        "AGAIN_PORTONE_SECRET": "secret",
        **changes,
    }
    services = connected(environment)
    place = Place(embedded, environment, logs, services)
    try:
        yield place
    finally:
        place.stop()
        services.engine.dispose()
        for each in services.gateways.values():
            close = getattr(each, "close", None)
            if close is not None:
                close()


def connected(environment: Mapping[str, str]) -> Services:
    """Services for a benchmark's own process, with migrated tables and a bound database."""
    settings = load_settings(environment)
    services = wiring.connect(settings)
    revisions.migrate(services.engine)
    operate.bind_if_new(services, "benchmark")
    return services
