"""Leads: work that one process does at a time is led under a lease in SQL."""

from sqlalchemy import Connection, text

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
_RESIGN = text("DELETE FROM leases WHERE name = :name AND holder = :holder")


def lead(db: Connection, holder: str, seconds: float, name: str = BEAT) -> bool:
    """Take or keep a lead for so many seconds; False when another process has it."""
    return db.execute(_LEAD, {"name": name, "holder": holder, "seconds": float(seconds)}).first() is not None


def resign(db: Connection, holder: str, name: str = BEAT) -> None:
    """Give a lead back."""
    db.execute(_RESIGN, {"name": name, "holder": holder})
