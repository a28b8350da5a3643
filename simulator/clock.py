"""The simulator's clock: real time, until somebody sets it; then it runs on from there."""

import time


class Clock:
    """Unix seconds, moved by an offset."""

    def __init__(self) -> None:
        self._offset = 0.0

    def now(self) -> float:
        """The simulated time."""
        return time.time() + self._offset

    def set(self, at: float) -> None:
        """Make it this time now."""
        self._offset = at - time.time()

    def advance(self, seconds: float) -> None:
        """Move on by so many seconds."""
        self._offset += seconds

    def reset(self) -> None:
        """Go back to real time."""
        self._offset = 0.0
