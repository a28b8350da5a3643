"""A bound on the threads that requests of one account occupy while its gateway does not answer."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from schedules.errors import Code
from worker.charging.account_places import HANGS
from worker.clock import elapsed
from worker.services import AccountBusy


class RequestPlaces:
    """The requests of a process that call a gateway, so many of each account at a time. For any thread to use."""

    def __init__(self) -> None:
        self._begun: defaultdict[str, list[float]] = defaultdict(list)  # by account: when each began, oldest first
        self._freed = threading.Condition()

    @contextmanager
    def request(self, most: int) -> Iterator[Callable[[str], None]]:
        """Give a function that takes a place of an account for the rest of one request.

        It waits for a place while the account answers, and raises AccountBusy when one of its requests has called
        for longer than HANGS: then this request has called no gateway.
        """
        taken: set[str] = set()
        with ExitStack() as places:

            def take(account: str) -> None:
                if account not in taken:
                    places.enter_context(self._place(account, most))
                    taken.add(account)

            yield take

    @contextmanager
    def _place(self, account: str, most: int) -> Iterator[None]:
        with self._freed:
            begun = self._begun[account]
            while len(begun) >= most:
                if (left := begun[0] + HANGS - elapsed()) <= 0:
                    raise AccountBusy(
                        Code.UNAVAILABLE,
                        f"{len(begun)} requests wait for the gateway of account {account!r}, which does not "
                        "answer; nothing was done",
                    )
                self._freed.wait(left)
            begun.append(now := elapsed())
        try:
            yield
        finally:
            with self._freed:
                begun.remove(now)
                self._freed.notify_all()
