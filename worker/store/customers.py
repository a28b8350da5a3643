"""Customers and their billing keys as rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from worker.store.schema import billing_keys, customers


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A billing key and whose it is."""

    id: int
    customer_id: int
    customer_uid: str
    account: str
    deleted_at: datetime | None


def add(
    db: Connection, reference: str, name: str | None, email: str | None, tel: str | None, now: datetime
) -> int:
    """Write a customer, or answer the one that the shop already calls by this reference."""
    existing = db.execute(select(customers.c.id).where(customers.c.reference == reference)).scalar()
    if existing is not None:
        return int(existing)
    row = {"reference": reference, "name": name, "email": email, "tel": tel, "created_at": now}
    return int(db.execute(insert(customers).values(row).returning(customers.c.id)).scalar_one())


def add_key(
    db: Connection,
    customer_id: int,
    customer_uid: str,
    account: str,
    card: dict[str, str | None],
    now: datetime,
) -> int:
    """Write a billing key with its masked card facts (pg_provider, pg_id, card_name, card_number)."""
    row = {"customer_id": customer_id, "customer_uid": customer_uid, "account": account, "created_at": now}
    return int(db.execute(insert(billing_keys).values(row | card).returning(billing_keys.c.id)).scalar_one())


def key_by_uid(db: Connection, customer_uid: str, *, lock: bool = False) -> StoredKey | None:
    """The billing key with this customer_uid, locked until the transaction ends if asked for."""
    c = billing_keys.c
    query = select(c.id, c.customer_id, c.customer_uid, c.account, c.deleted_at)
    query = query.where(c.customer_uid == customer_uid)
    row = db.execute(query.with_for_update() if lock else query).first()
    return StoredKey(*row) if row else None


def change_key(db: Connection, key_id: int, **values: object) -> None:
    """Write these columns of one billing key."""
    db.execute(update(billing_keys).where(billing_keys.c.id == key_id).values(**values))


def card_facts(db: Connection, key_id: int) -> dict[str, Any]:
    """What is known of the card behind a billing key."""
    c = billing_keys.c
    query = select(c.pg_provider, c.pg_id, c.card_name, c.card_number, c.changed_at, c.stopped_as, c.expires_on)
    return dict(db.execute(query.where(c.id == key_id)).mappings().one())


def take_expiring(db: Connection, now: datetime, limit: int) -> Sequence[tuple[int, str, date]]:
    """Lock the billing keys of which it is to be told that the card expires: row id, customer_uid, last day."""
    c = billing_keys.c
    query = (
        select(c.id, c.customer_uid, c.expires_on)
        .where(c.tell_expiry_at.is_not(None), c.tell_expiry_at <= now)
        .order_by(c.tell_expiry_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [(row.id, row.customer_uid, row.expires_on) for row in db.execute(query)]
