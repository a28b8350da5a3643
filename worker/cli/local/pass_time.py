"""Time that passes for the shop and its simulator: to a moment, and not beyond it before its work is done."""

from collections.abc import Callable
from datetime import datetime

from schedules.errors import Code, FixedCode
from worker.cli.terminal.output import instant
from worker.clock import MovedClock, elapsed, wait
from worker.services import Services
from worker.store.charging import tallies

QUIET_LOOKS = 2  # that many looks in a row that find nothing to do
LOOK_EVERY = 0.03  # seconds
STUCK_SECONDS = 60.0  # real time without any change while there is work: something is broken
BEYOND_A_CALL = 30.0  # seconds: a call that hangs changes nothing until its deadline


class Stuck(FixedCode, code=Code.FAILED):
    """There is work that nobody does."""


class Passing:
    """The clock of shop and simulator, which read the same file; `check` raises when a process has ended."""

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
        """Make it this time now, for every process of the shop and for the simulator."""
        self._clock.move_to(at)
        self._moved = "was moved and shows"

    def wait_until_quiet(self, tell: Callable[[str], object] = lambda _: None) -> None:
        """Wait until all that is due by now is done; Stuck when nothing changes for `patience` seconds."""
        quiet, before, changed_at = 0, None, elapsed()
        while quiet < QUIET_LOOKS:
            wait(LOOK_EVERY)
            work = self._work_left()
            quiet = quiet + 1 if not work else 0
            if work != before:
                before, changed_at = work, elapsed()
                tell(_words(work))
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
