"""The simulator's clock: real time until it is set, then it runs on from there."""

import time
from pathlib import Path


class BadClock(ValueError):
    """The clock cannot be set."""


class Clock:
    """Real time plus an offset, in Unix seconds.

    With a file, the file contains the offset in seconds, and only its writer moves the clock: a shop that reads
    the same file has the same time.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._offset = 0.0

    def now(self) -> float:
        """The simulated time."""
        return time.time() + (self._offset if self._file is None else float(self._file.read_text()))

    def set(self, at: float) -> None:
        """Set the time; raises BadClock when a file moves the clock."""
        if self._file is not None:
            raise BadClock(
                f"this clock is moved by the file {self._file}; under `again up`, `again clock` moves it"
            )
        self._offset = at - time.time()

    def reset(self) -> None:
        """Return to real time; no effect on a clock with a file."""
        self._offset = 0.0
