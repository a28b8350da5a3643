"""Durations of the pre-send checks of this process, and the lead and validity that follow from them.

Near the database a check takes milliseconds, and the defaults hold. With a slow database, slots are requested
earlier and a check stays valid for longer, so that fewer calls are sent instead of none.
"""

import logging
import math
import threading
from collections import deque

from schedules.operations.health import SLOW_CHECK
from worker.clock import elapsed

log = logging.getLogger("again.check_times")
USUAL = 0.03  # seconds that a check may take before the defaults change
LASTS = 0.15  # seconds that a check is valid for, from its start, while checks take at most USUAL
MOST_LASTS = 5.0  # seconds; upper bound of the validity
RECENT = 10  # number of checks that are kept
FORGOTTEN_AFTER = 30.0  # seconds
SHARE = 0.8  # share of the recent checks that took at most `takes`


class CheckTimes:
    """Durations of the recent checks of one process. Thread-safe."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, float]] = deque(maxlen=RECENT)  # end by `elapsed`, and duration, s
        self._lock = threading.Lock()
        self._takes = 0.0  # what `takes` returns until `_takes_until`, by `elapsed`
        self._takes_until = math.inf
        self._is_slow = False

    def add(self, seconds: float) -> None:
        """Record the duration of a check with its slots, in seconds; log when checks become slow or fast again."""
        with self._lock:
            self._recent.append((elapsed(), seconds))
            self._update()
        takes = self.takes
        if not self._is_slow and takes >= SLOW_CHECK:
            self._is_slow = True
            words = (
                "slow database: a pre-send check takes %.2f s; calls leave on checks that are up to %.2f s old, "
                "and fewer may leave; see docs/how-to/scaling.md"
            )
            log.warning(words, takes, self.lasts)
        elif self._is_slow and takes < SLOW_CHECK / 2:
            self._is_slow = False
            log.warning("the database is fast again: a pre-send check takes %.0f ms", takes * 1000)

    @property
    def takes(self) -> float:
        """Seconds within which most of the recent checks were done; 0 without a recent check."""
        # Each charge reads it several times, and it changes only with a check.
        if elapsed() > self._takes_until:
            with self._lock:
                self._update()
        return self._takes

    @property
    def last_at(self) -> float:
        """When the newest check ended, by `elapsed`; 0 without one."""
        with self._lock:
            return self._recent[-1][0] if self._recent else 0.0

    @property
    def is_slow(self) -> bool:
        """Whether the database was reported as slow, and not as fast since."""
        return self._is_slow

    @property
    def extra(self) -> float:
        """Seconds that a check takes beyond USUAL, at most MOST_LASTS."""
        return min(MOST_LASTS, max(0.0, self.takes - USUAL))

    @property
    def lasts(self) -> float:
        """Seconds from its start for which a check is valid; a later call needs a new check."""
        return min(MOST_LASTS, LASTS + 2 * self.extra)

    def _update(self) -> None:
        """Find what `takes` returns, and until when; the lock is held."""
        now = elapsed()
        recent = [(at, seconds) for at, seconds in self._recent if now - at <= FORGOTTEN_AFTER]
        durations = sorted(seconds for _, seconds in recent)
        self._takes = durations[math.ceil(SHARE * len(durations)) - 1] if durations else 0.0
        self._takes_until = recent[0][0] + FORGOTTEN_AFTER if recent else math.inf
