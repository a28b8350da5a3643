"""A server under a supervisor: a small process that stops the server when we go away, however we go."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.embedded.errors import EmbeddedError, ServerEnded

SUPERVISOR = Path(__file__).with_name("supervisor.py")
START_SECONDS = 20.0
STOP_SECONDS = 70.0  # longer than the supervisor takes with its sternest signal
LAST_LINES = 5


@dataclass(frozen=True, slots=True)
class Owner:
    """The user that a server runs as; None is the user of this process."""

    uid: int | None = None
    gid: int | None = None

    @property
    def groups(self) -> list[int] | None:
        """The further groups that remain: none for another user, ours as they are."""
        return None if self.uid is None else []


@dataclass(frozen=True, slots=True)
class Launch:
    """What to run, as whom, where its words go, and the signals that stop it, the gentlest first."""

    command: Sequence[str | Path]
    stop_signals: Sequence[signal.Signals]
    log: Path
    owner: Owner = Owner()
    lock: int | None = None  # a descriptor that the supervisor holds open while the server runs


def bare_environment() -> dict[str, str]:
    """What a server gets of our environment: no settings of ours, which hold secrets, and no PG… variables."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}
    # As pg_ctl does: after a restart of a container our pid may be the one in a stale postmaster.pid.
    return kept | {"LC_ALL": "C", "PG_GRANDPARENT_PID": str(os.getpid())}


class SupervisedServer:
    """One running server. The supervisor ends it when the pipe to us closes: on stop(), or when we are killed."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        read_end, self._pipe = os.pipe()
        log = os.open(launch.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        with contextlib.ExitStack() as done, contextlib.ExitStack() as undo:
            done.callback(os.close, read_end)
            done.callback(os.close, log)
            undo.callback(os.close, self._pipe)
            self._supervisor = self._start_supervisor(read_end, log)
            undo.pop_all()
        with self._supervisor.stdout or open(os.devnull, "rb") as told:
            self.pid = int(told.readline() or 0)  # 0: the program could not be run at all; the log says why

    def _start_supervisor(self, pipe: int, log: int) -> "subprocess.Popen[bytes]":
        launch, owner = self._launch, self._launch.owner
        numbers = ",".join(str(number.value) for number in launch.stop_signals)
        uid, gid = ("-1" if number is None else str(number) for number in (owner.uid, owner.gid))
        return subprocess.Popen(
            [sys.executable, "-I", SUPERVISOR, str(pipe), uid, gid, numbers, *launch.command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, cwd="/", env=bare_environment(),
            pass_fds=[pipe] if launch.lock is None else [pipe, launch.lock],
            start_new_session=True,  # Ctrl-C in the terminal reaches us alone
        )  # fmt: skip

    @property
    def supervisor_pid(self) -> int:
        """The supervisor's own process."""
        return self._supervisor.pid

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Look until the server is ready; ServerEnded with the end of its log when it ends before."""
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if self.has_ended():
                self.stop()
                raise ServerEnded(f"the server ended before it answered; {self._last_words()}")
            if time.monotonic() > deadline:
                self.stop()
                raise EmbeddedError(
                    f"the server did not answer within {START_SECONDS:.0f} s; {self._last_words()}"
                )
            time.sleep(0.01)

    def has_ended(self) -> bool:
        """Whether the server's supervisor is gone, and with it the server."""
        return self._supervisor.poll() is not None

    def stop(self) -> None:
        """Stop the server in good order, and wait until it is gone; harmless when it is gone already."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
        try:
            killed = self._supervisor.wait(STOP_SECONDS) < 0
        except subprocess.TimeoutExpired:
            self._supervisor.kill()
            self._supervisor.wait()
            killed = True
        if killed and self.pid:
            self._stop_without_supervisor()

    def crash(self, with_signal: signal.Signals) -> None:
        """Send the server a signal that it does not survive in good order, and wait until it is gone."""
        if self.pid and not self.has_ended():
            os.kill(self.pid, with_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._supervisor.wait(START_SECONDS)
        self.stop()

    def _stop_without_supervisor(self) -> None:
        for number in (*self._launch.stop_signals, signal.SIGKILL):
            deadline = time.monotonic() + START_SECONDS
            try:
                os.kill(self.pid, number)
                while time.monotonic() < deadline:
                    time.sleep(0.02)
                    os.kill(self.pid, 0)
            except ProcessLookupError:
                return
        raise EmbeddedError(f"process {self.pid} does not end, not even on SIGKILL; see {self._launch.log}")

    def _last_words(self) -> str:
        lines = self._launch.log.read_text(errors="replace").strip().splitlines()
        return f"{self._launch.log} ends: {' | '.join(lines[-LAST_LINES:]) or 'nothing'}"
