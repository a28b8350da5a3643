"""A file in which a process records that it works, for `again alive`: the health check of one process.

The check uses no database and no broker. An outage of either makes no process unhealthy, because restarting all
processes would not end it. `again status --healthy` checks the whole installation.
"""

import fcntl
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from schedules.errors import Code, FixedCode
from schedules.operations.alive import LONGEST_OBSTACLE, AliveRecord, fault, state
from worker.clock import elapsed, wait, wait_until
from worker.runtime import background
from worker.runtime.background import Part
from worker.runtime.outages import Outage

EVERY = 5.0  # seconds between two records
LENGTH = 4096  # bytes of every record, padded: a shorter one overwrites a longer one completely
LOCK_SECONDS = 2.0  # waits for a concurrent check, or for a process that is ending
READS = 5  # attempts to read a record that is being written
_outage = Outage(logging.getLogger("again.alive"), "the file of --alive-file")


class NotAlive(FixedCode, code=Code.FAILED):
    """The process does not work, or does not run; the message says which."""


class NoRecord(FixedCode, code=Code.NOT_FOUND):
    """There is no file at the path."""


class BadRecord(FixedCode, code=Code.INVALID):
    """The file is not a record, or cannot be read."""


class BadAliveFile(FixedCode, code=Code.HELD):
    """The record cannot be written to this path."""


class _Loop:
    """State of the main loop of this process. Thread-safe."""

    def __init__(self) -> None:
        self.began_at = elapsed()
        self.waits_for: str | None = None
        self.idle = 0.0


_loop = _Loop()


def round_begins() -> None:
    """Record that the main loop begins a round."""
    _loop.began_at = elapsed()


def note_idle(seconds: float) -> None:
    """Record for how many seconds this process has made no progress although work waits."""
    _loop.idle = seconds


@contextmanager
def waiting_for(what: str) -> Iterator[None]:
    """The main loop waits, without a limit, for something outside of the process."""
    _loop.waits_for = what
    try:
        yield
    finally:
        round_begins()
        _loop.waits_for = None


def begin(file: Path | None, kind: str, obstacle: Callable[[], str | None] = lambda: None) -> None:
    """Record regularly in this file from a thread; without a file, do nothing.

    The file stays locked while the process runs. Raises BadAliveFile when another process has locked it, or it
    cannot be written.
    """
    if file is None:
        return
    descriptor = _open(file)
    round_begins()

    def write() -> None:
        its = current(kind, obstacle())
        try:
            os.pwrite(descriptor, json.dumps(asdict(its)).encode().ljust(LENGTH), 0)
        except OSError as error:
            _outage.failed(str(error))
        else:
            _outage.succeeded()

    def go_on() -> None:
        while True:
            wait(EVERY)
            write()

    write()
    background.start(Part.ALIVE, go_on)


def check(file: Path) -> str:
    """Describe in a sentence the state of the process that records in this file.

    Raises NotAlive when the process does not work, NoRecord when there is no file, BadRecord when the file is no
    record.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # a pipe: no wait
    except FileNotFoundError:
        raise NoRecord(
            f"{file} does not exist: the process that was started with --alive-file {file} has not begun its work "
            "yet, or there is none; look at its log, start one, or give the path that a process was started with"
        ) from None
    except OSError as error:
        raise BadRecord(
            f"{file} cannot be read ({error.strerror}); give the path that the process was started with as "
            "--alive-file, and run the command as the same user"
        ) from None
    try:
        has_ended = _lock(descriptor, fcntl.LOCK_SH)
        record = _read(descriptor)
        if record is None and has_ended:
            raise BadRecord(
                f"{file} is no record of a process; give the path that the process was started with as "
                "--alive-file"
            )
        if record is None:
            raise NotAlive(f"a process has locked {file}, and its record cannot be written; free space at {file}")
        if has_ended:
            raise NotAlive(f"{record.name}, which recorded in {file}, has ended; start it again")
    finally:
        os.close(descriptor)
    now = elapsed()
    if (wrong := fault(record, now)) is not None:
        raise NotAlive(wrong)
    return state(record, now)


def current(kind: str, obstacle: str | None) -> AliveRecord:
    """The state of this process now."""
    return AliveRecord(
        kind=kind,
        pid=os.getpid(),
        written_at=elapsed(),
        looped_at=_loop.began_at,
        waits_for=_loop.waits_for,
        idle=_loop.idle,
        obstacle=None if obstacle is None else obstacle[:LONGEST_OBSTACLE],
    )


def _open(file: Path) -> int:
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise BadAliveFile(f"--alive-file {str(file)!r} cannot be written: {error.strerror}") from None
    if not wait_until(lambda: _lock(descriptor, fcntl.LOCK_EX), LOCK_SECONDS):
        os.close(descriptor)
        raise BadAliveFile(
            f"--alive-file {str(file)!r} is in use by another process; give each process a file of its own"
        )
    return descriptor


def _lock(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(descriptor: int) -> AliveRecord | None:
    for _ in range(READS):
        try:
            return AliveRecord(**json.loads(os.pread(descriptor, LENGTH, 0)))
        except (ValueError, TypeError, OSError):  # OSError: a folder or a pipe
            wait(0.05)
    return None
