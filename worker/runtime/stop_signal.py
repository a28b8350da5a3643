"""Whether this process received a stop signal: then it begins no call to the gateway and takes no new work."""

from collections.abc import Callable
from queue import Empty, SimpleQueue


class Told:
    """A flag that threads can wait for. Setting it takes no lock that the interrupted thread may hold.

    A handler may interrupt itself, or a thread that waits: with `threading.Event` it would block for ever.
    """

    def __init__(self) -> None:
        self.is_set = False
        self._came: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        """Set it, and wake whoever waits."""
        self.is_set = True
        self._came.put(None)  # reentrant, as the documentation of `queue` says

    def wait(self, seconds: float) -> bool:
        """Wait until it is set, at most so many seconds; return whether it is."""
        if not self.is_set:
            try:
                self._came.get(timeout=seconds)
            except Empty:
                return self.is_set
            self._came.put(None)  # for the other threads that wait
        return True


_told = Told()
_calls: list[Callable[[], None]] = []


def call_when_told(call: Callable[[], None]) -> None:
    """Register a function to call in the signal handler when this process receives a stop signal."""
    _calls.append(call)


def begin() -> None:
    """Stop, once. Safe in the handler of a signal, and when another signal interrupts that handler."""
    if _told.is_set:
        return
    _told.set()
    for call in _calls:
        call()


def is_told() -> bool:
    """Whether a stop signal was received."""
    return _told.is_set


def is_not_told() -> bool:
    """Whether it may begin something new."""
    return not _told.is_set


def wait(seconds: float) -> bool:
    """Wait for a stop signal, at most so many seconds; return whether one came."""
    return _told.wait(seconds)
