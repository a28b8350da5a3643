"""Queries for display: the history of a subscription, a charge or a merchant_uid."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Column, Connection, Table, func, select, text, union_all

from schedules.charging.charges import (
    AttemptState,
    ChargeKind,
    ChargeStatus,
    KeyedIn,
    SubscriptionStatus,
    TriedBy,
)
from schedules.charging.identity import SUBJECT_LENGTH
from schedules.dunning.declines import DeclineClass
from schedules.dunning.policies import FinalAction
from schedules.outbox.events import CardNeedsUpdate
from worker.store.rows import read_all, read_first
from worker.store.tables import (
    OWED,
    archived_attempts,
    archived_outbox,
    attempts,
    audit,
    billing_keys,
    charges,
    outbox,
    policies,
    subscriptions,
)

MOST_LIVE = 100  # subscriptions of a customer whose standings are answered together


@dataclass(frozen=True, slots=True)
class ChargeRow:
    """A charge as it is shown."""

    id: int
    key: str
    kind: ChargeKind
    period_no: int
    amount: int
    currency: str
    status: ChargeStatus
    due_at: datetime
    next_attempt_at: datetime | None
    held_why: str | None
    closed_at: datetime | None
    closed_why: str | None
    created_at: datetime
    subscription: str | None  # its key
    customer_uid: str
    account: str
    name: str
    policy: str  # its code
    policy_version: int
    attempts: int
    declines: int
    technical_tries: int
    refusals: int
    manual_tries: int
    first_declined_at: datetime | None
    waits: str | None
    given_up: FinalAction | None
    look_at: datetime | None
    request_key: str | None
    refunded: int
    keyed_in: KeyedIn | None
    archived_at: datetime | None


_CHARGES = (
    select(charges, billing_keys.c.customer_uid, subscriptions.c.key.label("subscription"))
    .add_columns(policies.c.code.label("policy"), policies.c.version.label("policy_version"))
    .join_from(charges, billing_keys)
    .join(policies, policies.c.id == charges.c.policy_id)
    .outerjoin(subscriptions, subscriptions.c.id == charges.c.subscription_id)
)


def charge_row(db: Connection, key: str) -> ChargeRow | None:
    """The charge with this key."""
    return read_first(ChargeRow, db.execute(_CHARGES.where(charges.c.key == key)))


def charges_of(db: Connection, subscription_id: int, limit: int | None = None) -> list[ChargeRow]:
    """The charges of a subscription by period; the newest `limit` of them."""
    query = _CHARGES.where(charges.c.subscription_id == subscription_id).order_by(charges.c.period_no.desc())
    return read_all(ChargeRow, db.execute(query.limit(limit)))[::-1]


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """An attempt as it is shown."""

    merchant_uid: str
    state: AttemptState
    sends: int
    asks: int
    imp_uid: str | None
    reason: str | None
    decline_class: DeclineClass | None
    decline_rule: str | None
    tried_by: TriedBy | None
    lease_until: datetime | None
    next_ask_at: datetime | None
    settled_at: datetime | None


def newest_of_card(db: Connection, billing_key_id: int) -> list[int]:
    """Return the row id of a billing key's newest charge, if it has one."""
    c = charges.c
    # By due time: by id, the planner could read all newer charges of other cards.
    query = select(c.id).where(c.billing_key_id == billing_key_id).order_by(c.due_at.desc()).limit(1)
    return list(db.execute(query).scalars())


@dataclass(frozen=True, slots=True)
class CardStop:
    """A card, and the decline after which it is not tried."""

    customer_uid: str
    card_name: str | None
    card_number: str | None
    expires_on: date | None
    stopped_as: DeclineClass | None  # None while it may be tried
    declined_at: datetime | None  # when it was last declined so; None when that is not recorded


