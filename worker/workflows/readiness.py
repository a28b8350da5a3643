"""Readiness: whether this very process may send charges, and can. One that does not takes no messages of charges.

A worker that takes messages and sends nothing is faster than any other, and would take most of them: each of those
charges would wait until it is queued again.
"""

import logging
import threading
from collections.abc import Mapping

from schedules.outcomes import NotSent, Outcome
from worker import stopping
from worker.clock import elapsed
from worker.gateway.port import did_not_reach
from worker.store import switches
from worker.store.failures import DATABASE_ERRORS, summary
from worker.workflows.services import Services

log = logging.getLogger("again.readiness")
EVERY = 1.0  # seconds between two looks
NO_ANSWERS = 2  # looks in a row that the database does not answer
IN_VAIN = 10  # charges in a row that could not leave from here
REST, MOST_REST = 10.0, 30.0  # seconds until the next few are tried after that; twice as long each time


class Readiness:
    """What keeps this process from sending charges. For any thread to use."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lock = threading.Lock()
        self._no_answers = 0
        self._in_vain = 0
        self._rests_until = 0.0  # by `elapsed`
        self._rest_for = REST
        self._said: Mapping[str, str] = {}  # by account
        self.obstacle: str | None = None  # why it takes no messages of charges; None when it does

    def use(self, services: Services) -> None:
        """Look from now on at the accounts of these services."""
        self._services = services

    def watch(self) -> None:
        """Look repeatedly until the process receives a stop signal."""
        while not stopping.wait(EVERY):
            self.look()

    def look(self) -> None:
        """Look whether it may send, and can; what has changed is logged."""
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
        elif elapsed() >= self._rests_until:
            self._become(None)

    def came(self, outcome: Outcome) -> None:
        """Record what came of a call."""
        if isinstance(outcome, NotSent) and did_not_reach(outcome):
            self.in_vain(outcome.reason)
        else:
            self._in_vain, self._rest_for = 0, REST

    def in_vain(self, why: str) -> None:
        """Record that a charge could not leave, for a reason that lies here or on the way to the gateway."""
        with self._lock:
            self._in_vain += 1
            if self._in_vain < IN_VAIN or elapsed() < self._rests_until:
                return
            level = logging.ERROR if self._rest_for == REST else logging.INFO  # said when it first rested
            self._rests_until = elapsed() + self._rest_for
            self._rest_for = min(MOST_REST, 2 * self._rest_for)
        self._become(f"{IN_VAIN} charges in a row could not leave from here, the last one because of {why}", level)

    def _unfit_accounts(self) -> dict[str, str]:
        services = self._services
        with services.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
            permissions = {account: switches.permission(db, account) for account in services.account_names}
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
                log.error("this worker gives back the charges of account %s: %s", account, why)
        self._said = unfit
