"""The gateway's access token: shared by all processes, and refreshed by one of them."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from schedules.charging.outcomes import NotSent, Refused
from worker.clock import elapsed, wait

# Below a minute: asked earlier, PortOne hands out the same token with the same end; asked in a token's last
# minute, it adds five. And far above the time between taking a token and the gateway looking at it.
MARGIN = 45.0
# How long one process may take to refresh before another tries: a token call takes well under a second, and
# whoever holds the right and lives gives it back.
REFRESH_RIGHT = 15.0
POLL = 0.1  # seconds between two looks at the store while another process refreshes
LONGEST_LIFE = 3600.0  # seconds; PortOne's tokens live half an hour, and what claims more is not believed


@dataclass(frozen=True, slots=True)
class Issued:
    """A new token, and its lifetime by the gateway's clock."""

    token: str = field(repr=False)
    seconds_left: float


class TokenStore(Protocol):
    """Where all processes share one access token, so that one of them refreshes it for all."""

    def read(self) -> tuple[str, float] | None:
        """Return the shared token and its remaining seconds; None when there is no valid one."""

    def begin_refresh(self, seconds: float) -> bool:
        """Take the right to refresh for so many seconds; False when another process has it."""

    def write(self, token: str, seconds_left: float) -> None:
        """Share a new token and release the right to refresh."""

    def end_refresh(self) -> None:
        """Release the right to refresh after a failed refresh."""

    def drop(self, token: str) -> None:
        """Drop this token, which the gateway has refused, if it is still the shared one."""


Fetch = Callable[[float], Issued | NotSent | Refused]


class MemoryTokens:
    """A TokenStore for one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._token: str | None = None
        self._ends = 0.0
        self._refresh_until = 0.0

    def read(self) -> tuple[str, float] | None:
        """Return the shared token and its remaining seconds; None when there is no valid one."""
        with self._lock:
            left = self._ends - elapsed()
            return (self._token, left) if self._token is not None and left > 0 else None

    def begin_refresh(self, seconds: float) -> bool:
        """Take the right to refresh for so many seconds; False when another thread has it."""
        with self._lock:
            if self._refresh_until > elapsed():
                return False
            self._refresh_until = elapsed() + seconds
            return True

    def write(self, token: str, seconds_left: float) -> None:
        """Share a new token and release the right to refresh."""
        with self._lock:
            self._token, self._ends, self._refresh_until = token, elapsed() + seconds_left, 0.0

    def end_refresh(self) -> None:
        """Release the right to refresh after a failed refresh."""
        with self._lock:
            self._refresh_until = 0.0

    def drop(self, token: str) -> None:
        """Drop this token, which the gateway has refused, if it is still the shared one."""
        with self._lock:
            if self._token == token:
                self._token = None


class AccessToken:
    """This process's copy of the token. One thread at a time refreshes it, and the others wait for it."""

    def __init__(self, store: TokenStore, fetch: Fetch) -> None:
        self._store = store
        self._fetch = fetch
        self._lock = threading.Lock()
        self._held: tuple[str, float] | None = None  # the token, and when it ends by `elapsed`
        self.issued_at = 0.0  # when this process last fetched one of its own, by `elapsed`

    def get(self, until: float) -> str | NotSent | Refused:
        """Return a token to send with; wait for one until then at most."""
        if (token := self.at_hand()) is not None:
            return token
        if not self._lock.acquire(timeout=max(0.0, until - elapsed())):
            return NotSent("no access token in time")
        try:
            return self.at_hand() or self._shared_or_fresh(until)
        finally:
            self._lock.release()

    def drop(self, token: str) -> None:
        """Drop a token that the gateway has refused, unless it was replaced already."""
        held = self._held
        if held is not None and held[0] == token:
            self._held = None
        self._store.drop(token)

    def at_hand(self) -> str | None:
        """Return the token of this process without waiting; None when it is not valid for long enough."""
        held = self._held
        return held[0] if held is not None and held[1] - elapsed() > MARGIN else None

    def _shared_or_fresh(self, until: float) -> str | NotSent | Refused:
        while True:
            shared = self._store.read()
            if shared is not None and shared[1] > MARGIN:
                return self._hold(*shared)
            if self._store.begin_refresh(REFRESH_RIGHT):
                return self._refresh(until)
            if elapsed() + POLL >= until:
                return NotSent("no access token in time: another process is refreshing it")
            wait(POLL)

    def _refresh(self, until: float) -> str | NotSent | Refused:
        shared = False
        try:
            asked_at = elapsed()
            issued = self._fetch(until)
            if not isinstance(issued, Issued):
                return issued
            left = min(issued.seconds_left, LONGEST_LIFE) - (elapsed() - asked_at)
            self.issued_at = elapsed()
            token = self._hold(issued.token, left)  # used even when little is left: nothing fresher is to be had
            self._store.write(token, left)
            shared = True
            return token
        finally:
            if not shared:
                self._store.end_refresh()

    def _hold(self, token: str, left: float) -> str:
        self._held = (token, elapsed() + left)
        return token
