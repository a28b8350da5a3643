"""Queries that find customers, cards, subscriptions, charges and attempts, each by an index and up to a limit."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Label,
    Select,
    Table,
    Text,
    func,
    literal,
    literal_column,
    select,
    text,
    union_all,
)
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from schedules.charging.charges import AttemptState, ChargeStatus, SubscriptionStatus
from schedules.dunning.declines import DeclineClass
from worker.store.rows import read_all, read_first
from worker.store.tables import (
    archived_attempts,
    attempts,
    billing_keys,
    charges,
    customers,
    refunds,
    requests,
    subscriptions,
)
from worker.store.tables.charges import EXTERNAL_REF
from worker.store.tables.customers import CUSTOMER_UID, EMAIL, LAST_DIGITS, NAME, TEL_BACKWARDS

LAST = "\U0010ffff"  # by bytes, behind every other character
SUBSCRIPTIONS_COUNTED = 100  # of a customer
KEY = "key"


@dataclass(frozen=True, slots=True)
class FoundCustomer:
    """A customer who was found."""

    id: int
    reference: str  # the customer_uid of the first card
    name: str | None
    email: str | None
    tel: str | None
    statuses: Sequence[str]  # of the subscriptions


def customers_by_name(db: Connection, prefix: str, limit: int) -> list[FoundCustomer]:
    """Return the customers whose name begins so, in any case, by name."""
    return _customers(db, _begins(customers, NAME, prefix, limit))


def customers_by_email(db: Connection, prefix: str, limit: int) -> list[FoundCustomer]:
    """Return the customers whose e-mail address begins so, in any case, by address."""
    return _customers(db, _begins(customers, EMAIL, prefix, limit))


def customers_by_tel(db: Connection, last_digits: str, limit: int) -> list[FoundCustomer]:
    """Return the customers whose telephone number ends with these digits."""
    return _customers(db, _begins(customers, TEL_BACKWARDS, last_digits[::-1], limit))


def _customers(db: Connection, found: Select[Any]) -> list[FoundCustomer]:
    these, c = found.subquery("these"), customers.c
    query = select(c.id, c.reference, c.name, c.email, c.tel, _statuses())
    query = query.join_from(these, customers, c.id == these.c.id)
    return read_all(FoundCustomer, db.execute(query.order_by(these.c.searched, c.id)))


@dataclass(frozen=True, slots=True)
class FoundCard:
    """A stored card that was found, with its customer."""

    customer_id: int
    customer_uid: str
    reference: str  # the customer_uid of the customer's first card
    name: str | None
    card_name: str | None
    card_number: str | None  # masked
    stopped_as: DeclineClass | None
    deleted_at: datetime | None
    statuses: Sequence[str]  # of the customer's subscriptions


def card_by_uid(db: Connection, customer_uids: Sequence[str]) -> FoundCard | None:
    """Return the card with the first of these customer_uids that is known."""
    k = billing_keys.c
    query = select(k.id, k.customer_uid.label("searched")).where(k.customer_uid.in_(customer_uids))
    rows = {row.customer_uid: row for row in _cards(db, query)}
    return next((rows[uid] for uid in customer_uids if uid in rows), None)


def cards_by_prefix(db: Connection, prefix: str, limit: int) -> list[FoundCard]:
    """Return the cards whose customer_uid begins so, in any case, by customer_uid."""
    return _cards(db, _begins(billing_keys, CUSTOMER_UID, prefix, limit))


def cards_by_last_digits(db: Connection, digits: str, limit: int) -> list[FoundCard]:
    """Return the cards whose masked number ends with these four digits."""
    k, last = billing_keys.c, literal_column(LAST_DIGITS, Text)
    return _cards(db, select(k.id, k.id.label("searched")).where(last == digits).limit(limit))


def _cards(db: Connection, found: Select[Any]) -> list[FoundCard]:
    these, k, c = found.subquery("these"), billing_keys.c, customers.c
    query = select(k.customer_id, k.customer_uid, k.card_name, k.card_number, k.stopped_as, k.deleted_at)
    query = query.add_columns(c.reference, c.name, _statuses()).join_from(these, billing_keys, k.id == these.c.id)
    query = query.join(customers, c.id == k.customer_id)
    return read_all(FoundCard, db.execute(query.order_by(these.c.searched, k.id)))


def _statuses() -> Label[Any]:
    s = subscriptions.c
    of_customer = select(s.status).where(s.customer_id == customers.c.id).limit(SUBSCRIPTIONS_COUNTED)
    return func.array(of_customer.scalar_subquery()).label("statuses")


@dataclass(frozen=True, slots=True)
class FoundSubscription:
    """A subscription that was found, with its customer."""

    key: str
    customer_uid: str
    name: str | None
    plan_code: str
    status: SubscriptionStatus
    held_why: str | None


def subscription_by_key(db: Connection, key: str) -> list[FoundSubscription]:
    """Return the subscription with this key."""
    s = subscriptions.c
    return _subscriptions(db, select(s.id, s.key.label("searched")).where(s.key == key))


def subscriptions_by_ref(db: Connection, external_refs: Sequence[str]) -> list[FoundSubscription]:
    """Return the subscriptions with these references of the former system."""
    s = subscriptions.c
    return _subscriptions(
        db, select(s.id, s.external_ref.label("searched")).where(s.external_ref.in_(external_refs))
    )


def subscriptions_by_key_prefix(db: Connection, prefix: str, limit: int) -> list[FoundSubscription]:
    """Return the subscriptions whose key begins so, by key."""
    return _subscriptions(db, _begins(subscriptions, KEY, prefix, limit))


def subscriptions_by_ref_prefix(db: Connection, prefix: str, limit: int) -> list[FoundSubscription]:
    """Return the subscriptions whose reference of the former system begins so, in any case, by reference."""
    return _subscriptions(db, _begins(subscriptions, EXTERNAL_REF, prefix, limit))


def _subscriptions(db: Connection, found: Select[Any]) -> list[FoundSubscription]:
    these, s, k, c = found.subquery("these"), subscriptions.c, billing_keys.c, customers.c
    query = select(s.key, s.plan_code, s.status, s.held_why, k.customer_uid, c.name)
    query = query.join_from(these, subscriptions, s.id == these.c.id)
    query = query.join(billing_keys, k.id == s.billing_key_id).join(customers, c.id == s.customer_id)
    return read_all(FoundSubscription, db.execute(query.order_by(these.c.searched, s.id)))


@dataclass(frozen=True, slots=True)
class FoundCharge:
    """A charge that was found, with its customer."""

    key: str
    customer_uid: str
    name: str | None
    amount: int
    currency: str
    status: ChargeStatus
    due_at: datetime
    held_why: str | None


def charge_by_key(db: Connection, key: str) -> list[FoundCharge]:
    """Return the charge with this key."""
    return _charges(db, select(charges.c.id).where(charges.c.key == key))


def charges_by_request(db: Connection, request_keys: Sequence[str]) -> list[FoundCharge]:
    """Return the charges with these request keys."""
    return _charges(db, select(charges.c.id).where(charges.c.request_key.in_(request_keys)))


def charges_by_refund(db: Connection, request_keys: Sequence[str]) -> list[FoundCharge]:
    """Return the charges whose refunds have these request keys."""
    r = refunds.c
    return _charges(db, select(r.charge_id.label("id")).where(r.request_key.in_(request_keys)))


def _charges(db: Connection, found: Select[Any]) -> list[FoundCharge]:
    these, c, k, p = found.subquery("these"), charges.c, billing_keys.c, customers.c
    query = select(c.key, c.amount, c.currency, c.status, c.due_at, c.held_why, k.customer_uid, p.name)
    query = query.join_from(these, charges, c.id == these.c.id)
    query = query.join(billing_keys, k.id == c.billing_key_id).join(customers, p.id == k.customer_id)
    return read_all(FoundCharge, db.execute(query.order_by(c.id)))


@dataclass(frozen=True, slots=True)
class FoundAttempt:
    """An attempt that was found, archived or not, with its customer."""

    merchant_uid: str
    customer_uid: str
    name: str | None
    amount: int
    currency: str
    state: AttemptState
    last_sent_at: datetime


def attempts_by_uid(db: Connection, merchant_uid: str) -> list[FoundAttempt]:
    """Return the attempt with this merchant_uid."""
    return _attempts(db, "merchant_uid", (merchant_uid,))


def attempts_by_imp_uid(db: Connection, imp_uids: Sequence[str]) -> list[FoundAttempt]:
    """Return the attempts whose payment has one of these numbers at the gateway."""
    return _attempts(db, "imp_uid", imp_uids)


def card_of_attempt(attempt: ReadOnlyColumnCollection[str, Any]) -> ColumnElement[int]:
    """Return the card that an attempt was sent with; that of a typed-in card is not stored, then its charge's."""
    return func.coalesce(attempt.billing_key_id, charges.c.billing_key_id)


