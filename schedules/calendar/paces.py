"""How long a day takes at a cap: when each call leaves if they stand in line, each an interval after the other."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Pace:
    """How a line of calls goes through a cap."""

    calls: int
    busy: timedelta  # how long calls leave one right after the other, all such times together
    last_at: datetime  # when the last one leaves
    longest_wait: timedelta  # of one call behind others


def departures(due: Iterable[datetime], every: timedelta) -> Iterator[datetime]:
    """When each of these calls leaves, in order of time, at one call for each `every`; zero is no cap."""
    free_at: datetime | None = None
    for at in due:
        leaves_at = at if free_at is None else max(at, free_at)
        free_at = leaves_at + every
        yield leaves_at


def pace(due: Iterable[datetime], every: timedelta) -> Pace | None:
    """Add the departures of these calls up, which are due in this order; None when there are none."""
    instants = list(due)
    if not instants:
        return None
    left = list(departures(instants, every))
    return Pace(len(left), every * len(left), left[-1], max(b - a for a, b in zip(instants, left, strict=True)))
