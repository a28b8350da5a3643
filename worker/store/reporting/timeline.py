"""Queries for display: the history of a subscription, a charge or a merchant_uid."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Connection, Table, select, union_all

from schedules.charging.identity import SUBJECT_LENGTH
from worker.store.tables import (
    archived_attempt_events,
    archived_attempts,
    archived_outbox,
    attempt_events,
    attempts,
    audit,
    billing_keys,
    charges,
    outbox,
    policies,
    subscriptions,
)


def charge_row(db: Connection, key: str) -> dict[str, Any] | None:
    """A charge with its customer_uid and its subscription's key."""
    query = (
        select(charges, billing_keys.c.customer_uid, subscriptions.c.key.label("subscription"))
        .add_columns(policies.c.code.label("policy"), policies.c.version.label("policy_version"))
        .join_from(charges, billing_keys)
        .join(policies, policies.c.id == charges.c.policy_id)
        .outerjoin(subscriptions, subscriptions.c.id == charges.c.subscription_id)
        .where(charges.c.key == key)
    )
    row = db.execute(query).mappings().first()
    return dict(row) if row else None


def attempts_of(db: Connection, charge_id: int) -> Sequence[dict[str, Any]]:
    """Return the attempts of a charge by number, including archived ones."""
    tables = (attempts, archived_attempts)
    both = union_all(*(select(*_same(t, attempts)).where(t.c.charge_id == charge_id) for t in tables))
    return [dict(row) for row in db.execute(both.order_by("number")).mappings()]


def events_of(db: Connection, charge_id: int) -> Sequence[dict[str, Any]]:
    """Return the events of a charge's attempts in order, including archived ones."""
    pairs = ((attempt_events, attempts), (archived_attempt_events, archived_attempts))
    both = union_all(
        *(
            select(e.c.id, e.c.at, e.c.state, e.c.fence, e.c.words, a.c.merchant_uid, a.c.number)
            .join_from(e, a, a.c.id == e.c.attempt_id)
            .where(a.c.charge_id == charge_id)
            for e, a in pairs
        )
    )
    return [dict(row) for row in db.execute(both.order_by("id")).mappings()]


def notices_of(db: Connection, subject: str) -> Sequence[dict[str, Any]]:
    """Return the notices about a charge or subscription in order, including archived ones."""
    tables = (outbox, archived_outbox)
    both = union_all(*(select(*_same(t, outbox)).where(t.c.subject == subject) for t in tables))
    return [dict(row) for row in db.execute(both.order_by("id")).mappings()]


def _same(table: Table, like: Table) -> list[Column[Any]]:
    """Return a table's columns in the order of another's, for a union."""
    return [table.c[column.name] for column in like.c]


def audit_of(db: Connection, subject: str) -> Sequence[dict[str, Any]]:
    """Return the audit entries of a subject, in order."""
    query = select(audit).where(audit.c.subject == subject).order_by(audit.c.id)
    return [dict(row) for row in db.execute(query).mappings()]


@dataclass(frozen=True, slots=True)
class Acts:
    """The filter of audit entries."""

    subject: str | None = None
    actor: str | None = None
    verb: str | None = None
    since: datetime | None = None


def audit_page(db: Connection, wanted: Acts, limit: int) -> Sequence[dict[str, Any]]:
    """Return the newest audit entries, newest first."""
    a = audit.c
    query = select(audit).order_by(a.id.desc()).limit(limit)
    for column, value in ((a.subject, wanted.subject), (a.actor, wanted.actor), (a.verb, wanted.verb)):
        if value is not None:
            query = query.where(column == value)
    if wanted.since is not None:
        query = query.where(a.at >= wanted.since)
    return [dict(row) for row in db.execute(query).mappings()]


def columns_of(db: Connection, key: str | None) -> dict[str, Any] | None:
    """Return every column of the subscription or charge with this key; None when there is none."""
    if key is None:
        return None
    table = subscriptions if len(key) == SUBJECT_LENGTH else charges
    row = db.execute(select(table).where(table.c.key == key)).mappings().first()
    return dict(row) if row else None
