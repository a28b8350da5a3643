"""Queries of processes: one row for each start, updated by heartbeats; all times are by the database's clock."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from schedules.operations.health import ProcessKind, ProcessSeen

KEPT_HOURS = 24  # age of the last heartbeat at which a row is deleted
MOST_KEPT = 1000  # rows at most
_REPORT = text(
    """
    INSERT INTO processes AS process (id, kind, host, pid, version, queues, started_at, seen_at, progress_at,
        leads, plans, clock_ahead, check_seconds, obstacle)
    VALUES (:id, :kind, :host, :pid, :version, :queues, clock_timestamp(), clock_timestamp(),
        clock_timestamp() - make_interval(secs => :idle), :leads, :plans, :clock_ahead, :check_seconds, :obstacle)
    ON CONFLICT (id) DO UPDATE
    SET seen_at = excluded.seen_at, progress_at = excluded.progress_at, leads = excluded.leads,
        plans = excluded.plans, clock_ahead = excluded.clock_ahead, check_seconds = excluded.check_seconds,
        obstacle = excluded.obstacle
    """
)
_END = text("UPDATE processes SET ended_at = clock_timestamp(), leads = false WHERE id = :id")
_FORGET = text(
    """
    DELETE FROM processes
    WHERE seen_at < clock_timestamp() - make_interval(hours => :hours)
        OR seen_at < (SELECT seen_at FROM processes ORDER BY seen_at DESC OFFSET :most LIMIT 1)
    """
)
_SEEN = text(
    """
    SELECT kind, host, pid, version, queues, started_at, seen_at, leads, plans, clock_ahead, check_seconds,
        obstacle,
        ended_at IS NOT NULL AS ended,
        extract(epoch FROM clock_timestamp() - started_at)::float8 AS started_ago,
        extract(epoch FROM clock_timestamp() - seen_at)::float8 AS seconds_ago,
        extract(epoch FROM clock_timestamp() - progress_at)::float8 AS progress_ago
    FROM processes ORDER BY started_at, id
    """
)


@dataclass(frozen=True, slots=True)
class Report:
    """The content of a heartbeat."""

    id: str
    kind: ProcessKind
    host: str
    pid: int
    version: str
    queues: Sequence[str]
    idle: float  # seconds since it last finished a message, check or tick
    clock_ahead: float  # seconds
    check_seconds: float
    obstacle: str | None
    leads: bool = False
    plans: int = 0


def report(db: Connection, its: Report) -> None:
    """Write a start or a heartbeat."""
    fields: dict[str, Any] = {name: getattr(its, name) for name in its.__slots__}
    db.execute(_REPORT, fields | {"kind": its.kind.value, "queues": list(its.queues)})


def end(db: Connection, process_id: str) -> None:
    """Write that a process stopped after a stop signal."""
    db.execute(_END, {"id": process_id})


def forget(db: Connection) -> None:
    """Delete the rows without a recent heartbeat, and the oldest beyond the limit."""
    db.execute(_FORGET, {"hours": KEPT_HOURS, "most": MOST_KEPT})


def seen(db: Connection) -> list[ProcessSeen]:
    """Return every stored start, oldest first."""
    return [ProcessSeen(**row) for row in db.execute(_SEEN).mappings()]
