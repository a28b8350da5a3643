"""The duration of a day's calls at a rate cap: when each call is sent if they are queued one interval apart."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Pace:
    """The times of queued calls under a rate cap."""

    calls: int
    busy: timedelta  # total time in which calls are sent back to back
    last_at: datetime  # when the last one is sent
    longest_wait: timedelta  # longest wait of one call behind others


def departures(due: Iterable[datetime], every: timedelta) -> Iterator[datetime]:
    """Return when each of these calls is sent, in order, at one call per `every`; zero is no cap."""
    free_at: datetime | None = None
    for at in due:
        leaves_at = at if free_at is None else max(at, free_at)
        free_at = leaves_at + every
        yield leaves_at


def pace(due: Iterable[datetime], every: timedelta) -> Pace | None:
    """Summarize the send times of these calls, due in this order; None when there are none."""
    instants = list(due)
    if not instants:
        return None
    left = list(departures(instants, every))
    return Pace(len(left), every * len(left), left[-1], max(b - a for a, b in zip(instants, left, strict=True)))
