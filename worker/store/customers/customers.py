"""Queries of customers and their billing keys."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TypedDict, Unpack

from sqlalchemy import Connection, and_, exists, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert

from schedules.dunning.declines import DeclineClass
from schedules.texts import forms
from worker.store.rows import read_all
from worker.store.tables import OWED, billing_keys, charges, customers


class KeyColumns(TypedDict, total=False):
    """The columns of a billing key that are written; one that is left out keeps its value."""

    account: str
    pg_provider: str | None
    pg_id: str | None
    card_name: str | None
    card_number: str | None
    seen_updated_at: datetime | None
    changed_at: datetime
    deleted_at: datetime | None
    stopped_as: str | None
    expires_on: date | None
    tell_expiry_at: datetime | None
    ask_at: datetime | None
    unclear_since: datetime | None


# The columns of a card's facts, empty.
NO_FACTS: KeyColumns = {
    "pg_provider": None,
    "pg_id": None,
    "card_name": None,
    "card_number": None,
    "seen_updated_at": None,
}


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A billing key and its customer."""

    id: int
    customer_id: int
    customer_uid: str
    account: str
    deleted_at: datetime | None


def add(
    db: Connection, reference: str, name: str | None, email: str | None, tel: str | None, now: datetime
) -> int:
    """Insert a customer, or return the existing one with this reference."""
    row = {"reference": reference, "name": name, "email": email, "tel": tel, "created_at": now}
    written = insert(customers).values(row).on_conflict_do_nothing().returning(customers.c.id)
    customer_id = db.execute(written).scalar()
    if customer_id is None:
        customer_id = db.execute(select(customers.c.id).where(customers.c.reference == reference)).scalar_one()
    return int(customer_id)


def add_key(
    db: Connection,
    customer_id: int,
    customer_uid: str,
    account: str,
    card: KeyColumns,
    now: datetime,
) -> int:
    """Insert a billing key, or return the existing one with this customer_uid unchanged."""
    row = {"customer_id": customer_id, "customer_uid": customer_uid, "account": account, "created_at": now, **card}
    written = insert(billing_keys).values(row).on_conflict_do_nothing().returning(billing_keys.c.id)
    key_id = db.execute(written).scalar()
    if key_id is None:
        same = billing_keys.c.customer_uid == customer_uid
        key_id = db.execute(select(billing_keys.c.id).where(same)).scalar_one()
    return int(key_id)


def unclear_since(db: Connection, key_id: int) -> datetime | None:
    """Return since when it is unknown whether a typed-in card is stored under this key."""
    since: datetime | None = db.scalar(select(billing_keys.c.unclear_since).where(billing_keys.c.id == key_id))
    return since


def key_by_uid(db: Connection, customer_uid: str, *, lock: bool = False) -> StoredKey | None:
    """Return the billing key with this customer_uid, optionally locked until the transaction ends.

    A key stored in another normal form is found too; its stored customer_uid is the one that the gateway has.
    """
    c = billing_keys.c
    query = select(c.id, c.customer_id, c.customer_uid, c.account, c.deleted_at)
    query = query.where(c.customer_uid.in_(forms(customer_uid)))
    query = query.order_by((c.customer_uid == customer_uid).desc()).limit(1)
    row = db.execute(query.with_for_update() if lock else query).first()
    return StoredKey(*row) if row else None


def lock_keys(db: Connection, customer_uids: Collection[str]) -> list[StoredKey]:
    """Return the existing ones of these billing keys, locked until the transaction ends, ordered by id."""
    c = billing_keys.c
    query = select(c.id, c.customer_id, c.customer_uid, c.account, c.deleted_at)
    uids = [form for uid in customer_uids for form in forms(uid)]
    query = query.where(c.customer_uid.in_(uids)).order_by(c.id).with_for_update()
    return [StoredKey(*row) for row in db.execute(query)]


def key_by_id(db: Connection, key_id: int) -> StoredKey | None:
    """The billing key with this row id."""
    c = billing_keys.c
    query = select(c.id, c.customer_id, c.customer_uid, c.account, c.deleted_at).where(c.id == key_id)
    row = db.execute(query).first()
    return StoredKey(*row) if row else None


def change_key(db: Connection, key_id: int, **values: Unpack[KeyColumns]) -> None:
    """Write these columns of one billing key."""
    db.execute(update(billing_keys).where(billing_keys.c.id == key_id).values(**values))


