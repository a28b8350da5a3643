"""Dead letters: refused messages. The newest have a row each, older ones a count by reason."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, func, select, text
from sqlalchemy.dialects.postgresql import insert

from worker.broker.messages import DeadLetter, Reason
from worker.store.rows import read_all
from worker.store.tables import dead_letters

MOST_KEPT = 1000  # rows; bounded against attackers
_LOCK = 7_260_013  # serializes writers: each counts the rows beyond the bound together
_ADDED = insert(dead_letters)
_ADD = _ADDED.on_conflict_do_update(
    constraint="one_row_for_each_dead_letter",
    set_={
        "count": dead_letters.c.count + _ADDED.excluded.count,
        "last_at": _ADDED.excluded.last_at,
        "message_id": _ADDED.excluded.message_id,
    },
)
_SUM_UP = text(
    """
    WITH surplus AS (
        DELETE FROM dead_letters WHERE id IN (
            SELECT id FROM dead_letters WHERE digest <> '' ORDER BY last_at DESC, id DESC OFFSET :kept
        )
        RETURNING queue, reason, size, first_at, last_at, count
    )
    INSERT INTO dead_letters AS summed (queue, reason, digest, size, first_at, last_at, count)
    SELECT queue, reason, '', max(size), min(first_at), max(last_at), sum(count)
    FROM surplus GROUP BY queue, reason
    ON CONFLICT ON CONSTRAINT one_row_for_each_dead_letter DO UPDATE
    SET count = summed.count + excluded.count, last_at = greatest(summed.last_at, excluded.last_at),
        size = greatest(summed.size, excluded.size)
    """
)


def add(db: Connection, letters: Sequence[DeadLetter], now: datetime, kept: int = MOST_KEPT) -> None:
    """Count these messages; a repeated one is counted in its row."""
    if not letters:
        return
    db.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    newest = {(letter.queue, letter.reason, letter.digest): letter for letter in letters}
    counts = Counter((letter.queue, letter.reason, letter.digest) for letter in letters)
    db.execute(_ADD, [_row(letter, counts[key], now) for key, letter in newest.items()])
    db.execute(_SUM_UP, {"kept": kept})


def _row(letter: DeadLetter, count: int, now: datetime) -> dict[str, object]:
    return {
        "queue": letter.queue, "reason": letter.reason.value, "digest": letter.digest, "task": letter.task,
        "message_id": letter.message_id, "size": letter.size, "first_at": now, "last_at": now, "count": count,
    }  # fmt: skip


def total(db: Connection) -> int:
    """Return how many messages were refused since the last purge."""
    return int(db.execute(select(func.coalesce(func.sum(dead_letters.c.count), 0))).scalar_one())


@dataclass(frozen=True, slots=True)
class ListedLetter:
    """A refused message, or the count of older ones."""

    id: int
    queue: str
    reason: Reason
    digest: str  # empty for a count of older ones
    task: str | None
    message_id: str | None
    size: int  # bytes
    first_at: datetime
    last_at: datetime
    count: int


def listed(db: Connection, limit: int) -> list[ListedLetter]:
    """Return the rows, newest first."""
    newest = select(dead_letters).order_by(dead_letters.c.last_at.desc(), dead_letters.c.id.desc()).limit(limit)
    return read_all(ListedLetter, db.execute(newest))


def purge(db: Connection) -> int:
    """Delete all rows; return the number of counted messages."""
    removed = db.execute(delete(dead_letters).returning(dead_letters.c.count)).scalars().all()
    return sum(removed)
