"""How long this process's pre-send checks take, and how far ahead and how long they count because of it.

A check takes milliseconds where the database is near, and nothing here changes anything then. Where it takes
longer, slots are requested earlier and a check counts for longer, so that a slow database means fewer calls, and
never none.
"""

import logging
import math
import threading
from collections import deque

from schedules.operations.health import SLOW_CHECK
from worker.clock import elapsed

log = logging.getLogger("again.check_times")
USUAL = 0.03  # seconds that a check may take without any change
LASTS = 0.15  # seconds that a check counts for after it began, where it takes no longer than usual
MOST_LASTS = 5.0  # seconds that a check ever counts for
RECENT = 10  # checks that are remembered
FORGOTTEN_AFTER = 30.0  # seconds
SHARE = 0.8  # of the recent checks that were not slower than `takes`


class CheckTimes:
    """The durations of the recent checks of one process. For any thread to use."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, float]] = deque(maxlen=RECENT)  # when it ended, and its seconds
        self._lock = threading.Lock()
        self._is_slow = False

    def add(self, seconds: float) -> None:
        """Record that a check, with the slots that it took, lasted so long; log when that becomes slow or fast."""
        with self._lock:
            self._recent.append((elapsed(), seconds))
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
        """Seconds within which most of the recent checks were done; 0 when there were none."""
        now = elapsed()
        with self._lock:
            recent = sorted(seconds for at, seconds in self._recent if now - at <= FORGOTTEN_AFTER)
        return recent[math.ceil(SHARE * len(recent)) - 1] if recent else 0.0

    @property
    def last_at(self) -> float:
        """When the newest check ended, by `elapsed`; 0 when there was none."""
        with self._lock:
            return self._recent[-1][0] if self._recent else 0.0

    @property
    def is_slow(self) -> bool:
        """Whether checks were reported as slow, and not yet as fast again."""
        return self._is_slow

    @property
    def extra(self) -> float:
        """Seconds that a check takes beyond the usual; at most as many as it may last."""
        return min(MOST_LASTS, max(0.0, self.takes - USUAL))

    @property
    def lasts(self) -> float:
        """Seconds after its beginning for which a check counts: a call that leaves later needs a new one."""
        return min(MOST_LASTS, LASTS + 2 * self.extra)