@dataclass(frozen=True, slots=True)
class CardFacts:
    """The facts of a billing key's card."""

    pg_provider: str | None
    pg_id: str | None
    card_name: str | None
    card_number: str | None  # masked
    seen_updated_at: datetime | None
    changed_at: datetime | None
    unclear_since: datetime | None


def card_facts(db: Connection, key_id: int) -> CardFacts:
    """Return the facts of a billing key's card."""
    (facts,) = read_all(CardFacts, db.execute(select(billing_keys).where(billing_keys.c.id == key_id)))
    return facts


def expires_on(db: Connection, key_id: int) -> date | None:
    """Return the last day of a billing key's card, if it is known."""
    found: date | None = db.execute(
        select(billing_keys.c.expires_on).where(billing_keys.c.id == key_id)
    ).scalar_one()
    return found


def take_expiring(db: Connection, now: datetime, limit: int) -> Sequence[tuple[int, str, date]]:
    """Lock the billing keys whose expiry notice is due: row id, customer_uid, last day."""
    c = billing_keys.c
    query = (
        select(c.id, c.customer_uid, c.expires_on)
        .where(c.tell_expiry_at.is_not(None), c.tell_expiry_at <= now)
        .order_by(c.tell_expiry_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [(row.id, row.customer_uid, row.expires_on) for row in db.execute(query)]


def take_to_ask(
    db: Connection, account: str, now: datetime, again_at: datetime, unclear_again_at: datetime, limit: int
) -> Sequence[str]:
    """Return the cards of an account whose look-up is due, and set the next look-up of each.

    A card is looked up while charges wait for it, while its facts are missing, and more often while it is unknown
    whether it is stored. Other cards are not looked up again.
    """
    c = billing_keys.c
    waits = exists().where(charges.c.billing_key_id == c.id, text(OWED), charges.c.waits.is_not(None))
    is_unread = and_(c.deleted_at.is_(None), *(c[name].is_(None) for name in NO_FACTS))
    query = (
        select(c.id, c.customer_uid, c.unclear_since)
        .add_columns(or_(waits, is_unread, c.unclear_since.is_not(None)).label("waits"))
        .where(c.account == account, c.ask_at.is_not(None), c.ask_at <= now)
        .order_by(c.ask_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rows = list(db.execute(query))
    for row in rows:
        later = again_at if row.unclear_since is None else unclear_again_at
        change_key(db, row.id, ask_at=later if row.waits else None)
    return [row.customer_uid for row in rows if row.waits]


def ask_at_latest(db: Connection, customer_uids: Sequence[str], at: datetime) -> None:
    """Have these cards, which `take_to_ask` returned, looked up at `at` and no later."""
    c = billing_keys.c
    query = update(billing_keys).where(c.customer_uid.in_(customer_uids), c.ask_at > at)
    db.execute(query.values(ask_at=at))


def stopped_as(db: Connection, key_ids: Sequence[int]) -> dict[int, DeclineClass]:
    """Return the decline classes after which the cards of these billing keys are not tried, by row id."""
    k = billing_keys.c
    query = select(k.id, k.stopped_as).where(k.id.in_(key_ids), k.stopped_as.is_not(None))
    return {row.id: DeclineClass(row.stopped_as) for row in db.execute(query)}


def stopped_now(db: Connection, key_id: int) -> DeclineClass | None:
    """As `stopped_as`, of one billing key, which is locked; None when another transaction has it locked."""
    query = select(billing_keys.c.stopped_as).where(billing_keys.c.id == key_id)
    found = db.execute(query.with_for_update(skip_locked=True)).scalar_one_or_none()
    return DeclineClass(found) if found is not None else None


def waited_for(db: Connection, customer_uids: Sequence[str]) -> Sequence[str]:
    """Return the known ones of these billing keys for which charges wait."""
    c = billing_keys.c
    waits = exists().where(charges.c.billing_key_id == c.id, text(OWED), charges.c.waits.is_not(None))
    return list(db.execute(select(c.customer_uid).where(c.customer_uid.in_(customer_uids), waits)).scalars())


def usable(db: Connection, customer_uids: Collection[str]) -> dict[str, str]:
    """Return the known and not deleted ones of these billing keys, each with its stored customer_uid."""
    c = billing_keys.c
    uids = [form for uid in customer_uids for form in forms(uid)]
    query = select(c.customer_uid).where(c.customer_uid.in_(uids), c.deleted_at.is_(None))
    found = set(db.execute(query).scalars())
    asked = ((uid, next((form for form in forms(uid) if form in found), None)) for uid in customer_uids)
    return {uid: stored for uid, stored in asked if stored is not None}
