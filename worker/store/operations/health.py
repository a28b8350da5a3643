"""Queries of `again status` beside the usual counts; the cost of each grows with the number of due charges."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from worker.store.tables import IS_DUE, UNRESOLVED_STATES

BLOCKS = 64  # of 8 kB, that the probe writes
_DUE = text(
    f"""
    SELECT known.name AS account, waiting.due, waiting.oldest, breakers.counted_from,
        extract(epoch FROM clock_timestamp() - rate_buckets.next_free_at)::float8 AS last_slot_ago
    FROM unnest(CAST(:accounts AS text[])) AS known (name)
    CROSS JOIN LATERAL (
        SELECT count(*) AS due, min(next_attempt_at) AS oldest FROM charges
        WHERE account = known.name AND {IS_DUE} AND next_attempt_at <= :now
    ) AS waiting
    LEFT JOIN breakers ON breakers.account = known.name
    LEFT JOIN rate_buckets ON rate_buckets.account = known.name
    ORDER BY known.name
    """  # noqa: S608 # a constant of ours
)
# An indefinite decline has a class, and an attempt that was looked up without a result has quiet answers: both
# were sent. The literal states select the index of unresolved attempts.
_UNSENT = text(
    f"""
    SELECT charge.account, count(*) AS unsent, min(attempt.created_at) AS oldest
    FROM attempts AS attempt
    JOIN charges AS charge ON charge.id = attempt.charge_id
    WHERE attempt.{UNRESOLVED_STATES} AND attempt.state IN ('ready', 'not_sent')
        AND attempt.decline_class IS NULL AND attempt.quiet_answers = 0
        AND charge.next_attempt_at <= :until AND charge.held_why IS NULL
    GROUP BY charge.account
    """  # noqa: S608 # a constant of ours
)
# By created_at: an attempt becomes unknown again after each call, and is sent again after look-ups without a
# result.
_UNKNOWN = text("SELECT min(created_at) FROM attempts WHERE state = 'unknown'")
_UNOPENED = text("SELECT min(open_at) FROM subscriptions WHERE status = 'active' AND open_at <= :now")
_RELEASED = text("SELECT greatest(bound_at, restored_at) FROM installation")
# The lock serializes probes; it is released with the transaction.
_ALONE = text("SELECT pg_try_advisory_xact_lock(hashtextextended('again write probe', 0))")
_EMPTY = text("TRUNCATE write_probe")
_FILL = text("INSERT INTO write_probe (filler) SELECT repeat('x', 7900) FROM generate_series(1, :blocks)")


@dataclass(frozen=True, slots=True)
class Due:
    """The charges of an account that are due."""

    account: str
    due: int
    oldest: datetime | None
    counted_from: datetime | None  # when a person last resumed its charging
    last_slot_ago: float | None  # seconds


def due(db: Connection, accounts: Collection[str], now: datetime) -> list[Due]:
    """Return the due charges of each of these accounts."""
    return [Due(**row) for row in db.execute(_DUE, {"accounts": sorted(accounts), "now": now}).mappings()]


def unsent(db: Connection, until: datetime) -> dict[str, tuple[int, datetime]]:
    """Return, by account, the unsent charges that are tried again by then, and when the oldest was claimed."""
    return {row.account: (row.unsent, row.oldest) for row in db.execute(_UNSENT, {"until": until})}


def oldest_unknown(db: Connection) -> datetime | None:
    """Return the start of the oldest attempt with an unknown outcome, with ix_attempts_to_ask."""
    at: datetime | None = db.execute(_UNKNOWN).scalar()
    return at


def oldest_unopened(db: Connection, now: datetime) -> datetime | None:
    """Return the due time of the oldest period that is not opened."""
    at: datetime | None = db.execute(_UNOPENED, {"now": now}).scalar()
    return at


def released_at(db: Connection) -> datetime | None:
    """Return since when charges can be sent: the newest binding, or the end of the last hold."""
    at: datetime | None = db.execute(_RELEASED).scalar()
    return at


def write_blocks(db: Connection) -> None:
    """Write new blocks to a table; the database's error is raised when it cannot store more.

    An update could use room in an existing block, and a transaction that is rolled back writes no log.
    """
    if db.execute(_ALONE).scalar_one():
        db.execute(_EMPTY)
        db.execute(_FILL, {"blocks": BLOCKS})
