"""Request counts: calls by name, charges by second, and concurrent calls for the same uid."""

import time
from collections import Counter, deque


class Traffic:
    """Counts in real time, independent of the simulated clock."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.charges_at: Counter[int] = Counter()  # by Unix second
        self.refused = 0  # charges above the cap
        self.most_in_a_second = 0
        self.most_in_flight = 0  # concurrent calls for one uid
        self._in_flight: Counter[str] = Counter()
        self._arrived: deque[float] = deque()  # charges of the last second
        self._taken: deque[float] = deque()  # those of them within the cap

    def arrive(self, cap: float | None) -> bool:
        """Count a charge; False when it exceeds the cap of charges per second."""
        now = time.monotonic()
        self.charges_at[int(time.time())] += 1
        _push(self._arrived, now)
        self.most_in_a_second = max(self.most_in_a_second, len(self._arrived))
        if cap is None:
            return True
        while self._taken and self._taken[0] <= now - 1:
            self._taken.popleft()
        if len(self._taken) >= cap:
            self.refused += 1
            return False
        self._taken.append(now)
        return True

    def begin(self, uid: str) -> None:
        """Count a charge of this uid as under way."""
        self._in_flight[uid] += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight[uid])

    def end(self, uid: str) -> None:
        """Count it as over."""
        if self._in_flight[uid] > 1:
            self._in_flight[uid] -= 1
        else:
            self._in_flight.pop(uid, None)

    def in_flight(self, uid: str) -> int:
        """How many charges of this uid are under way."""
        return self._in_flight.get(uid, 0)

    def as_json(self) -> dict[str, object]:
        """The charges by second, and the maximum within any window of one second."""
        seconds = {str(second): count for second, count in sorted(self.charges_at.items())}
        this_second = self.charges_at.get(int(time.time()), 0)
        return {
            "most_in_a_second": self.most_in_a_second, "this_second": this_second, "refused": self.refused,
            "charges_by_second": seconds,
        }  # fmt: skip


def _push(window: deque[float], now: float) -> None:
    window.append(now)
    while window[0] <= now - 1:
        window.popleft()
