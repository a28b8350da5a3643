"""The stop signal of this process: after it, no call to the gateway begins and no new work is taken."""

from collections.abc import Callable
from queue import Empty, SimpleQueue


class StopFlag:
    """A flag that threads can wait for; setting it takes no lock that the interrupted thread may hold.

    A signal handler may interrupt itself, or a thread that waits; with `threading.Event` it would block for ever.
    """

    def __init__(self) -> None:
        self.is_set = False
        self._wakeups: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        """Set the flag, and wake the waiting threads."""
        self.is_set = True
        self._wakeups.put(None)  # reentrant, see SimpleQueue.put in the Python documentation

    def wait(self, seconds: float) -> bool:
        """Wait for the flag, at most so many seconds; return whether it is set."""
        if not self.is_set:
            try:
                self._wakeups.get(timeout=seconds)
            except Empty:
                return self.is_set
            self._wakeups.put(None)  # wake the next waiting thread
        return True


_flag = StopFlag()
_calls: list[Callable[[], None]] = []


def call_when_told(call: Callable[[], None]) -> None:
    """Register a function to call in the signal handler when this process receives a stop signal."""
    _calls.append(call)


def begin() -> None:
    """Begin to stop; only the first call has an effect. Safe in signal handlers, also nested ones."""
    if _flag.is_set:
        return
    _flag.set()
    for call in _calls:
        call()


def is_told() -> bool:
    """Whether a stop signal was received."""
    return _flag.is_set


def is_not_told() -> bool:
    """Whether no stop signal was received, so that new work may begin."""
    return not _flag.is_set


def wait(seconds: float) -> bool:
    """Wait for a stop signal, at most so many seconds; return whether one was received."""
    return _flag.wait(seconds)
