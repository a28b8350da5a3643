"""`again up` in a folder of its own, as a person runs it."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests.acceptance.again import AGAIN, again, plain_environment
from tests.starting import wait_until_up
from worker.clock import wait_until
from worker.embedded import free_port


def processes_of(folder: Path) -> list[str]:
    """The command lines of the processes that work in a folder, or on data in it."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            here = os.readlink(place / "cwd")
            line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            ended = (place / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        except OSError:
            continue
        if not ended and (here.startswith(str(folder)) or str(folder) in line):
            found.append(line)
    return found


class Up:
    """`again up` in a folder."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.folder, self.port = folder, free_port()
        self._settings = settings
        self._begin()

    def start(self) -> None:
        """Start it again, and wait until it runs."""
        self._begin()
        self.wait()

    def wait(self) -> None:
        """Wait until it runs."""
        wait_until_up(self.process, lambda: "stop with Ctrl-C" in self.output(), self.output)

    def _begin(self) -> None:
        with (self.folder / "output").open("wb") as output:
            self.process = subprocess.Popen(
                [AGAIN, "up", "--port", str(self.port)], cwd=self.folder, env=plain_environment(self._settings),
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip

    def output(self) -> str:
        """What it printed since its start."""
        return (self.folder / "output").read_text()

    def kill(self) -> None:
        """Kill it, as a crash does, and wait until the processes that it started have ended too."""
        self.process.kill()
        self.process.wait()
        assert wait_until(lambda: processes_of(self.folder) == [], 120), processes_of(self.folder)

    def stop(self) -> None:
        """End it in good order if it runs, by force if that takes too long, with all its processes."""
        self.process.terminate()
        try:
            self.process.wait(120)
        except subprocess.TimeoutExpired:
            self.kill()

    def told(self, *arguments: str) -> str:
        """What a command in its folder prints."""
        done = again(*arguments, cwd=self.folder)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def clock(self, *arguments: str) -> Any:
        """What `again clock` tells as JSON."""
        return json.loads(self.told("clock", *arguments, "--json"))

    def simulator(self, path: str, document: object = None) -> Any:
        """Look at, or set, something on the simulator's own side."""
        body = None if document is None else json.dumps(document).encode()
        with urlopen(Request(f"http://127.0.0.1:{self.port}/_simulator/{path}", body), timeout=10) as answer:
            return json.load(answer)

    def paid(self) -> list[str]:
        """Who has paid, in order, by the simulator's ledger."""
        return [movement["customer_uid"] for movement in self.simulator("ledger")["movements"]]


@contextmanager
def running_up(settings: Mapping[str, str] | None = None) -> Iterator[Up]:
    """`again up` in a fresh folder, stopped at the end; PostgreSQL's own user may walk to the folder."""
    with tempfile.TemporaryDirectory(prefix="again-up-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        running = Up(Path(name), settings or {})
        try:
            running.wait()
            yield running
        finally:
            running.stop()
