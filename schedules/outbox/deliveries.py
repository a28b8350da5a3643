"""When an event that the receiver did not take is tried again, and when it is given up."""

import zlib
from datetime import datetime, timedelta

# The first for a slip of the line, the middle for a release gone wrong, the last for a weekend: three days in all.
WAITS = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
SPREAD = 0.1  # of a wait, at most, is added to it, so that what failed together does not come back together


def next_try_at(event_id: str, tries: int, now: datetime) -> datetime | None:
    """When to try again after so many tries that failed, the newest just now; None when the event is dead."""
    if tries > len(WAITS):
        return None
    share = zlib.crc32(f"{event_id}/{tries}".encode()) / 2**32
    return now + WAITS[tries - 1] * (1 + SPREAD * share)
