"""Reading for people: everything that happened to a subscription, a charge or a merchant_uid, in order."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from schedules.identity import SUBJECT_LENGTH
from worker.store.schema import (
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
    """The attempts at a charge by number."""
    query = select(attempts).where(attempts.c.charge_id == charge_id).order_by(attempts.c.number)
    return [dict(row) for row in db.execute(query).mappings()]


def events_of(db: Connection, charge_id: int) -> Sequence[dict[str, Any]]:
    """What happened to the attempts at a charge, in order."""
    e = attempt_events.c
    query = (
        select(e.at, e.state, e.fence, e.words, attempts.c.merchant_uid, attempts.c.number)
        .join_from(attempt_events, attempts)
        .where(attempts.c.charge_id == charge_id)
        .order_by(e.id)
    )
    return [dict(row) for row in db.execute(query).mappings()]


def notices_of(db: Connection, subject: str) -> Sequence[dict[str, Any]]:
    """The notices owed about a charge or subscription, in order."""
    query = select(outbox).where(outbox.c.subject == subject).order_by(outbox.c.id)
    return [dict(row) for row in db.execute(query).mappings()]


def audit_of(db: Connection, subject: str) -> Sequence[dict[str, Any]]:
    """What people did to a subject, in order."""
    query = select(audit).where(audit.c.subject == subject).order_by(audit.c.id)
    return [dict(row) for row in db.execute(query).mappings()]


@dataclass(frozen=True, slots=True)
class Acts:
    """Which of the things that people did."""

    subject: str | None = None
    actor: str | None = None
    verb: str | None = None
    since: datetime | None = None


def audit_page(db: Connection, wanted: Acts, limit: int) -> Sequence[dict[str, Any]]:
    """The newest things that people did, newest first."""
    a = audit.c
    query = select(audit).order_by(a.id.desc()).limit(limit)
    for column, value in ((a.subject, wanted.subject), (a.actor, wanted.actor), (a.verb, wanted.verb)):
        if value is not None:
            query = query.where(column == value)
    if wanted.since is not None:
        query = query.where(a.at >= wanted.since)
    return [dict(row) for row in db.execute(query).mappings()]


def columns_of(db: Connection, key: str | None) -> dict[str, Any] | None:
    """Every column of the subscription or charge with this key; None when there is none."""
    if key is None:
        return None
    table = subscriptions if len(key) == SUBJECT_LENGTH else charges
    row = db.execute(select(table).where(table.c.key == key)).mappings().first()
    return dict(row) if row else None
