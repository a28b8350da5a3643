"""The outbox and the audit: insert events for the shop, and record what people did."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, func, insert, select, text, union_all
from sqlalchemy.dialects.postgresql import insert as insert_or

from schedules.outbox.events import VERSION, Event, payload
from worker.store.tables import archived_attempt_events, archived_outbox, attempt_events, audit, outbox

_EVENTS = (attempt_events, archived_attempt_events)
_INSERT_EVENT = insert_or(outbox).on_conflict_do_nothing(constraint="one_notice_for_each_change")


def enqueue_event(db: Connection, event: Event, dedupe: str, now: datetime) -> None:
    """Enqueue one event; a second one with the same dedupe key is skipped.

    The key identifies the change permanently and in every database, because the receiver deduplicates by it. It is
    made of keys and uids, never of a row id.
    """
    row = {
        "kind": event.kind,
        "subject": event.subject,
        "dedupe_key": dedupe,
        "payload": payload(event),
        "version": VERSION,
        "created_at": now,
        "next_try_at": now,
    }
    db.execute(_INSERT_EVENT, row)


def is_enqueued(db: Connection, dedupe: str) -> bool:
    """Whether the outbox has an event with this dedupe key, without archived ones."""
    return db.execute(select(outbox.c.id).where(outbox.c.dedupe_key == dedupe)).first() is not None


def count(db: Connection, kind: str, subjects: Sequence[str]) -> dict[str, int]:
    """Return the number of notices of a kind about each of these subjects, including archived ones."""
    if not subjects:
        return {}
    found = union_all(*(
        select(o.c.subject).where(o.c.kind == kind, o.c.subject.in_(subjects)) for o in (outbox, archived_outbox)
    )).subquery()  # fmt: skip
    query = select(found.c.subject, func.count()).group_by(found.c.subject)
    return {subject: int(many) for subject, many in db.execute(query)}


def newest_event(db: Connection) -> tuple[int, datetime] | None:
    """Return the number and time of the newest attempt event; the number only rises.

    It may be in the archive, if the shop had no attempts for months.
    """
    newest_of = (select(e.c.id, e.c.at).order_by(e.c.id.desc()).limit(1).subquery() for e in _EVENTS)
    row = db.execute(union_all(*(select(each) for each in newest_of)).order_by(text("id DESC")).limit(1)).first()
    return (row.id, row.at) if row else None


def has_event(db: Connection, number: int, at: datetime) -> bool:
    """Whether this database has this attempt event, including archived ones."""
    found = union_all(*(select(e.c.id).where(e.c.id == number, e.c.at == at) for e in _EVENTS))
    return db.execute(found).first() is not None


def newest(db: Connection) -> datetime | None:
    """Return the time of the newest attempt event or, without one, of the newest audit entry.

    Acts of people after a restore must not make the database look newer than its backup.
    """
    event = newest_event(db)
    acts = select(audit.c.at).order_by(audit.c.id.desc()).limit(1)
    return event[1] if event is not None else db.execute(acts).scalar()


def record(
    db: Connection, actor: str, verb: str, subject: str, why: str | None, now: datetime, **details: object
) -> None:
    """Record in the audit who did what to which subject, and why."""
    row = {"at": now, "actor": actor, "verb": verb, "subject": subject, "why": why, "details": details}
    db.execute(insert(audit).values(row))
