"""Queries of takeovers: subscriptions that PortOne's schedules charged until now."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any, TypedDict, Unpack

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects.postgresql import insert

from schedules.requests.imports import Mapped
from worker.store.tables import billing_keys, takeovers


@dataclass(frozen=True, slots=True)
class Takeover:
    """A row of takeovers."""

    id: int
    billing_key_id: int
    customer_id: int
    customer_uid: str
    account: str
    plan_id: int
    plan: str
    subscription_key: str
    mapped: Mapped
    actor: str
    why: str
    another: bool
    taken_at: datetime | None


class NewTakeover(TypedDict):
    """The columns of a takeover that is intended, without those of its schedules."""

    billing_key_id: int
    plan_id: int
    plan: str  # its code
    subscription_key: str
    actor: str
    why: str
    another: bool
    created_at: datetime


def add(db: Connection, row: NewTakeover, found: Mapped) -> bool:
    """Insert the intent; False when one_takeover_for_each_card_and_plan refuses it."""
    entries = [[uid, day.isoformat()] for uid, day in found.dates]
    values = {**row, "entries": entries, "billing_time": found.billing_time}
    statement = insert(takeovers).values(values).on_conflict_do_nothing().returning(takeovers.c.id)
    return db.execute(statement).scalar() is not None


def of_card(db: Connection, billing_key_id: int, plan: str) -> Takeover | None:
    """The takeover of a card's schedules to a plan."""
    t = takeovers.c
    return _one(db, (t.billing_key_id == billing_key_id) & (t.plan == plan))


def is_under_way(db: Connection, subscription_key: str) -> bool:
    """Whether an unfinished takeover will start the subscription with this key."""
    t = takeovers.c
    query = select(t.id).where(t.subscription_key == subscription_key, t.taken_at.is_(None))
    return db.execute(query).first() is not None


def locked(db: Connection, takeover_id: int) -> Takeover | None:
    """A takeover, locked until the transaction ends."""
    return _one(db, takeovers.c.id == takeover_id, lock=True)


def unfinished(db: Connection, account: str, limit: int) -> Sequence[int]:
    """Return the row ids of an account's unfinished takeovers, oldest first."""
    t = takeovers.c
    query = select(t.id).join_from(takeovers, billing_keys)
    query = query.where(t.taken_at.is_(None), billing_keys.c.account == account)
    return list(db.execute(query.order_by(t.id).limit(limit)).scalars())


class TakeoverColumns(TypedDict, total=False):
    """The columns of a takeover that are written later; one that is left out keeps its value."""

    taken_at: datetime
    words: str | None


def change(db: Connection, takeover_id: int, **values: Unpack[TakeoverColumns]) -> None:
    """Write these columns of one takeover."""
    db.execute(update(takeovers).where(takeovers.c.id == takeover_id).values(**values))


def _one(db: Connection, wanted: Any, *, lock: bool = False) -> Takeover | None:
    k = billing_keys.c
    query = select(takeovers, k.customer_uid, k.account, k.customer_id).join_from(takeovers, billing_keys)
    query = query.where(wanted)
    row = db.execute(query.with_for_update(of=takeovers) if lock else query).mappings().first()
    if row is None:
        return None
    billing_time: time = row["billing_time"]
    dates = tuple((str(uid), date.fromisoformat(day)) for uid, day in row["entries"])
    plain = {name: row[name] for name in Takeover.__slots__ if name != "mapped"}
    return Takeover(**plain, mapped=Mapped(billing_time, dates))
