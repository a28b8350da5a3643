"""Leadership: one process at a time does some work, under a lease in SQL."""

from sqlalchemy import Connection, text

BEAT = "beat"  # the lease of beats; other work has leases with other names
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
    """Acquire or renew a lease for these seconds; False when another process holds it."""
    return db.execute(_LEAD, {"name": name, "holder": holder, "seconds": float(seconds)}).first() is not None


def resign(db: Connection, holder: str, name: str = BEAT) -> None:
    """Release a lease."""
    db.execute(_RESIGN, {"name": name, "holder": holder})
