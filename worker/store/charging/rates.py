"""A cap on calls for each gateway account, shared by all workers: one row and the database's clock."""

from dataclasses import dataclass

from sqlalchemy import Connection, text

LONGEST_PATIENCE = 60.0  # seconds; no caller waits longer
MOST_AT_ONCE = 100  # calls that one caller takes moments for
# The next free moment moves on by one interval for each grant; nobody is let in who would wait longer than
# he is willing to, so the row never runs far ahead of the clock.
_GRANT = text(
    """
    INSERT INTO rate_buckets AS bucket (account, next_free_at)
    SELECT :account, clock_timestamp() + make_interval(secs => :ahead + :overrun + :many / :rate)
    -- Losing the last grants in a crash lets a few calls come early; waiting for the disk would cost each one.
    FROM set_config('synchronous_commit', 'off', true)
    ON CONFLICT (account) DO UPDATE
    SET next_free_at = CASE WHEN bucket.next_free_at > clock_timestamp() + make_interval(secs => :most)
        THEN clock_timestamp() + make_interval(secs => :ahead)
        ELSE greatest(bucket.next_free_at, clock_timestamp() + make_interval(secs => :ahead)) END
        + make_interval(secs => :overrun + :many / :rate)
    WHERE bucket.next_free_at < clock_timestamp() + make_interval(secs => :patience)
        OR bucket.next_free_at > clock_timestamp() + make_interval(secs => :most)
    -- Absolute times: the clock goes on between two readings of it.
    RETURNING extract(epoch FROM next_free_at)::float8 - :many / :rate,
        extract(epoch FROM clock_timestamp())::float8
    """
)
_PUT_OFF = text(
    """
    UPDATE rate_buckets
    SET next_free_at = greatest(next_free_at, clock_timestamp()) + make_interval(secs => :seconds)
    FROM set_config('synchronous_commit', 'off', true)
    WHERE account = :account AND next_free_at < clock_timestamp() + make_interval(secs => :most)
    """
)


@dataclass(frozen=True, slots=True)
class Moment:
    """When a call may leave."""

    seconds: float  # from the time that the database had then
    database_time: float  # seconds since 1970


def grant(db: Connection, account: str, rate: float, patience: float, many: int = 1) -> float | None:
    """Seconds to wait before the first of so many calls may leave, the others an interval apart each.

    None, and nothing is taken, when that would be longer than `patience` seconds.
    """
    moment = take(db, account, rate, patience, many)
    return None if moment is None else max(0.0, moment.seconds)


def take(
    db: Connection,
    account: str,
    rate: float,
    patience: float,
    many: int,
    overrun: float = 0.0,
    ahead: float = 0.0,
) -> Moment | None:
    """As `grant`, with the database's own time; `overrun` seconds are left free first, as by `put_off`.

    No slot begins sooner than `ahead` seconds from now: the caller needs as long until it can call.
    """
    # Nobody writes a moment further ahead than this: one that is comes from a clock that was set back.
    most = max(float(patience), LONGEST_PATIENCE) + MOST_AT_ONCE / rate
    values = {
        "account": account, "rate": float(rate), "patience": float(patience), "most": most,
        "many": float(min(many, MOST_AT_ONCE)), "overrun": float(overrun), "ahead": float(ahead),
    }  # fmt: skip
    row = db.execute(_GRANT, values).first()
    if row is None:
        return None
    begins_at, now = float(row[0]), float(row[1])
    return Moment(begins_at - now, now)


def put_off(db: Connection, account: str, seconds: float) -> None:
    """Let the account's next calls leave so much later: one has left too late, and would share their second."""
    db.execute(_PUT_OFF, {"account": account, "seconds": float(seconds), "most": LONGEST_PATIENCE})
