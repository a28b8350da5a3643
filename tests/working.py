"""One real worker on a broker and a database of its own, for tests of what it takes from its queues."""

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery import Celery
from sqlalchemy import text

from tests import forking
from tests.acceptance.again import plain_environment, told, told_json
from tests.installation import QUICK
from tests.services import drop_database, fresh_database
from tests.starting import wait_until_up
from worker import wiring
from worker.config import load_settings
from worker.embedded import EmbeddedServices
from worker.operations import operate

COMMAND = (sys.executable, "-m", "worker.cli", "worker")


class Worker:
    """A worker process, its database and its broker."""

    def __init__(
        self,
        settings: Mapping[str, str],
        log: Path,
        command: Sequence[str | Path] = COMMAND,
    ) -> None:
        self.settings = dict(settings)
        self._command = command
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.services = wiring.connect(load_settings(self.settings))

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self._log.open("ab") as output:
            self._process = forking.start(
                self._command,
                env=plain_environment(self.settings),
                stdout=output,
                stderr=output,
            )
        wait_until_up(self._process, lambda: " ready." in self.log(), self.log)

    def start_again(self) -> None:
        """Start it with a fresh log, and wait until it answers."""
        self._log.unlink()
        self.start()

    def kill(self) -> None:
        """Kill it, as a crash does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process is not None
        return self._process.pid

    def stop(self) -> int:
        """Stop it in good order; its exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(60)

    def end(self) -> None:
        """Kill it, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self.services.engine.dispose()

    def log(self) -> str:
        """What it has logged."""
        return self._log.read_text("utf-8", errors="replace") if self._log.exists() else ""

    def starts(self) -> int:
        """How often it has begun: one that ends by itself becomes a fresh one under the same process id."""
        return self.log().count(" ready.")

    def memory(self) -> int:
        """The most memory that it has had, in bytes."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024

    def answer(self, task: str, **fields: object) -> Any:
        """What another backend gets as an answer."""
        url = self.settings["AGAIN_BROKER_URL"]
        with Celery(broker=url, backend=url if url.startswith("redis") else "rpc://") as backend:
            backend.conf.task_create_missing_queue_type = "quorum"  # which Redis does not look at
            asked = backend.send_task(task, queue="requests", kwargs=fields)
            answered = asked.get(timeout=60)
            if not url.startswith("redis"):
                answers: Any = backend.backend
                answers.result_consumer.stop()  # a connection of its own, which nobody else closes
        return answered

    def dead_letters(self) -> dict[tuple[str, str], int]:
        """How many messages were refused, by queue and reason."""
        with self.services.engine.begin() as db:
            rows = db.execute(text("SELECT queue, reason, sum(count) FROM dead_letters GROUP BY queue, reason"))
            return {(queue, reason): int(count) for queue, reason, count in rows}

    def told(self, *arguments: str) -> str:
        """What a command prints."""
        return told(*arguments, settings=self.settings)

    def told_json(self, *arguments: str) -> Any:
        """What a command prints as JSON."""
        return told_json(*arguments, settings=self.settings)


@contextmanager
def working(
    embedded: EmbeddedServices, template: str, broker: str, folder: Path,
    command: Sequence[str | Path] = COMMAND, **changes: str,
) -> Iterator[Worker]:  # fmt: skip
    """A worker that takes every queue of this broker, unless its command says otherwise."""
    database = fresh_database(embedded, template=template)
    places = {
        "AGAIN_DATABASE_URL": database, "AGAIN_BROKER_URL": broker, "AGAIN_PORTONE_URL": "http://127.0.0.1:1",
        "AGAIN_PORTONE_KEY": "key", "AGAIN_PORTONE_SECRET": "secret", "AGAIN_LOG_LEVEL": "INFO",
    }  # fmt: skip
    worker = Worker(QUICK | places | changes, folder / "worker.log", command)
    operate.bind_if_new(worker.services, "test")  # in another environment's database it would take no charges
    try:
        worker.start()
        yield worker
    finally:
        worker.end()
        drop_database(embedded, database)
