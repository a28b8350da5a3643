"""Move the clock of a shop and its simulator, and wait until the work that is due is done."""

from collections.abc import Callable
from datetime import datetime

from schedules.errors import Code, FixedCode
from worker.cli.terminal.output import instant
from worker.clock import MovedClock, elapsed, wait
from worker.services import Services
from worker.store.charging import tallies

QUIET_LOOKS = 2  # consecutive checks without work
LOOK_EVERY = 0.03  # seconds
STUCK_SECONDS = 60.0  # seconds of real time without a change while work is left: an error
BEYOND_A_CALL = 30.0  # seconds beyond the deadline of a call that hangs


class Stuck(FixedCode, code=Code.FAILED):
    """Work is left, and no process does it."""


class Passing:
    """The clock file that shop and simulator share. `check` raises when a process has ended."""

    def __init__(
        self, services: Services, clock: MovedClock, check: Callable[[], None] = lambda: None, *,
        with_tellings: bool = False, patience: float | None = None,
    ) -> None:  # fmt: skip
        self._services, self._clock, self._check, self._with_tellings = services, clock, check, with_tellings
        self._patience = (
            max(STUCK_SECONDS, services.settings.call_deadline + BEYOND_A_CALL) if patience is None else patience
        )
        self._moved = "was not moved and shows"

    def now(self) -> datetime:
        """The time of shop and simulator."""
        return self._clock.now()

    def move_to(self, at: datetime) -> None:
        """Set the time for every process of the shop and for the simulator."""
        self._clock.move_to(at)
        self._moved = "was moved and shows"

    def wait_until_quiet(self, on_progress: Callable[[str], object] = lambda _: None) -> None:
        """Wait until all due work is done; raises Stuck when nothing changes for `patience` seconds."""
        quiet, before, changed_at = 0, None, elapsed()
        while quiet < QUIET_LOOKS:
            wait(LOOK_EVERY)
            work = self._work_left()
            quiet = quiet + 1 if not work else 0
            if work != before:
                before, changed_at = work, elapsed()
                on_progress(_words(work))
            if elapsed() - changed_at > self._patience:
                raise Stuck(
                    f"nothing has changed for {self._patience:g} seconds though there is work ({_words(work)}); "
                    f"the clock {self._moved} {instant(self.now())}. `again status` shows what is wrong; fix it, "
                    "then `again clock DATE`"
                )
            self._check()

    def _work_left(self) -> dict[str, int]:
        with self._services.engine.begin() as db:
            now = self._clock.now()
            work = {name: count for name, count in tallies.work_left(db, now).items() if count}
            return work | (tallies.tellings_left(db, now) if self._with_tellings else {})


def _words(work: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in work.items())
