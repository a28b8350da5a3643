"""Work that is due, by gateway account, and for how long the rate limit and the retries explain its wait."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

LATE_AFTER = 300.0  # seconds that a due charge may wait beyond what the cap explains
SHARE_OF_CAP = 1.25  # allowed duration as a multiple of that at the full cap
UNSENT_AFTER = 600.0  # seconds beyond what the cap explains; the retries of a short outage take as long
# Hours after which an account must be compared again: three hourly runs, and a day and a half.
COMPARED_WITHIN = {"hourly": timedelta(hours=3), "daily": timedelta(hours=36)}


@dataclass(frozen=True, slots=True)
class AccountDue:
    """The due charges of a gateway account now."""

    account: str
    due: int
    oldest: datetime | None  # due time of the charge that waits longest
    since: datetime | None  # since when it could be sent: later than `oldest` after a stop or a hold
    rate: float  # calls a second; 0 without a cap
    last_slot_ago: float | None  # seconds since the last slot under the cap; None without one
    unsent: int = 0  # charges that were claimed, not sent, and wait for their next try
    unsent_since: datetime | None = None  # since when the oldest of them could be sent
    oldest_key: str | None = None  # of the charge that waits longest
    # Since when the longest waiting charge of each queue could be sent; a queue without a due charge is missing.
    since_by_queue: Mapping[str, datetime] = field(default_factory=dict)

    @property
    def explained(self) -> float:
        """Seconds that the oldest one may wait: the duration of all due charges at the cap, with a margin.

        The cap explains nothing when its slots are not taken.
        """
        return LATE_AFTER + (self._takes(self.due) if self._takes_slots else 0.0)

    @property
    def unsent_explained(self) -> float:
        """Seconds for which the oldest of the unsent ones may be tried."""
        return UNSENT_AFTER + self._takes(self.due + self.unsent)

    @property
    def _takes_slots(self) -> bool:
        between = max(LATE_AFTER, 2 / self.rate) if self.rate else LATE_AFTER
        return self.last_slot_ago is not None and self.last_slot_ago <= between

    def _takes(self, many: int) -> float:
        return SHARE_OF_CAP * many / self.rate if self.rate else 0.0


@dataclass(frozen=True, slots=True)
class Unopened:
    """The oldest period of an account that is due and not opened."""

    account: str
    due_at: datetime
    subscription: str  # its key
    since: datetime  # since when it could be opened: later than `due_at` for a new subscription


@dataclass(frozen=True, slots=True)
class Comparison:
    """The last comparison of an account with the gateway, of one kind."""

    account: str
    kind: str  # hourly or daily
    ended_at: datetime | None  # the newest one that has ended; None before the first
    since: datetime  # when it ended, or since when there could have been one

    def is_late(self, now: datetime) -> bool:
        """Whether the next one should have ended long ago."""
        return now - self.since > COMPARED_WITHIN[self.kind]
