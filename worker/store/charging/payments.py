"""Payments by the set: the facts of charges that are paid, and the write of the payments that change nothing else.

Locked charges are skipped (SKIP LOCKED).

On the first of the month the planner's statistics are from the night before, when almost nothing was due: a scan
of all open charges looks like one row to it. So a state is written as `status || ''`, and a time in num_nonnulls,
where it must not match a partial index; the card's other charges are selected in the order of the right index; and
rows are selected by their ids. A scalar subquery with LIMIT cannot become a hash of the whole table.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from schedules.charging.charges import AttemptState, ChargeKind, ChargeStatus, KeyedIn, SubscriptionStatus
from schedules.charging.outcomes import Paid
from schedules.dunning.policies import FinalAction
from schedules.dunning.settling import AttemptColumns, PaidCharge
from schedules.errors import BROKEN
from schedules.money.amounts import Money
from schedules.outbox.events import VERSION, ChargePaid, payload
from worker.store.charging.attempts import Attempt, answer_of
from worker.store.charging.columns import NOTHING_NEXT

_LOCK = text(
    """
    SELECT c.id, c.key, c.kind, c.status, c.amount, c.currency, c.request_key, c.keyed_in, c.given_up,
        c.first_declined_at IS NOT NULL AS was_declined, k.customer_uid, k.stopped_as, s.key AS subscription,
        s.status AS subscription_status,
        (SELECT a.id FROM attempts a WHERE a.charge_id = c.id AND a.state || '' = 'paid' LIMIT 1) AS paid_attempt,
        (SELECT other.id FROM charges other WHERE other.billing_key_id = c.billing_key_id
            AND other.status IN ('open', 'past_due') AND other.id <> c.id
            ORDER BY other.due_at LIMIT 1) AS of_card,
        CASE WHEN c.first_declined_at IS NOT NULL THEN (SELECT other.id FROM charges other
            WHERE other.subscription_id = c.subscription_id AND other.status || '' IN ('open', 'past_due')
            AND other.id <> c.id AND num_nonnulls(other.first_declined_at) = 1 LIMIT 1) END AS declined,
        CASE WHEN c.given_up IS NOT NULL THEN (SELECT other.id FROM charges other
            WHERE other.subscription_id = c.subscription_id AND other.status || '' IN ('open', 'past_due')
            AND other.id <> c.id AND other.given_up = 'pause' LIMIT 1) END AS rests
    FROM charges c JOIN billing_keys k ON k.id = c.billing_key_id
        LEFT JOIN subscriptions s ON s.id = c.subscription_id
    WHERE c.id = ANY(:charges)
    FOR UPDATE OF c SKIP LOCKED
    """
)
# The columns that a payment changes, with their types.
_COLUMNS = {
    "state": "text", "settled_at": "timestamptz", "next_ask_at": "timestamptz", "quiet_answers": "integer",
    "imp_uid": "text", "pg_provider": "text", "reason": "text", "answer": "jsonb",
}  # fmt: skip
_SETTLE = text(
    """
    WITH told AS (
        SELECT * FROM json_to_recordset(CAST(:payments AS json)) AS t (id bigint, fence bigint, before text,
            (typed columns),
            kind text, subject text, dedupe text, payload jsonb)
    ), settled AS (
        UPDATE attempts a
        SET lease_until = NULL, (columns as told)
        -- Written like this, the state matches no partial index over all attempts under way.
        FROM told WHERE a.id = told.id AND a.id = ANY(:attempts) AND a.fence = told.fence
            AND a.state || '' = told.before
        RETURNING a.id, a.fence, a.charge_id, a.state, a.reason
    ), noted AS (
        INSERT INTO attempt_events (attempt_id, at, state, fence, words)
        SELECT id, :now, state, fence, reason FROM settled
    ), closed AS (
        UPDATE charges
        SET status = 'paid', closed_at = :now, closed_why = NULL,
            (nothing next)
        WHERE id = ANY(ARRAY(SELECT charge_id FROM settled))
    ), owed AS (
        INSERT INTO outbox (kind, subject, dedupe_key, payload, version, created_at, next_try_at)
        SELECT told.kind, told.subject, told.dedupe, told.payload, :version, :now, :now
        FROM told JOIN settled USING (id)
        ON CONFLICT ON CONSTRAINT one_notice_for_each_change DO NOTHING
    )
    SELECT id FROM settled
    """.replace("(typed columns)", ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items()))
    .replace("(columns as told)", ", ".join(f"{name} = told.{name}" for name in _COLUMNS))
    .replace("(nothing next)", ", ".join(f"{name} = NULL" for name in NOTHING_NEXT))
)


@dataclass(frozen=True, slots=True)
class Payable:
    """A charge that is paid, locked by the transaction that read it."""

    id: int
    key: str
    customer_uid: str
    subscription: str | None  # its key
    request_key: str | None
    money: Money
    has_paid: bool  # an attempt at it is paid already
    facts: PaidCharge


@dataclass(frozen=True, slots=True)
class PlainPayment:
    """A payment that changes its attempt and its charge alone."""

    attempt: Attempt
    before: AttemptState
    paid: Paid
    columns: AttemptColumns
    event: ChargePaid
    dedupe: str


def lock(db: Connection, charge_ids: Sequence[int]) -> dict[int, Payable]:
    """Lock these charges and return the facts of their payment, by row id.

    A charge that another transaction has locked is left out, and so is a row that breaks a rule.
    """
    found: dict[int, Payable] = {}
    for row in db.execute(_LOCK, {"charges": list(charge_ids)}).mappings():
        try:
            found[row["id"]] = _read(dict(row))
        except BROKEN:
            continue  # `charges.locked` says what is broken
    return found


def _read(row: Mapping[str, Any]) -> Payable:
    facts = PaidCharge(
        kind=ChargeKind(row["kind"]),
        status=ChargeStatus(row["status"]),
        is_of_canceled=row["subscription_status"] == SubscriptionStatus.CANCELED.value,
        has_subscription=row["subscription"] is not None,
        keyed_in=KeyedIn(row["keyed_in"]) if row["keyed_in"] else None,
        card_stopped=row["stopped_as"] is not None,
        was_declined=row["was_declined"],
        given_up=FinalAction(row["given_up"]) if row["given_up"] else None,
        owes_more=row["of_card"] is not None,
        others_declined=row["declined"] is not None,
        others_rest=row["rests"] is not None,
    )
    return Payable(
        row["id"], row["key"], row["customer_uid"], row["subscription"], row["request_key"],
        Money(row["amount"], row["currency"]), row["paid_attempt"] is not None, facts,
    )  # fmt: skip


def settle(db: Connection, payments: Sequence[PlainPayment], now: datetime) -> set[int]:
    """Write these payments, each under its fence, and their events; return the settled attempts."""
    rows = [
        {
            **each.columns, "id": each.attempt.id, "fence": each.attempt.fence, "before": each.before.value,
            "answer": answer_of(each.paid), "kind": each.event.kind, "subject": each.event.subject,
            "dedupe": each.dedupe, "payload": payload(each.event),
        }
        for each in payments
    ]  # fmt: skip
    values = {
        "payments": json.dumps(rows, default=str), "version": VERSION, "now": now,
        "attempts": [each.attempt.id for each in payments],
    }  # fmt: skip
    return set(db.execute(_SETTLE, values).scalars())
