"""How many of a process's Celery threads the messages of one account's charges may occupy."""

import threading
from collections import defaultdict
from collections.abc import Callable

from worker.clock import elapsed
from worker.services import Services

HANGS = 3.0  # seconds; the work of an account that answers, and whose calls wait for no slot, is shorter


class Bound:
    """A bounded number of threads. For any thread to use."""

    def __init__(self) -> None:
        self._held = 0
        self._lock = threading.Lock()

    def take(self, most: int) -> bool:
        """Take a thread; False when `most` are taken."""
        with self._lock:
            if self._held >= most:
                return False
            self._held += 1
            return True

    def give(self) -> None:
        """Release the thread."""
        with self._lock:
            self._held -= 1


class HangingBound:
    """Threads that are bounded while the work on them lasts long: until some of it ends quickly again.

    For any thread to use.
    """

    def __init__(self, hangs: float, seconds: Callable[[], float]) -> None:
        self._hangs = hangs
        self._seconds = seconds
        self._is_slow = False
        self._begun: list[float] = []  # when each began, oldest first
        self._lock = threading.Lock()

    def take(self, most: int) -> float | None:
        """Take a thread, to be released with what is returned; None when it is bounded."""
        now = self._seconds()
        with self._lock:
            if self._begun and now - self._begun[0] >= self._hangs:
                self._is_slow = True
            if self._is_slow and len(self._begun) >= most:
                return None
            self._begun.append(now)
            return now

    def give(self, taken: float) -> None:
        """Release the thread."""
        with self._lock:
            self._begun.remove(taken)
            self._is_slow = self._seconds() - taken >= self._hangs


class Places:
    """The threads that one account's messages occupy, each from its message to the end of its charges."""

    def __init__(self, hangs: float, seconds: Callable[[], float]) -> None:
        self.envelopes = Bound()
        self.charges: defaultdict[str, HangingBound] = defaultdict(
            lambda: HangingBound(hangs, seconds)
        )  # by queue
        self.opens = threading.Lock()  # one envelope begins at a time, oldest first


class AccountPlaces:
    """The places of each account of a process. For any thread to use."""

    def __init__(self, hangs: float = HANGS, seconds: Callable[[], float] = elapsed) -> None:
        self._places: defaultdict[str, Places] = defaultdict(lambda: Places(hangs, seconds))
        self._lock = threading.Lock()

    def of(self, account: str) -> Places:
        """Return the places of an account; "" stands for messages that name no account."""
        with self._lock:
            return self._places[account]


def most_envelopes(services: Services) -> int:
    """How many threads one account's envelopes may occupy: an equal share of half of all threads.

    With a low cap an envelope takes long, and other queues and other accounts need threads too.
    """
    return max(1, services.settings.concurrency // 2 // _accounts(services))


def most_charges(services: Services) -> int:
    """How many threads the single charges of one queue and of an account that hangs may occupy, once that is seen.

    A half of all threads less one share of envelopes for each account, at least one: while the gateway of one
    account does not answer, its calls last up to their deadline, and the shares of the others stay free. With
    fewer than four threads for each account there is no share to keep. The only account may occupy every thread.
    """
    accounts = _accounts(services)
    if accounts == 1:
        return services.settings.concurrency
    return max(1, (services.settings.concurrency - accounts * most_envelopes(services)) // 2)


def _accounts(services: Services) -> int:
    return max(1, len(services.account_names))
