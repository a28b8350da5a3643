"""Retry times of an event that the receiver did not accept, and when it becomes dead."""

import zlib
from datetime import datetime, timedelta

# Three days in all: short waits for network errors, longer ones for a failed release, the last for a weekend.
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
SPREAD = 0.1  # largest random share added to a wait, so that events that failed together are spread


def next_try_at(event_id: str, tries: int, now: datetime) -> datetime | None:
    """Return when to retry after `failed` tries, the newest at `now`; None when the event is dead."""
    if tries > len(WAITS):
        return None
    share = zlib.crc32(f"{event_id}/{tries}".encode()) / 2**32
    return now + WAITS[tries - 1] * (1 + SPREAD * share)