def _attempts(db: Connection, column: str, values: Sequence[str]) -> list[FoundAttempt]:
    names = ("charge_id", "billing_key_id", "merchant_uid", "amount", "currency", "state", "last_sent_at")
    both = union_all(
        *(
            select(*(table.c[name] for name in names)).where(table.c[column].in_(values))
            for table in (attempts, archived_attempts)
        )
    ).subquery("these")
    a, c, k, p = both.c, charges.c, billing_keys.c, customers.c
    query = select(a.merchant_uid, a.amount, a.currency, a.state, a.last_sent_at, k.customer_uid, p.name)
    query = query.join_from(both, charges, c.id == a.charge_id)
    query = query.join(billing_keys, k.id == card_of_attempt(a)).join(customers, p.id == k.customer_id)
    return read_all(FoundAttempt, db.execute(query.order_by(a.last_sent_at)))


@dataclass(frozen=True, slots=True)
class FoundRequest:
    """What a request answered that was carried out under a request key."""

    subscription: str | None
    charge: str | None
    key: str | None  # of a charge or a subscription
    customer_uid: str | None


def request_by_key(db: Connection, request_keys: Sequence[str]) -> FoundRequest | None:
    """Return what the request with one of these keys answered."""
    r = requests.c
    names = ("subscription", "charge", "key", "customer_uid")
    query = select(*(r.answer[name].astext.label(name) for name in names)).where(r.request_key.in_(request_keys))
    return read_first(FoundRequest, db.execute(query.limit(1)))


def _begins(table: Table, expression: str, prefix: str, limit: int) -> Select[Any]:
    """The first rows for which an expression begins so. It is compared by bytes: no character has a meaning."""
    own = literal_column(expression, Text)
    least, most = (func.lower(literal(bound, Text)) for bound in (prefix, prefix + LAST))
    return (
        select(table.c.id, own.label("searched"))
        .where(own.bool_op("~>=~")(least), own.bool_op("~<~")(most))
        .order_by(text(f"{expression} USING ~<~"))
        .limit(limit)
    )
