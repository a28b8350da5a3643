"""Readiness: whether this very process may send charges, and can. One that does not takes no messages of charges.

A worker that takes messages and sends nothing is faster than any other, and would take most of them: each of those
charges would wait until it is queued again.
"""

import logging
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from schedules.charging.outcomes import NotSent, Outcome
from worker.clock import elapsed
from worker.gateway.port import did_not_reach
from worker.runtime import stop_signal
from worker.services import Services
from worker.store.charging import kill_switch
from worker.store.failures import DATABASE_ERRORS, summary

log = logging.getLogger("again.readiness")
GIVES_BACK = "this worker gives back the charges of account %s: %s"
EVERY = 1.0  # seconds between two looks
NO_ANSWERS = 2  # looks in a row that the database does not answer
IN_VAIN = 10  # charges of an account, or groups of them, in a row that could not leave from here
REST, MOST_REST = 10.0, 30.0  # seconds until the next few are tried after that; twice as long each time
AT_WORK = (
    60.0  # seconds for which an account counts as one with work after something came of a charge; above a rest
)


@dataclass(slots=True)
class _Tries:
    """The recent results of one account's charges."""

    in_vain: int = 0
    at: float = 0.0  # when the last result came, by `elapsed`
    rests_until: float = 0.0
    rest_for: float = REST
    why: str = ""
    # The error of a batch is recorded once for each of its charges, by several threads.
    errors: deque[Exception] = field(default_factory=lambda: deque(maxlen=8))


class Readiness:
    """The reasons that keep this process from sending charges. Thread-safe."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lock = threading.Lock()
        self._no_answers = 0
        self._tries: dict[str, _Tries] = {}  # by account
        self._said: Mapping[str, str] = {}  # by account
        self.obstacle: str | None = None  # why it takes no messages of charges; None when it does

    def use(self, services: Services) -> None:
        """Check the accounts of these services from now on."""
        self._services = services

    def watch(self) -> None:
        """Check repeatedly until the process receives a stop signal."""
        while not stop_signal.wait(EVERY):
            self.look()

    def look(self) -> None:
        """Check whether it may send, and can; log each change."""
        try:
            unfit = self._unfit_accounts()
        except DATABASE_ERRORS as error:
            self._no_answers += 1
            if self._no_answers >= NO_ANSWERS:
                self._become(f"the database does not answer: {summary(error)}")
            return
        self._no_answers = 0
        is_unfit = len(unfit) == len(self._services.account_names)
        self._say_accounts({} if is_unfit else unfit)
        if is_unfit:
            self._become(next(iter(unfit.values())))
        else:
            self._become(self._why_all_rest())

    def rests(self, account: str) -> bool:
        """Whether the charges of an account are given back for a while, because none of them could leave."""
        with self._lock:
            tries = self._tries.get(account)
            return tries is not None and elapsed() < tries.rests_until

    def came(self, account: str, outcome: Outcome) -> None:
        """Record the result of a call."""
        if isinstance(outcome, NotSent) and did_not_reach(outcome):
            self.in_vain(account, outcome.reason)
        else:
            with self._lock:
                self._tries[account] = _Tries(at=elapsed())

    def in_vain(self, account: str, why: str, error: Exception | None = None) -> None:
        """Record that a charge could not leave, for a reason that lies here or on the way to the gateway.

        The error of a batch counts once, although each of its charges records it.
        """
        with self._lock:
            tries = self._tries.setdefault(account, _Tries())
            if any(error is known for known in tries.errors):
                return
            if error is not None:
                tries.errors.append(error)
            tries.at = now = elapsed()
            tries.in_vain += 1
            if tries.in_vain < IN_VAIN or now < tries.rests_until:
                return
            level = logging.ERROR if tries.rest_for == REST else logging.INFO  # an error only for the first rest
            tries.rests_until = now + tries.rest_for
            tries.rest_for = min(MOST_REST, 2 * tries.rest_for)
            tries.why = f"{IN_VAIN} charges in a row could not leave from here, the last one because of {why}"
        if (all_rest := self._why_all_rest()) is not None:
            self._become(all_rest, level)
        else:
            log.log(level, GIVES_BACK, account, tries.why)

    def _why_all_rest(self) -> str | None:
        """Why no account's charges can be sent from here; None when those of one account with work can."""
        now = elapsed()
        with self._lock:
            at_work = [tries for tries in self._tries.values() if now - tries.at < AT_WORK]
            if not at_work or any(now >= tries.rests_until for tries in at_work):
                return None
            return at_work[0].why

    def _unfit_accounts(self) -> dict[str, str]:
        services = self._services
        with services.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
            permissions = {account: kill_switch.permission(db, account) for account in services.account_names}
        unfit = {
            account: permission.unfit(services.identity, services.clock)
            for account, permission in permissions.items()
        }
        return {account: why for account, why in unfit.items() if why is not None}

    def _become(self, obstacle: str | None, level: int = logging.ERROR) -> None:
        with self._lock:
            before, self.obstacle = self.obstacle, obstacle
        if obstacle is not None and before is None:
            log.log(level, "this worker takes no charges until it may and can send them: %s", obstacle)
        elif obstacle is None and before is not None:
            log.warning("this worker takes charges again")

    def _say_accounts(self, unfit: Mapping[str, str]) -> None:
        for account, why in unfit.items():
            if account not in self._said:
                log.error(GIVES_BACK, account, why)
        self._said = unfit
