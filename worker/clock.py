"""The one place that reads a clock; everything else is given the time."""

import math
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from schedules.errors import Code, FixedCode


class Clock(Protocol):
    """Tells the time that decisions are made by."""

    def now(self) -> datetime:
        """The time, aware, in UTC."""

    def real(self) -> datetime:
        """The time by this machine's own clock, however it was moved for us: for what other machines compare."""

    def ahead_of(self, other: datetime) -> timedelta:
        """How far this machine's own clock, however it was moved for us, is ahead of another machine's."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """The time, aware, in UTC."""
        return datetime.now(UTC)

    def real(self) -> datetime:
        """The time, aware, in UTC."""
        return datetime.now(UTC)

    def ahead_of(self, other: datetime) -> timedelta:
        """How far this machine's clock is ahead of another's."""
        return datetime.now(UTC) - other


class BadClockFile(FixedCode, code=Code.FAILED):
    """The file that moves the clock is not there, or holds no number: what time it is cannot be told."""


class MovedClock:
    """The machine's clock moved by the seconds that a file holds, so that many processes move together."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def now(self) -> datetime:
        """The time, aware, in UTC; BadClockFile without the file: real time would be a step back."""
        return datetime.now(UTC) + self.moved_by()

    def moved_by(self) -> timedelta:
        """How far ahead of real time the file moves it; BadClockFile when it is not there or holds no number."""
        try:
            return timedelta(seconds=float(self.path.read_text()))
        except (OSError, ValueError, OverflowError) as error:
            raise BadClockFile(
                f"the file {self.path} moves this clock and cannot be read ({error}); write by how many seconds "
                "the clock was moved into a new file beside it, and rename that"
            ) from None

    def real(self) -> datetime:
        """The machine's time, aware, in UTC."""
        return datetime.now(UTC)

    def ahead_of(self, other: datetime) -> timedelta:
        """How far the machine's own clock is ahead of another's; what it is moved by does not count."""
        return datetime.now(UTC) - other

    def move_to(self, at: datetime) -> None:
        """Make it `at` now, for every process that reads the file."""
        self.move_by((at - datetime.now(UTC)).total_seconds())

    def move_by(self, offset: float) -> None:
        """Make it so many seconds ahead of real time; no reader ever sees a file without a number."""
        fresh = self.path.with_suffix(".new")
        with fresh.open("w", encoding="ascii") as file:
            file.write(repr(offset))
            file.flush()
            os.fsync(file.fileno())  # an empty file after a crash of the machine would be a clock that went back
        fresh.replace(self.path)


class FixedClock:
    """A clock that stands until it is set: for tests, and for asking what a day would bring."""

    def __init__(self, at: datetime, ahead: timedelta = timedelta(0)) -> None:
        self.at = at
        self.ahead = ahead

    def now(self) -> datetime:
        """The time that was set."""
        return self.at

    def real(self) -> datetime:
        """The time that was set."""
        return self.at

    def ahead_of(self, other: datetime) -> timedelta:
        """Return the offset given at construction; a fixed clock does not compare itself with another."""
        del other
        return self.ahead


def wait(seconds: float) -> None:
    """Let real time pass."""
    time.sleep(seconds)


DRIFT = 1e-4  # seconds a second that two clocks may go apart
SET = 0.05  # seconds outside of question and answer that mean that a clock was set

# Runs on while the machine is suspended, where there is such a clock: a call that was begun before is late then.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def elapsed() -> float:
    """Seconds of a monotonic clock that runs on during a suspend, for time-outs and intervals."""
    return time.clock_gettime(_CLOCK)


class OtherClock:
    """Another machine's clock, as far as it is known from what it said: the quickest answer tells most.

    An answer that took ten milliseconds leaves its time in doubt by as much; a quick one of a minute ago does not.
    """

    def __init__(self) -> None:
        self._ahead = 0.0  # seconds that it shows more than `elapsed`
        self._doubt = math.inf
        self._at = 0.0
        self._lock = threading.Lock()

    def here(self, asked_at: float, answered_at: float, theirs: float) -> float:
        """The moment, by `elapsed`, at which it showed this, which it did between these two."""
        doubt = (answered_at - asked_at) / 2
        with self._lock:
            if doubt <= self._doubt + DRIFT * (answered_at - self._at):
                self._ahead, self._doubt, self._at = theirs - (asked_at + answered_at) / 2, doubt, answered_at
            guess = theirs - self._ahead
        # It was set, or this machine slept: what was known before is wrong.
        if not asked_at - SET <= guess <= answered_at + SET:
            with self._lock:
                self._doubt = math.inf
            return (asked_at + answered_at) / 2
        return guess


def wait_until(true: Callable[[], bool], seconds: float, every: float = 0.05) -> bool:
    """Look again and again until it is true, for at most so many seconds of real time."""
    deadline = elapsed() + seconds
    while not true():
        if elapsed() > deadline:
            return False
        wait(every)
    return True
