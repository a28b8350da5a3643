"""A cap on calls for each gateway account, shared by all workers: one row and the database's clock."""

from sqlalchemy import Connection, text

LONGEST_PATIENCE = 60.0  # seconds; no caller waits longer
MOST_AT_ONCE = 100  # calls that one caller takes moments for
# The next free moment moves on by one interval for each grant; nobody is let in who would wait longer than
# he is willing to, so the row never runs far ahead of the clock.
_GRANT = text(
    """
    INSERT INTO rate_buckets AS bucket (account, next_free_at)
    SELECT :account, clock_timestamp() + make_interval(secs => :many / :rate)
    -- Losing the last grants in a crash lets a few calls come early; waiting for the disk would cost each one.
    FROM set_config('synchronous_commit', 'off', true)
    ON CONFLICT (account) DO UPDATE
    SET next_free_at = CASE WHEN bucket.next_free_at > clock_timestamp() + make_interval(secs => :most)
        THEN clock_timestamp() ELSE greatest(bucket.next_free_at, clock_timestamp()) END
        + make_interval(secs => :many / :rate)
    WHERE bucket.next_free_at < clock_timestamp() + make_interval(secs => :patience)
        OR bucket.next_free_at > clock_timestamp() + make_interval(secs => :most)
    RETURNING extract(epoch FROM next_free_at - clock_timestamp())::float8 - :many / :rate
    """
)


def grant(db: Connection, account: str, rate: float, patience: float, many: int = 1) -> float | None:
    """Seconds to wait before the first of so many calls may leave, the others an interval apart each.

    None, and nothing is taken, when that would be longer than `patience` seconds.
    """
    # Nobody writes a moment further ahead than this: one that is comes from a clock that was set back.
    most = max(float(patience), LONGEST_PATIENCE) + MOST_AT_ONCE / rate
    values = {
        "account": account, "rate": float(rate), "patience": float(patience), "most": most,
        "many": float(min(many, MOST_AT_ONCE)),
    }  # fmt: skip
    seconds = db.execute(_GRANT, values).scalar()
    return None if seconds is None else max(0.0, float(seconds))
