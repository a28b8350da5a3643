"""Beats as rows: a heartbeat of each, and a lease that says which of them leads."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

# A beat that has not been seen for this long is gone; its row is removed by the next one that looks.
FORGOTTEN_AFTER_HOURS = 24
BEAT = "beat"  # the lead among beats; other work that one process does at a time has names of its own
_LEAD = text(
    """
    INSERT INTO leases AS lease (name, holder, until)
    VALUES (:name, :holder, clock_timestamp() + make_interval(secs => :seconds))
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
    WHERE lease.holder = excluded.holder OR lease.until < clock_timestamp()
    RETURNING name
    """
)
_SEEN = text(
    """
    INSERT INTO heartbeats (name, kind, started_at, seen_at, leads, plans)
    VALUES (:name, 'beat', clock_timestamp(), clock_timestamp(), :leads, :plans)
    ON CONFLICT (name) DO UPDATE
    SET seen_at = excluded.seen_at, leads = excluded.leads, plans = excluded.plans
    """
)
_FORGET = text("DELETE FROM heartbeats WHERE seen_at < clock_timestamp() - make_interval(hours => :hours)")
_RESIGN = text("DELETE FROM leases WHERE name = :name AND holder = :holder")
_GONE = text("DELETE FROM heartbeats WHERE name = :name")
_ALIVE = text(
    "SELECT name, started_at, seen_at, leads, plans, "
    "extract(epoch FROM clock_timestamp() - seen_at)::float8 AS seconds_ago FROM heartbeats ORDER BY name"
)


def lead(db: Connection, holder: str, seconds: float, name: str = BEAT) -> bool:
    """Take or keep a lead for so many seconds; False when another process has it."""
    return db.execute(_LEAD, {"name": name, "holder": holder, "seconds": float(seconds)}).first() is not None


def resign(db: Connection, holder: str, name: str = BEAT) -> None:
    """Give a lead back."""
    db.execute(_RESIGN, {"name": name, "holder": holder})


def seen(db: Connection, name: str, *, leads: bool, plans: int) -> None:
    """Write this beat's heartbeat, and forget those that are long gone."""
    db.execute(_SEEN, {"name": name, "leads": leads, "plans": plans})
    db.execute(_FORGET, {"hours": FORGOTTEN_AFTER_HOURS})


def leave(db: Connection, name: str) -> None:
    """Give the lead back and take the heartbeat away, when a beat stops in good order."""
    resign(db, name)
    db.execute(_GONE, {"name": name})


def alive(db: Connection) -> Sequence[dict[str, Any]]:
    """The beats with the age of their last heartbeat in seconds."""
    return [dict(row) for row in db.execute(_ALIVE).mappings()]
