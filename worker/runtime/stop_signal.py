"""Whether this process received a stop signal: then it begins no call to the gateway and takes no new work."""

import threading
from collections.abc import Callable

_told = threading.Event()
_calls: list[Callable[[], None]] = []


def call_when_told(call: Callable[[], None]) -> None:
    """Register a function to call in the signal handler when this process receives a stop signal."""
    _calls.append(call)


def begin() -> None:
    """Stop. Safe in the handler of a signal: no lock is taken that the interrupted thread may hold."""
    _told.set()
    for call in _calls:
        call()


def is_told() -> bool:
    """Whether a stop signal was received."""
    return _told.is_set()


def is_not_told() -> bool:
    """Whether it may begin something new."""
    return not _told.is_set()


def wait(seconds: float) -> bool:
    """Wait for a stop signal, at most so many seconds; return whether one came."""
    return _told.wait(seconds)
