"""A whole installation of real processes: services, simulator, two beats, workers; and a shop on it."""

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests import forking
from tests.acceptance.again import told, told_json
from tests.services import data_folder
from tests.starting import wait_until_up
from worker import wiring
from worker.cli.local.stack import AGAIN, Standing
from worker.clock import wait_until
from worker.config import load_settings
from worker.customers import enrollment
from worker.reporting import history
from worker.reporting.history import Story

QUICK = {
    "AGAIN_ENVIRONMENT": "test",
    "AGAIN_READ_TIMEOUT": "4",
    "AGAIN_CALL_DEADLINE": "5",
    "AGAIN_LEASE": "15",
    "AGAIN_VISIBILITY_TIMEOUT": "40",
    "AGAIN_QUIET_TIME": "6",
    "AGAIN_QUEUE_PATIENCE": "3",
    "AGAIN_BEAT_INTERVAL": "0.2",
    "AGAIN_RATE": "0",
}


class Installation:
    """What a test may ask of the processes that run."""

    def __init__(self, standing: Standing, starts: "Starts") -> None:
        self.standing, self._starts = standing, starts
        self.settings = {n: v for n, v in standing.environment.items() if n.startswith("AGAIN_")}
        self.services = wiring.connect(load_settings(self.settings))

    def restart(self, prefix: str) -> None:
        """Start the ended beats and workers whose names have this prefix again, and wait until they work.

        One that starts while no database answers ends with an error, and no supervisor starts it again here.
        """
        self.standing.restart(prefix)
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait until each beat and worker that runs has said that it works."""
        for name in self.standing.names():
            (process,) = self.standing.children(name)
            if name.startswith(("beat", "worker")) and process.poll() is None:
                log = partial(self._starts.log, self.standing.data / "logs" / f"{name}.log")
                wait_until_up(process, partial(_works, log), log)

    def told(self, *arguments: str) -> str:
        """What a command prints."""
        return told(*arguments, settings=self.settings)

    def told_json(self, *arguments: str) -> Any:
        """What a command prints as JSON."""
        return told_json(*arguments, settings=self.settings)

    def simulator(self, path: str, document: object = None) -> Any:
        """Look at, or set, something on the simulator's own side."""
        url = f"{self.settings['AGAIN_PORTONE_URL']}/_simulator/{path}"
        body = None if document is None else json.dumps(document).encode()
        with urlopen(Request(url, body), timeout=10) as answer:
            return json.load(answer)

    def customer(self, customer_uid: str, plan: str, *, anchor: date | None = None, **card: object) -> str:
        """A customer with a card, on a plan whose first charge is due now; answers the subscription's key."""
        self.simulator("cards", {"customer_uid": customer_uid, **card})
        enrollment.add_customer(self.services, customer_uid, None, None, None, "tester")
        return enrollment.subscribe(self.services, customer_uid, plan, "tester", anchor).key

    def movements(self, customer_uid: str) -> list[dict[str, Any]]:
        """The money that a customer's card has moved."""
        return [m for m in self.simulator("ledger")["movements"] if m["customer_uid"] == customer_uid]

    def calls(self, name: str) -> int:
        """How many calls of this name have reached the simulator."""
        return int(self.simulator("ledger")["calls"].get(name, 0))

    def charge(self, subscription: str) -> Story | None:
        """The story of the subscription's first charge, if it has been opened."""
        charges = history.show(self.services, subscription).parts
        return history.show(self.services, charges[0]["key"]) if charges else None

    def attempt_states(self, subscription: str) -> list[str]:
        """The states of the attempts at the subscription's first charge."""
        story = self.charge(subscription)
        return [part["state"] for part in story.parts] if story else []

    def wait_for(self, subscription: str, status: str, seconds: float = 45) -> Story:
        """The story of the subscription's first charge, once it has this status."""
        seen: list[Story] = []

        def has_it() -> bool:
            story = self.charge(subscription)
            seen[:] = [story] if story else []
            return bool(seen) and seen[0].facts["status"] == status

        assert wait_until(has_it, seconds), f"waited for {status}, and saw {seen}"
        return seen[0]


class Starts:
    """Start processes without the imports, and know what each has logged since."""

    def __init__(self) -> None:
        self._began: dict[str, int] = {}

    def __call__(self, command: Sequence[str], **options: Any) -> "subprocess.Popen[bytes]":
        """Start one, as `subprocess.Popen` does."""
        log = options["stdout"]
        self._began[str(log.name)] = log.tell()
        return forking.start(command, **options)

    def log(self, path: Path) -> str:
        """What the newest process with this log has logged."""
        return path.read_bytes()[self._began[str(path)] :].decode()


def _works(log: Callable[[], str]) -> bool:
    return " ready." in log() or "beat: Starting..." in log()


@contextmanager
def installed(settings: Mapping[str, str] = QUICK, program: Sequence[str] = AGAIN) -> Iterator[Installation]:
    """Everything, as `again up` runs it, with two beats and a monthly plan `now`; gone afterwards."""
    starts = Starts()
    with (
        data_folder("again-acceptance-") as data,
        Standing(
            data,
            settings=settings,
            beats=2,
            charge_workers=2,
            durable=False,
            named_services=False,
            logs=data / "logs",
            program=program,
            launch=starts,
        ) as standing,
    ):
        running = Installation(standing, starts)
        running.wait_until_ready()
        running.told(
            "plan", "add", "now", "--price", "9900", "--name", "Now", "--unit", "month", "--time", "00:00"
        )
        yield running
        running.services.engine.dispose()
        running.services.gateways["main"].close()
