"""Request keys: the verb, its fingerprint and its answer, written in the verb's transaction."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects.postgresql import insert

from worker.store.tables import requests

Answer = dict[str, Any]
"""What a verb answers: a JSON object, whose form is that of the verb."""


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """A row of requests."""

    verb: str
    fingerprint: str
    answer: Answer


def find(db: Connection, request_key: str) -> StoredRequest | None:
    """Return the request with this key."""
    r = requests.c
    row = db.execute(select(r.verb, r.fingerprint, r.answer).where(r.request_key == request_key)).first()
    return StoredRequest(row.verb, row.fingerprint, row.answer) if row else None


def claim(db: Connection, request_key: str, verb: str, fingerprint: str, now: datetime) -> bool:
    """Insert the key; False when one_request_for_each_request_key refuses it.

    A second transaction that claims the same key waits until the first one ends.
    """
    row = {"request_key": request_key, "verb": verb, "fingerprint": fingerprint, "created_at": now}
    statement = insert(requests).values(row)
    statement = statement.on_conflict_do_nothing(constraint="one_request_for_each_request_key")
    return db.execute(statement.returning(requests.c.id)).scalar() is not None


def keep_answer(db: Connection, request_key: str, answer: Answer) -> None:
    """Write the answer of a key that this transaction has claimed."""
    db.execute(update(requests).where(requests.c.request_key == request_key).values(answer=answer))
