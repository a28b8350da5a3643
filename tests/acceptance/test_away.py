"""A broker or database that is away: each process logs it when it begins and when it is over, not each second."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.installation import QUICK
from worker.cli.local.stack import Standing
from worker.clock import wait, wait_until
from worker.embedded import EmbeddedServices, free_port

AWAY = 20.0  # seconds; beat looks every 0.2 s, and Celery tries to connect after 0, 2, 6 and 12 s
STARTED = {"beat": "leads", "worker-ops": " ready.", "worker-charges-1": " ready.", "listener": "listening"}


class Shop:
    """All processes, each with a log of its own, and the services that they need, which may go away."""

    def __init__(self, services: EmbeddedServices, logs: Path) -> None:
        self.services, self._logs = services, logs
        self._read = dict.fromkeys(STARTED, 0)

    def log(self, name: str) -> str:
        """What a process has logged since the last `forget`."""
        file = self._logs / f"{name}.log"
        return file.read_text()[self._read[name] :] if file.exists() else ""

    def forget(self) -> None:
        """Leave out what was logged until now."""
        self._read = {name: len((self._logs / f"{name}.log").read_text()) for name in STARTED}

    def wait_for(self, words: str, *names: str) -> None:
        """Wait until each of these processes has logged this."""
        for name in names:
            assert wait_until(lambda: words in self.log(name), 90), (name, words, self.log(name))  # noqa: B023

    def errors(self, name: str) -> list[str]:
        """The lines at level ERROR of a process."""
        return [line for line in self.log(name).splitlines() if " ERROR " in line]


@pytest.fixture
def shop() -> Iterator[Shop]:
    """A shop whose processes all run."""
    with tempfile.TemporaryDirectory(prefix="again-away-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        with EmbeddedServices(folder / "services", durable=False) as services:
            named = {"AGAIN_DATABASE_URL": services.database_url, "AGAIN_BROKER_URL": services.broker_url}
            with Standing(
                folder / "data", settings=QUICK | named, named_services=False, durable=False, logs=folder / "logs"
            ) as standing:
                standing.start("listener", "listen", "--port", str(free_port()))
                running = Shop(services, folder / "logs")
                for process, words in STARTED.items():
                    running.wait_for(words, process)
                running.forget()
                yield running


@pytest.mark.timeout(600)  # two outages, and processes that come back from each
def test_each_process_logs_an_outage_once(shop: Shop) -> None:
    workers = ("worker-ops", "worker-charges-1")
    shop.services.valkey.crash()
    wait(AWAY)
    shop.services.valkey.restart()
    shop.wait_for("Connected to", *workers)
    shop.wait_for("the broker works again", "beat")
    for name in workers:
        (line,) = shop.errors(name)
        assert "Cannot connect to" in line
    (line,) = shop.errors("beat")
    assert "the broker fails" in line
    assert shop.errors("listener") == []

    shop.forget()
    shop.services.postgres.crash()
    wait(AWAY)
    shop.services.postgres.restart()
    shop.wait_for("the database works again", "beat", "listener", *workers)
    for name in STARTED:
        found = [line for line in shop.errors(name) if "again.database" in line]
        assert len(found) == 1, (name, found)
    (line,) = [line for line in shop.errors("worker-charges-1") if "again.database" not in line]
    assert "this worker takes no charges until" in line
