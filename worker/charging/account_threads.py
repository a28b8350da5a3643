"""Threads of an account, for work that calls its gateway: a call that hangs delays no other account.

Charges are sent from the event loop and need no thread; look-ups, refunds, reconciliation, readings of cards and
takeovers run here. A Celery thread only begins them.
"""

import logging
import threading
from functools import partial
from typing import Protocol

from worker.clock import elapsed, wait_until
from worker.runtime import stop_signal
from worker.runtime.background import Part, Pool, Work
from worker.store import failures
from worker.store.failures import DATABASE_ERRORS

log = logging.getLogger("again.account_threads")
PLACES = 8  # of an account under way in one process: some 25 a second at a gateway that answers in 0.3 s
WAITING = 64  # of an account that wait for a place: about what the places take until the next dispatch
WEBHOOK_PLACES = 4  # for look-ups that webhooks cause: 5 a second that take 0.8 s each
WEBHOOKS_WAITING = 20  # twice as many as come in the 2 s that each waits at most
CHORE_PLACES = 4  # for refunds, and for the reconciler, the readings of cards and the takeovers together


def nothing() -> None:
    """Do nothing."""


class Begin(Protocol):
    """How work of an account is begun; see `AccountThreads.begin`."""

    def __call__(self, account: str, name: str, work: Work, if_stopped: Work = ..., /) -> bool:
        """Begin it, unless work of this name has not ended; False when there is no place for it."""


def at_once(_account: str, _name: str, work: Work, _if_stopped: Work = nothing, /) -> bool:
    """Do the work in this thread."""
    work()
    return True


class AccountThreads:
    """Work at the gateways in one process, so much of each account at a time. For any thread to use.

    Work that waits here is not claimed: the database has it as due, and a process that ends leaves it so.
    """

    def __init__(self, places: int = PLACES, waiting: int = WAITING, *, repeats: bool = False) -> None:
        """With `repeats`, work that is begun while work of its name has not ended runs after that."""
        self._repeats = repeats
        self._again: set[tuple[int, str]] = set()
        self._places = places
        self._most = places + waiting
        self._pools: dict[str, Pool] = {}
        self._begun: dict[str, dict[str, Work]] = {}  # by account and name: what to do if a stop comes first
        self._lock = threading.Lock()

    def begin(self, account: str, name: str, work: Work, if_stopped: Work = nothing, /) -> bool:
        """Do the work when a place of its account is free; once, when work of this name has not ended.

        False, and nothing is done, when too much of the account waits, or the process was told to stop.
        `if_stopped` is called when the process ends before the work has.
        """
        with self._lock:
            begun = self._begun.setdefault(account, {})
            if name in begun:
                if self._repeats:
                    self._again.add((id(begun), name))
                return True
            if len(begun) >= self._most or stop_signal.is_told():
                return False
            begun[name] = if_stopped
            pool = self._pools.get(account)
            if pool is None:
                pool = self._pools[account] = Pool(Part.ACCOUNTS, self._places)
        pool.execute(partial(self._carry_out, begun, name, work))
        return True

    def is_idle(self) -> bool:
        """Whether all work that was begun has ended."""
        with self._lock:
            return not any(self._begun.values())

    def finish(self, patience: float) -> None:
        """After a stop signal: wait so many seconds for the work under way, and begin no other.

        Then, for at most as long, make due what has not ended.
        """
        wait_until(self.is_idle, patience)
        with self._lock:
            left = [if_stopped for begun in self._begun.values() for if_stopped in begun.values()]
        until = elapsed() + patience
        for if_stopped in left:
            try:
                if_stopped()
            except DATABASE_ERRORS as error:
                failures.outage.failed(f"work at a gateway is not given back at once: {failures.summary(error)}")
                return  # the others would fail as well, each after its time-out
            if elapsed() > until:
                return

    def _carry_out(self, begun: dict[str, Work], name: str, work: Work) -> None:
        repeats = True
        while repeats:
            self._work(name, begun[name] if stop_signal.is_told() else work)
            with self._lock:
                repeats = (id(begun), name) in self._again
                self._again.discard((id(begun), name))
                if not repeats:
                    del begun[name]

    def _work(self, name: str, work: Work) -> None:
        try:
            work()
        except Exception as error:  # the end of a task: it is logged, and the account's next one runs
            if failures.is_transient(error):
                failures.outage.failed(f"{name} of an account failed, and is still due: {failures.summary(error)}")
            else:
                log.exception("%s of an account failed", name)