def card_stop(db: Connection, billing_key_id: int) -> CardStop | None:
    """Return a card with its last decline that only another card, or an act of a person, can answer."""
    k = billing_keys.c
    both = union_all(*(
        select(o.c.created_at)
        .where(o.c.subject == k.customer_uid, o.c.kind == CardNeedsUpdate.kind)
        .where(o.c.payload["reason"].astext.is_not(None))
        .correlate(billing_keys)
        for o in (outbox, archived_outbox)
    )).subquery().lateral()  # fmt: skip
    declined_at = select(func.max(both.c.created_at)).scalar_subquery()
    query = select(billing_keys, declined_at.label("declined_at")).where(k.id == billing_key_id)
    return read_first(CardStop, db.execute(query))


def oldest_owed(db: Connection, subscription_id: int) -> str | None:
    """Return the key of a subscription's oldest open charge that its later charges wait for; None without one."""
    c = charges.c
    query = select(c.key).where(c.subscription_id == subscription_id, text(OWED))
    query = query.where(c.held_why.is_(None), c.given_up.is_distinct_from(FinalAction.KEEP.value))
    return db.execute(query.order_by(c.period_no).limit(1)).scalar()


def owed_or_newest(db: Connection, subscription_id: int) -> list[int]:
    """Return the row ids of a subscription's open charges, oldest first, or else that of its newest charge.

    It reads nothing else of the rows, so that a row that breaks a rule is found too.
    """
    c = charges.c
    query = select(c.id).where(c.subscription_id == subscription_id)
    owed = list(db.execute(query.where(text(OWED)).order_by(c.period_no)).scalars())
    return owed or list(db.execute(query.order_by(c.period_no.desc()).limit(1)).scalars())


def subscriptions_of(db: Connection, customer_id: int) -> list[str]:
    """Return the keys of a customer's subscriptions that have not ended, oldest first, or else of the newest."""
    s = subscriptions.c
    query = select(s.key).where(s.customer_id == customer_id)
    live = (
        query.where(s.status != SubscriptionStatus.CANCELED.value).order_by(s.created_at, s.key).limit(MOST_LIVE)
    )
    found = list(db.execute(live).scalars())
    # By the time: by id, the planner could read all newer subscriptions of other customers.
    return found or list(db.execute(query.order_by(s.created_at.desc(), s.key).limit(1)).scalars())


def attempts_of(db: Connection, charge_id: int) -> list[AttemptRow]:
    """Return the attempts of a charge by number, including archived ones."""
    tables = (attempts, archived_attempts)
    both = union_all(*(select(*_same(t, attempts)).where(t.c.charge_id == charge_id) for t in tables))
    return read_all(AttemptRow, db.execute(both.order_by("number")))


def _same(table: Table, like: Table) -> list[Column[Any]]:
    """Return a table's columns in the order of another's, for a union."""
    return [table.c[column.name] for column in like.c]


@dataclass(frozen=True, slots=True)
class Act:
    """An audit entry: who did what to which, and why."""

    at: datetime
    actor: str
    verb: str
    subject: str
    why: str | None
    details: Mapping[str, object]


def audit_of(db: Connection, subject: str, verbs: str = "") -> list[Act]:
    """Return the audit entries of a subject whose verb has this prefix, in order."""
    a = audit.c
    query = select(audit).where(a.subject == subject, a.verb.startswith(verbs)).order_by(a.id)
    return read_all(Act, db.execute(query))


@dataclass(frozen=True, slots=True)
class Acts:
    """The filter of audit entries."""

    subject: str | None = None
    actor: str | None = None
    verb: str | None = None
    since: datetime | None = None


def audit_page(db: Connection, wanted: Acts, limit: int) -> list[Act]:
    """Return the newest audit entries, newest first."""
    a = audit.c
    query = select(audit).order_by(a.id.desc()).limit(limit)
    for column, value in ((a.subject, wanted.subject), (a.actor, wanted.actor), (a.verb, wanted.verb)):
        if value is not None:
            query = query.where(column == value)
    if wanted.since is not None:
        query = query.where(a.at >= wanted.since)
    return read_all(Act, db.execute(query))


def columns_of(db: Connection, key: str | None) -> Mapping[str, object] | None:
    """Return every column of the subscription or charge with this key, to compare; None when there is none."""
    if key is None:
        return None
    table = subscriptions if len(key) == SUBJECT_LENGTH else charges
    row = db.execute(select(table).where(table.c.key == key)).mappings().first()
    return dict(row) if row else None
