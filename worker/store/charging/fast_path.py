"""Batch settle of fast-path charges: those that are paid at the first try.

Other charges are not changed here; they take the general path. Locked rows are skipped (SKIP LOCKED), so that a
batch never waits for a row and never deadlocks.

On the first of the month the planner's statistics are from the night before, when almost nothing was due: a scan
of all open charges looks like one row to it. So a state is written as `status || ''` where it must not match a
partial index, the card's other debts are selected in the order of the right index, and rows are selected by their
ids, not by joins. Otherwise a table of thousands of rows is scanned for a batch of ten, or, where a join is
restricted by ids as well, the whole batch is read for each of its rows.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

# Paid at the first try without further effects: it blocks no other debt, and no debt waits for its card.
_LOCK = text(
    """
    SELECT c.id, c.key, c.amount, c.currency, c.request_key, k.customer_uid, s.key AS subscription
    FROM charges c JOIN billing_keys k ON k.id = c.billing_key_id
        LEFT JOIN subscriptions s ON s.id = c.subscription_id
    WHERE c.id = ANY(:charges) AND c.status || '' = 'open' AND c.first_declined_at IS NULL AND c.keyed_in IS NULL
        AND c.given_up IS NULL AND c.held_why IS NULL AND k.stopped_as IS NULL
        AND s.status || '' IS DISTINCT FROM 'canceled'
        AND 1 = (SELECT count(*) FROM (SELECT FROM charges other WHERE other.billing_key_id = c.billing_key_id
            AND other.status IN ('open', 'past_due') ORDER BY other.due_at LIMIT 2) of_card)
    FOR UPDATE OF c SKIP LOCKED
    """
)
_SETTLE = text(
    """
    WITH told AS (
        SELECT * FROM json_to_recordset(CAST(:payments AS json)) AS t (id bigint, fence bigint, imp_uid text,
            provider text, answer jsonb, subject text, dedupe text, payload jsonb)
    ), settled AS (
        UPDATE attempts a
        SET state = 'paid', lease_until = NULL, settled_at = :now, next_ask_at = NULL, quiet_answers = 0,
            imp_uid = told.imp_uid, pg_provider = told.provider, reason = NULL, answer = told.answer
        -- Written like this, the state matches no partial index over all attempts under way.
        FROM told WHERE a.id = told.id AND a.id = ANY(:attempts) AND a.fence = told.fence
            AND a.state || '' = 'sending'
        RETURNING a.id, a.fence, a.charge_id
    ), noted AS (
        INSERT INTO attempt_events (attempt_id, at, state, fence) SELECT id, :now, 'paid', fence FROM settled
    ), closed AS (
        UPDATE charges
        SET status = 'paid', closed_at = :now, closed_why = NULL, next_attempt_at = NULL, queued_until = NULL,
            waits = NULL, look_at = NULL, tried_by = NULL, planned_at = NULL
        WHERE id = ANY(ARRAY(SELECT charge_id FROM settled))
    ), owed AS (
        INSERT INTO outbox (kind, subject, dedupe_key, payload, version, created_at, next_try_at)
        SELECT :kind, told.subject, told.dedupe, told.payload, :version, :now, :now
        FROM told JOIN settled USING (id)
        ON CONFLICT ON CONSTRAINT one_notice_for_each_change DO NOTHING
    )
    SELECT id FROM settled
    """
)


@dataclass(frozen=True, slots=True)
class Settling:
    """The values of a payment for its row and its event."""

    attempt_id: int
    charge_id: int
    fence: int
    imp_uid: str
    pg_provider: str | None
    answer: Mapping[str, Any]
    subject: str
    dedupe: str
    payload: Mapping[str, Any]


def lock_to_settle(db: Connection, charge_ids: Sequence[int]) -> dict[int, Mapping[str, Any]]:
    """Lock the charges among these whose payment has no further effects; return the values of their events."""
    rows = db.execute(_LOCK, {"charges": list(charge_ids)}).mappings()
    return {row["id"]: dict(row) for row in rows}


def settle(db: Connection, payments: Sequence[Settling], kind: str, version: int, now: datetime) -> set[int]:
    """Write these payments, each under its fence, and their events; return the settled attempts."""
    rows = [
        {"id": each.attempt_id, "fence": each.fence, "imp_uid": each.imp_uid, "provider": each.pg_provider,
         "answer": each.answer, "subject": each.subject, "dedupe": each.dedupe, "payload": each.payload}
        for each in payments
    ]  # fmt: skip
    values = {
        "payments": json.dumps(rows, default=str), "kind": kind, "version": version, "now": now,
        "attempts": [each.attempt_id for each in payments],
    }  # fmt: skip
    return set(db.execute(_SETTLE, values).scalars())
