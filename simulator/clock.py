"""The simulator's clock: real time, until somebody sets it; then it runs on from there."""

import time
from pathlib import Path


class BadClock(ValueError):
    """The clock cannot be set here."""


class Clock:
    """Unix seconds, moved by an offset.

    With a file, the offset is what the file holds, in seconds, and only the writer of the file moves the clock: a
    shop that reads the same file has the same time.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._offset = 0.0

    def now(self) -> float:
        """The simulated time."""
        return time.time() + (self._offset if self._file is None else float(self._file.read_text()))

    def set(self, at: float) -> None:
        """Make it this time now; BadClock when a file moves it."""
        if self._file is not None:
            raise BadClock(
                f"this clock is moved by the file {self._file}; under `again up`, `again clock` moves it"
            )
        self._offset = at - time.time()

    def reset(self) -> None:
        """Go back to real time; a clock with a file stays as it is."""
        self._offset = 0.0
