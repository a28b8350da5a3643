"""How far this machine's clock is ahead of the database's, as it was last measured."""

import logging
import threading
from datetime import datetime, timedelta

from schedules.operations.health import MOST_SKEW
from worker.clock import elapsed

log = logging.getLogger("again.clock_check")


class ClockCheck:
    """The last measurement of one process, logged when the clock becomes wrong or right. For any thread to use."""

    def __init__(self) -> None:
        self._ahead = timedelta(0)
        self._database_at: tuple[datetime, float] | None = None  # the database's time, and `elapsed` then
        self._is_wrong = False
        self._lock = threading.Lock()

    def judge(self, ahead: timedelta, theirs: datetime, asked_at: float) -> bool:
        """Record how far the clock is ahead of the database's, which showed `theirs`; whether it is right.

        The question was asked at `asked_at`, by `elapsed`.
        """
        now = elapsed()
        # The database read its clock at some moment between question and answer.
        doubt = timedelta(seconds=now - asked_at) / 2
        with self._lock:
            self._ahead = ahead - doubt
            self._database_at = theirs, (asked_at + now) / 2
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
        """How far the clock is ahead; zero before the first measurement."""
        return self._ahead

    def ahead_at(self, now: datetime) -> timedelta:
        """How far a clock that shows `now` is ahead, though it was set since the last measurement."""
        with self._lock:
            if self._database_at is None:
                return timedelta(0)
            theirs, at = self._database_at
        return now - theirs - timedelta(seconds=elapsed() - at)

    @property
    def is_wrong(self) -> bool:
        """Whether the last measurement found it wrong."""
        return self._is_wrong
