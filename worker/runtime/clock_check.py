"""How far the clock of this machine is ahead of the database's clock, by the last measurement."""

import logging
import threading
from datetime import datetime, timedelta

from schedules.operations.health import MOST_SKEW
from worker.clock import elapsed

log = logging.getLogger("again.clock_check")


class ClockCheck:
    """The last measurement of one process; logs when the clock becomes wrong or right. Thread-safe."""

    def __init__(self) -> None:
        self._ahead = timedelta(0)
        self._database_at: tuple[datetime, float] | None = None  # time of the database, and `elapsed` at that time
        self._is_wrong = False
        self._lock = threading.Lock()

    def judge(self, ahead: timedelta, database_now: datetime, asked_at: float) -> bool:
        """Record a measurement; return whether the clock is right.

        `ahead` is the difference to the clock of the database, which showed `database_now`. The query was sent at
        `asked_at`, by `elapsed`.
        """
        now = elapsed()
        # The database read its clock at an unknown time between query and answer.
        doubt = timedelta(seconds=now - asked_at) / 2
        with self._lock:
            self._ahead = ahead - doubt
            self._database_at = database_now, (asked_at + now) / 2
            before, self._is_wrong = self._is_wrong, abs(ahead - doubt) > MOST_SKEW + doubt
            wrong = self._is_wrong
        if wrong and not before:
            log.error(
                "this machine's clock is %+.0f s from the database's; set it right: until then this process "
                "opens, sends and asks for nothing",
                ahead.total_seconds(),
            )
        elif before and not wrong:
            log.warning("this machine's clock agrees with the database's again")
        return not wrong

    @property
    def ahead(self) -> timedelta:
        """How far the clock is ahead of the database; zero before the first measurement."""
        return self._ahead

    def ahead_at(self, now: datetime) -> timedelta:
        """How far a clock that shows `now` is ahead, also when it was set after the last measurement."""
        with self._lock:
            if self._database_at is None:
                return timedelta(0)
            database_now, at = self._database_at
        return now - database_now - timedelta(seconds=elapsed() - at)

    @property
    def is_wrong(self) -> bool:
        """Whether the clock was wrong in the last measurement."""
        return self._is_wrong
