"""A cap on calls for each gateway account, shared by all workers: one row and the database's clock."""

from sqlalchemy import Connection, text

LONGEST_PATIENCE = 60.0  # seconds; no caller waits longer
# The next free moment moves on by one interval for each grant; nobody is let in who would wait longer than
# he is willing to, so the row never runs far ahead of the clock.
_GRANT = text(
    """
    INSERT INTO rate_buckets AS bucket (account, next_free_at)
    VALUES (:account, clock_timestamp() + make_interval(secs => 1 / :rate))
    ON CONFLICT (account) DO UPDATE
    SET next_free_at = CASE WHEN bucket.next_free_at > clock_timestamp() + make_interval(secs => :most)
        THEN clock_timestamp() ELSE greatest(bucket.next_free_at, clock_timestamp()) END
        + make_interval(secs => 1 / :rate)
    WHERE bucket.next_free_at < clock_timestamp() + make_interval(secs => :patience)
        OR bucket.next_free_at > clock_timestamp() + make_interval(secs => :most)
    RETURNING extract(epoch FROM next_free_at - clock_timestamp())::float8 - 1 / :rate
    """
)


def grant(db: Connection, account: str, rate: float, patience: float) -> float | None:
    """Seconds to wait before the call may leave; None when that would be longer than `patience` seconds."""
    # Losing the last grants in a crash lets a few calls come early; waiting for the disk would cost each one.
    db.execute(text("SET LOCAL synchronous_commit = off"))
    # Nobody writes a moment further ahead than this: one that is comes from a clock that was set back.
    most = max(float(patience), LONGEST_PATIENCE) + 1 / rate
    values = {"account": account, "rate": float(rate), "patience": float(patience), "most": most}
    seconds = db.execute(_GRANT, values).scalar()
    return None if seconds is None else max(0.0, float(seconds))
