"""When a process that ended is started again, and after how many ends it is not."""

import signal
from collections import deque
from collections.abc import Callable

from worker.clock import elapsed

WAITS = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds before the first, second, … start within WITHIN
WITHIN = 120.0  # seconds; after a longer run the count starts again from zero


class Restarts:
    """Counts the ends of one process."""

    def __init__(self, now: Callable[[], float] = elapsed) -> None:
        self._now = now
        self._ends: deque[float] = deque()

    def ended(self) -> float | None:
        """Record an end; return the seconds before the next start, or None after too many ends."""
        now = self._now()
        while self._ends and self._ends[0] < now - WITHIN:
            self._ends.popleft()
        self._ends.append(now)
        return WAITS[len(self._ends) - 1] if len(self._ends) <= len(WAITS) else None

    @property
    def many(self) -> int:
        """How often it has ended recently."""
        return len(self._ends)


def how(status: int) -> str:
    """How a process ended, as text."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
