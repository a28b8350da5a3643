"""Exports, each with stable columns: read from one snapshot with a cursor, in pages."""

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, FromClause, Select, Table, select, union_all

from worker.store.tables import (
    archived_attempts,
    archived_outbox,
    attempts,
    audit,
    billing_keys,
    charges,
    customers,
    findings,
    outbox,
    plans,
    policies,
    refunds,
    subscriptions,
)

AT_ONCE = 1000  # rows per fetch


def _queries() -> Mapping[str, Select[Any]]:
    all_attempts, all_notices = (
        _with_archived(attempts, archived_attempts),
        _with_archived(outbox, archived_outbox),
    )
    s, c, a, k = subscriptions.c, charges.c, all_attempts.c, billing_keys.c
    p, f, o, r = plans.c, findings.c, all_notices.c, refunds.c
    return {
        "customers": select(
            customers.c.reference, customers.c.name, customers.c.email, customers.c.tel, k.customer_uid, k.account,
            k.pg_provider, k.pg_id, k.card_name, k.card_number, k.expires_on, k.stopped_as, k.created_at,
            k.changed_at, k.deleted_at,
        ).join_from(billing_keys, customers).order_by(k.id),
        "plans": select(
            p.code, p.version, p.price, p.currency, p.every, p.unit, p.cron, p.zone, p.billing_time, p.trial_days,
            p.statement_name, p.catch_up, p.catch_up_cap, p.shift, p.holidays, p.policy, p.created_at,
            p.archived_at,
        ).order_by(p.id),
        "policies": select(
            policies.c.code, policies.c.version, policies.c.document, policies.c.created_at
        ).order_by(policies.c.id),
        "subscriptions": select(
            s.key, k.customer_uid, p.code.label("plan"), p.version, s.status, s.anchor, s.anchor_no,
            s.anchor_day, s.billing_time,
            s.next_period_no, s.next_period_date, s.next_due_at, s.skip_to, s.ends_at, s.held_why, s.external_ref,
            s.created_at,
        ).join_from(subscriptions, billing_keys).join(plans, p.id == s.plan_id).order_by(s.id),
        "charges": select(
            c.key, c.kind, s.key.label("subscription"), c.period_no, c.request_key, k.customer_uid, c.account,
            c.amount, c.currency, c.name, c.status, c.due_at, c.next_attempt_at, c.held_why, c.attempts,
            c.declines, c.refunded, c.created_at, c.closed_at, c.closed_why,
        ).join_from(charges, billing_keys).outerjoin(subscriptions, s.id == c.subscription_id).order_by(c.id),
        "attempts": select(
            a.merchant_uid, c.key.label("charge"), a.number, a.state, a.amount, a.currency, a.imp_uid,
            a.pg_provider, a.pg_code, a.reason, a.decline_class, a.decline_rule, a.sends, a.created_at,
            a.last_sent_at, a.settled_at,
        ).join_from(all_attempts, charges, c.id == a.charge_id).order_by(a.id),
        "refunds": select(
            r.request_key, c.key.label("charge"), r.merchant_uid, r.imp_uid, r.amount, r.currency, r.state,
            r.reason, r.actor, r.words, r.created_at, r.ended_at,
        ).join_from(refunds, charges, c.id == r.charge_id).order_by(r.id),
        "findings": select(
            f.id, f.kind, f.account, f.merchant_uid, f.imp_uid, f.charge_key, f.amount, f.balance, f.currency,
            f.words, f.state, f.found_at, f.ended_at, f.ended_by, f.ended_why,
        ).order_by(f.id),
        "events": select(
            o.dedupe_key, o.kind, o.subject, o.payload, o.version, o.created_at, o.delivered_at, o.dead_at
        ).order_by(o.id),
        "audit": select(
            audit.c.at, audit.c.actor, audit.c.verb, audit.c.subject, audit.c.why, audit.c.details
        ).order_by(audit.c.id),
    }  # fmt: skip


def _with_archived(table: Table, archived: Table) -> FromClause:
    """Return all rows including archived ones, so that an export does not depend on archiving."""
    names = [column.name for column in table.c]
    both = (select(*(each.c[name] for name in names)) for each in (table, archived))
    return union_all(*both).subquery(f"all_{table.name}")


QUERIES = _queries()


def columns(thing: str) -> list[str]:
    """Return the column names of an export, in order."""
    return [str(column.name) for column in QUERIES[thing].selected_columns]


def rows(db: Connection, thing: str) -> Iterator[Mapping[str, object]]:
    """Yield every row by the names of `columns`, with a server-side cursor."""
    result = db.execution_options(yield_per=AT_ONCE).execute(QUERIES[thing])
    for row in result.mappings():
        yield dict(row)
