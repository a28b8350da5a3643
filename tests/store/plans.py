"""A shop with many rows in each large table, and the plans of the statements that run on it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event, text

from tests.factories import on_sale
from worker.services import Services

MANY = 20_000  # rows of each table: enough that reading one through is never the cheapest
LARGE = {"subscriptions", "charges", "attempts", "attempt_events", "outbox", "billing_keys", "customers"}
# Of the rows, a tenth is due, and the rest are settled; each was paid last month.
SHOP = (
    "INSERT INTO customers (reference, created_at) SELECT 'c' || n, now() FROM generate_series(1, :many) n",
    "INSERT INTO billing_keys (customer_id, customer_uid, account, created_at) "
    "SELECT n, 'customer-' || n, 'main', now() FROM generate_series(1, :many) n",
    "INSERT INTO subscriptions (key, customer_id, billing_key_id, plan_id, plan_code, anchor, status, "
    "next_period_no, next_period_date, next_due_at, open_at, created_at) SELECT lpad(to_hex(n), 20, '0'), n, n, "
    "1, 'monthly', '2025-12-31', 'active', 1, '2026-01-31', "
    "CAST(:now AS timestamptz) + (n - :many / 10) * interval '1 second', "
    "CAST(:now AS timestamptz) + (n - :many / 10) * interval '1 second', now() FROM generate_series(1, :many) n",
    "INSERT INTO charges (key, kind, subscription_id, period_no, billing_key_id, account, amount, currency, name, "
    "policy_id, status, due_at, attempts, created_at, closed_at) "
    "SELECT 'r' || lpad(to_hex(n), 20, '0') || '00000', 'renewal', n, 0, n, 'main', 9900, 'KRW', 'x', 1, 'paid', "
    "'2025-12-31', 1, now(), now() "
    "FROM generate_series(1, :many) n",
    "INSERT INTO attempts (charge_id, number, merchant_uid, state, amount, currency, fence, sends, last_sent_at, "
    "imp_uid, created_at, settled_at) SELECT n, 1, 'u' || n, 'paid', 9900, 'KRW', 1, 1, "
    "CAST('2025-12-31' AS timestamptz) + n * interval '1 second', 'i' || n, now(), now() "
    "FROM generate_series(1, :many) n",
    "INSERT INTO attempt_events (attempt_id, at, state, fence) SELECT n, now(), 'paid', 1 "
    "FROM generate_series(1, :many) n",
    "INSERT INTO outbox (kind, subject, dedupe_key, payload, created_at, delivered_at) "
    "SELECT 'charge.paid', 's' || n, 'd' || n, '{}', now(), now() FROM generate_series(1, :many) n",
)


def fill(services: Services) -> None:
    """Fill each large table."""
    on_sale(services)
    with services.engine.begin() as db:
        db.execute(text("SET LOCAL session_replication_role = replica"))
        for statement in SHOP:
            db.execute(text(statement), {"many": MANY, "now": services.clock.now()})
    with services.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        db.execute(text("VACUUM ANALYZE"))


@contextmanager
def seen(services: Services) -> Iterator[dict[str, list[Any]]]:
    """The plan of every statement that runs meanwhile, as PostgreSQL makes it at that moment."""
    plans: dict[str, list[Any]] = {}

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if not statement.lstrip().upper().startswith(("SELECT", "UPDATE", "INSERT", "WITH")) or many:
            return
        with connection.connection.cursor() as beside:
            beside.execute(f"EXPLAIN (FORMAT JSON) {statement}", parameters)
            found = beside.fetchone()[0]
        plans.setdefault(statement, []).append(found if isinstance(found, list) else json.loads(found))

    event.listen(services.engine, "before_cursor_execute", explain)
    try:
        yield plans
    finally:
        event.remove(services.engine, "before_cursor_execute", explain)


def nodes(plan: Any) -> Iterator[dict[str, Any]]:
    """Every node of a plan."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def forget_figures(services: Services) -> None:
    """Take away the figures of the large tables, as if they were new."""
    with services.engine.begin() as db:
        for table in LARGE:
            # PostgreSQL 18 has pg_clear_relation_stats for this; 15 has not.
            figures = "relpages = 0, reltuples = -1, relallvisible = 0"
            db.execute(text(f"UPDATE pg_class SET {figures} WHERE oid = 'public.{table}'::regclass"))
