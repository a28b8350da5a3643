"""Log an outage with one line at its start, one each minute while it lasts, and one at its end.

A failure that repeats each second, or for each charge, would otherwise fill the log with the same line.
"""

import logging
import threading
from collections.abc import Callable

from worker.clock import elapsed

REMINDED_AFTER = 60.0  # seconds between two lines about one outage
CALM = 10.0  # seconds without a failure before a success ends the outage: in a partial outage some calls succeed


class Outage:
    """One thing that may fail many times for one reason. Thread-safe."""

    def __init__(self, log: logging.Logger, what: str, now: Callable[[], float] = elapsed) -> None:
        self._log, self.what, self._now = log, what, now
        self._lock = threading.Lock()
        self._began_at: float | None = None
        self._failed_at = self._logged_at = 0.0
        self._failures = 0

    def lasts(self) -> float | None:
        """Return for how many seconds it has lasted; None without one, or without a failure in the last minute.

        Not each part that records failures records successes too.
        """
        now = self._now()
        with self._lock:
            if self._began_at is None or now - self._failed_at >= REMINDED_AFTER:
                return None
            return now - self._began_at

    def failed(self, words: str) -> None:
        """Record a failure."""
        now = self._now()
        with self._lock:
            begins = self._began_at is None
            if self._began_at is None:
                self._began_at, self._failures = now, 0
            self._failures += 1
            self._failed_at = now
            is_logged = begins or now - self._logged_at >= REMINDED_AFTER
            if is_logged:
                self._logged_at = now
            lasts, failures = now - self._began_at, self._failures
        if begins:
            self._log.error("%s fails: %s; more failures are counted, and logged once a minute", self.what, words)
        elif is_logged:
            self._log.error("%s has failed %d times within %.0f s: %s", self.what, failures, lasts, words)

    def succeeded(self) -> None:
        """Record a success."""
        now = self._now()
        with self._lock:
            if self._began_at is None or now - self._failed_at < CALM:
                return
            lasted, failures = now - self._began_at, self._failures
            self._began_at = None
        self._log.warning("%s works again: it failed %d times within %.0f s", self.what, failures, lasted)


broker = Outage(logging.getLogger("again.brokers"), "the broker")  # of this process
