"""Whether this process was told to stop: from then on it begins no call to the gateway, and takes no new work."""

import threading
from collections.abc import Callable

_told = threading.Event()
_calls: list[Callable[[], None]] = []


def call_when_told(call: Callable[[], None]) -> None:
    """Have something called when this process is told to stop, in the handler of the signal."""
    _calls.append(call)


def begin() -> None:
    """Stop. Safe in the handler of a signal: no lock is taken that the interrupted thread may hold."""
    _told.set()
    for call in _calls:
        call()


def is_told() -> bool:
    """Whether it was told to stop."""
    return _told.is_set()


def is_not_told() -> bool:
    """Whether it may begin something new."""
    return not _told.is_set()


def wait(seconds: float) -> bool:
    """Wait until it is told to stop, for at most so many seconds; whether it was."""
    return _told.wait(seconds)
