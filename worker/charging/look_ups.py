"""Look-ups at the gateway: each account has threads of its own, so that one that hangs delays no other account."""

import logging
import threading
from functools import partial
from typing import Protocol

from worker.clock import elapsed, wait_until
from worker.runtime import stop_signal
from worker.runtime.background import Part, Pool, Work
from worker.store import failures
from worker.store.failures import DATABASE_ERRORS

log = logging.getLogger("again.look_ups")
PLACES = 8  # of an account under way in one process: some 25 a second at a gateway that answers in 0.3 s
WAITING = 64  # of an account that wait for a place: about what the places take until the next dispatch
WEBHOOK_PLACES = 4  # for look-ups that webhooks cause: 5 a second that take 0.8 s each
WEBHOOKS_WAITING = 20  # at 5 a second, each waits 2 s at most for its turn; twice that many


def nothing() -> None:
    """Do nothing."""


class Begin(Protocol):
    """How a look-up is begun; see `LookUps.begin`."""

    def __call__(self, account: str, name: str, look_up: Work, if_stopped: Work = ...) -> bool:
        """Begin it; False when it is not."""


class LookUps:
    """The look-ups of one process, so many of each account at a time. For any thread to use.

    A look-up that waits here is not claimed: the database has it as due, and a process that ends leaves it so.
    """

    def __init__(self, places: int = PLACES, waiting: int = WAITING, *, repeats: bool = False) -> None:
        """With `repeats`, a look-up that is begun while one of its name has not ended runs after that one."""
        self._repeats = repeats
        self._again: set[tuple[int, str]] = set()
        self._places = places
        self._most = places + waiting
        self._pools: dict[str, Pool] = {}
        self._begun: dict[str, dict[str, Work]] = {}  # by account and name: what to do if a stop comes first
        self._lock = threading.Lock()

    def begin(self, account: str, name: str, look_up: Work, if_stopped: Work = nothing) -> bool:
        """Carry a look-up out when a place of its account is free; no other one of this name at the same time.

        False, and nothing is done, when too many of the account wait, one of this name has not ended, or the
        process was told to stop. `if_stopped` is called when the process ends before the look-up has.
        """
        with self._lock:
            begun = self._begun.setdefault(account, {})
            if name in begun and self._repeats:
                self._again.add((id(begun), name))
                return True
            if name in begun or len(begun) >= self._most or stop_signal.is_told():
                return False
            begun[name] = if_stopped
            pool = self._pools.get(account)
            if pool is None:
                pool = self._pools[account] = Pool(Part.LOOK_UPS, self._places)
        pool.execute(partial(self._carry_out, begun, name, look_up))
        return True

    def is_idle(self) -> bool:
        """Whether every look-up that was begun has ended."""
        with self._lock:
            return not any(self._begun.values())

    def finish(self, patience: float) -> None:
        """After a stop signal: wait so many seconds for the look-ups under way, and begin no other one.

        Then, for at most as long, make those due that have not ended.
        """
        wait_until(self.is_idle, patience)
        with self._lock:
            left = [if_stopped for begun in self._begun.values() for if_stopped in begun.values()]
        until = elapsed() + patience
        for if_stopped in left:
            try:
                if_stopped()
            except DATABASE_ERRORS as error:
                failures.outage.failed(f"a look-up is not given back at once: {failures.summary(error)}")
                return  # the others would fail as well, each after its time-out
            if elapsed() > until:
                return

    def _carry_out(self, begun: dict[str, Work], name: str, look_up: Work) -> None:
        repeats = True
        while repeats:
            self._look_up(name, begun[name] if stop_signal.is_told() else look_up)
            with self._lock:
                repeats = (id(begun), name) in self._again
                self._again.discard((id(begun), name))
                if not repeats:
                    del begun[name]

    def _look_up(self, name: str, look_up: Work) -> None:
        try:
            look_up()
        except DATABASE_ERRORS as error:
            failures.outage.failed(
                f"a look-up ({name}) failed, a later one finds the same: {failures.summary(error)}"
            )
        except Exception:  # the end of a look-up's task: it is logged, and the account's next one runs
            log.exception("a look-up (%s) failed", name)
