"""Attempts that were certainly not sent, kept in memory until the database takes that they are given back.

They are kept in memory: a process that ends forgets them, and their leases run out.
"""

import logging
import threading
from collections.abc import Callable

from worker.clock import wait
from worker.runtime import background
from worker.runtime.background import Part
from worker.store.failures import is_transient

log = logging.getLogger("again.unsent_claims")
EVERY = 2.0  # seconds between two rounds of tries


class UnsentClaims:
    """Writes that are repeated until they succeed. For any thread to use."""

    def __init__(self, every: float = EVERY) -> None:
        self._every = every
        self._unwritten: dict[str, Callable[[], object]] = {}
        self._lock = threading.Lock()
        self._serves = False

    def start(self) -> None:
        """Start its thread, if it does not run yet."""
        with self._lock:
            if not self._serves:
                background.start(Part.GIVING_BACK, self._serve)
                self._serves = True

    def remember(self, merchant_uid: str, write: Callable[[], object]) -> None:
        """Repeat a write until the database takes it."""
        self.start()
        with self._lock:
            self._unwritten[merchant_uid] = write

    @property
    def unwritten(self) -> int:
        """How many attempts are remembered."""
        return len(self._unwritten)

    def _serve(self) -> None:
        while True:
            wait(self._every)
            with self._lock:
                waiting = list(self._unwritten.items())
            for uid, write in waiting:
                if not self._is_over(uid, write):
                    break  # the others would fail as well
                with self._lock:
                    self._unwritten.pop(uid, None)

    def _is_over(self, uid: str, write: Callable[[], object]) -> bool:
        try:
            write()
        except Exception as error:  # the end of one write's task: its lease expires, the others go on
            if is_transient(error):
                return False
            log.exception("%s, which was not sent, cannot be given back; it is resolved as unknown", uid)
        else:
            log.warning("%s, which was not sent, is given back", uid)
        return True
