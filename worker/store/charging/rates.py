"""The rate limiter: a cap on calls for each gateway account, kept by one row and the database's clock."""

from dataclasses import dataclass

from sqlalchemy import Connection, text

LONGEST_PATIENCE = 60.0  # seconds; no caller waits longer
MOST_AT_ONCE = 100  # send slots that one caller takes at once
# Each grant advances the next free slot by one interval. A caller that would wait longer than its patience gets
# none, so the row never runs far ahead of the clock.
_GRANT = text(
    """
    INSERT INTO rate_buckets AS bucket (account, next_free_at)
    SELECT :account, clock_timestamp() + make_interval(secs => :ahead + :overrun + :many / :rate)
    -- A crash may lose the last grants, so that a few calls are early; a sync would delay every grant.
    FROM set_config('synchronous_commit', 'off', true)
    ON CONFLICT (account) DO UPDATE
    SET next_free_at = CASE WHEN bucket.next_free_at > clock_timestamp() + make_interval(secs => :most)
        THEN clock_timestamp() + make_interval(secs => :ahead)
        ELSE greatest(bucket.next_free_at, clock_timestamp() + make_interval(secs => :ahead)) END
        + make_interval(secs => :overrun + :many / :rate)
    WHERE bucket.next_free_at < clock_timestamp() + make_interval(secs => :patience)
        OR bucket.next_free_at > clock_timestamp() + make_interval(secs => :most)
    -- Absolute times: the clock advances between two reads.
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
    """A send slot."""

    seconds: float  # from the database's time at the grant
    database_time: float  # seconds since 1970


def grant(db: Connection, account: str, rate: float, patience: float, many: int = 1) -> float | None:
    """Take `many` slots, one interval apart, and return the seconds until the first one.

    None, and nothing is taken, when that is longer than `patience` seconds.
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
    """Like `grant`, with the database's time; `overrun` seconds are skipped first, as by `delay_slots`.

    No slot starts sooner than `ahead` seconds from now: the caller needs that time before it can call.
    """
    # No grant is further ahead than this; a value beyond it comes from a clock that was set back.
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


def delay_slots(db: Connection, account: str, seconds: float) -> None:
    """Delay the account's next slots by these seconds, after a call that was sent late."""
    db.execute(_PUT_OFF, {"account": account, "seconds": float(seconds), "most": LONGEST_PATIENCE})
