"""What is told: notices to the outside, and the audit of what people did."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select
from sqlalchemy.dialects.postgresql import insert as insert_or

from worker.store.schema import attempt_events, audit, outbox


def owe_notice(
    db: Connection, kind: str, subject: str, dedupe: str, payload: Mapping[str, Any], now: datetime
) -> None:
    """Owe the outside one notice of a change; a second one under the same dedupe key is left out."""
    row = {
        "kind": kind,
        "subject": subject,
        "dedupe_key": dedupe,
        "payload": dict(payload),
        "created_at": now,
    }
    db.execute(insert_or(outbox).values(row).on_conflict_do_nothing(constraint="one_notice_for_each_change"))


def newest_event(db: Connection) -> int:
    """The number of the newest thing that happened to any attempt; it only ever rises."""
    return int(db.execute(select(func.coalesce(func.max(attempt_events.c.id), 0))).scalar_one())


def newest(db: Connection) -> datetime | None:
    """The time of the newest thing that these books know: what a person or a worker did last."""
    events = select(attempt_events.c.at).order_by(attempt_events.c.id.desc()).limit(1)
    acts = select(audit.c.at).order_by(audit.c.id.desc()).limit(1)
    return max((at for query in (events, acts) if (at := db.execute(query).scalar()) is not None), default=None)


def record(
    db: Connection, actor: str, verb: str, subject: str, why: str | None, now: datetime, **details: object
) -> None:
    """Write down who did what to which, and why."""
    row = {"at": now, "actor": actor, "verb": verb, "subject": subject, "why": why, "details": details}
    db.execute(insert(audit).values(row))
