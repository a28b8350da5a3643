"""How many of a process's Celery threads the messages of one account's charges may occupy."""

import threading
from collections import defaultdict

from worker.services import Services


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


class Places:
    """The threads that one account's messages occupy, each from its message to the end of its charges."""

    def __init__(self) -> None:
        self.envelopes = Bound()
        self.charges = Bound()  # with a message of their own
        self.opens = threading.Lock()  # one envelope begins at a time, oldest first


class AccountPlaces:
    """The places of each account of a process. For any thread to use."""

    def __init__(self) -> None:
        self._places: defaultdict[str, Places] = defaultdict(Places)
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
    """How many threads one account's single charges may occupy: all, less one share of envelopes for each account.

    While the gateway of one account does not answer, its calls last up to their deadline. Then the shares of the
    other accounts stay free. The only account may occupy every thread.
    """
    accounts = _accounts(services)
    if accounts == 1:
        return services.settings.concurrency
    return max(1, services.settings.concurrency - accounts * most_envelopes(services))


def _accounts(services: Services) -> int:
    return max(1, len(services.account_names))
