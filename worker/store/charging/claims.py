"""The claim of charges: lock them with the facts that each claim needs, and insert attempts, by the set.

Locked charges are skipped (SKIP LOCKED).

On the first of the month the planner's statistics are from the night before, when almost nothing was due: a scan
of all open charges looks like one row to it. So rows are selected by their ids, not by joins; the card's other
debts are selected in the order of the right index; and a question of existence is a subquery with LIMIT 1, which
the planner cannot answer by reading the table through. Otherwise a table of thousands of rows is scanned for a
batch of ten.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from schedules.charging.buyers import Buyer
from worker.store.charging.asked_before_sending import UNASKED
from worker.store.charging.attempts import Attempt

_FACTS = """
    SELECT c.id, c.key, c.account, c.billing_key_id, k.customer_uid, k.pg_provider, c.name, c.kind, c.amount,
        c.currency, c.status, c.held_why, c.next_attempt_at, c.attempts, c.first_declined_at, c.tried_by,
        c.keyed_in, c.archived_at, c.asked_at, k.stopped_as,
        (unasked) AS is_unasked,
        1 < (SELECT count(*) FROM (SELECT FROM charges other WHERE other.billing_key_id = c.billing_key_id
            AND other.status IN ('open', 'past_due') ORDER BY other.due_at LIMIT 2) of_card) AS has_others,
        (SELECT 1 FROM attempts a WHERE a.charge_id = c.id LIMIT 1) IS NOT NULL AS was_tried,
        u.name, u.email, u.tel
    FROM charges c JOIN billing_keys k ON k.id = c.billing_key_id
        -- OFFSET 0 prevents a merge join over all billing keys
        JOIN LATERAL (SELECT name, email, tel FROM customers WHERE id = k.customer_id OFFSET 0) u ON true
    WHERE c.id = ANY(:ids)
""".replace("(unasked)", UNASKED)
_READ, _LOCK = text(_FACTS), text(_FACTS + "FOR UPDATE OF c SKIP LOCKED")
_WAIT = text("SELECT FROM charges WHERE id = :id FOR UPDATE")
# The unique constraints of attempts say whether another worker was faster, or a call of the card is under way.
_BEGIN = text(
    """
    WITH begun AS (
        INSERT INTO attempts (charge_id, number, merchant_uid, state, amount, currency, fence, lease_until, sends,
            last_sent_at, created_at, tried_by, billing_key_id)
        SELECT t.charge_id, t.number, t.uid, 'sending', t.amount, t.currency, 1, :lease_until, 1, :now, :now,
            t.tried_by, t.card
        FROM json_to_recordset(CAST(:intents AS json)) AS t (charge_id bigint, number integer, uid text,
            amount bigint, currency text, tried_by text, card bigint)
        ORDER BY t.card -- batches that share cards wait for each other's calls in one order
        ON CONFLICT DO NOTHING
        RETURNING id, charge_id
    ), noted AS (
        INSERT INTO attempt_events (attempt_id, at, state, fence, words)
        SELECT id, :now, 'sending', 1, 'claimed' FROM begun
    ), moved AS (
        -- Each number is that of the locked row, plus one.
        UPDATE charges SET next_attempt_at = NULL, queued_until = NULL, attempts = attempts + 1
        WHERE id = ANY(ARRAY(SELECT charge_id FROM begun))
    )
    SELECT id, charge_id FROM begun
    """
)


@dataclass(frozen=True, slots=True)
class Locked:
    """A charge, locked by the transaction that read it, with the facts that every claim needs.

    The fields after the buyer's have the order of the statement's columns.
    """

    buyer: Buyer
    id: int
    key: str
    account: str
    billing_key_id: int
    customer_uid: str
    pg_provider: str | None
    name: str
    kind: str
    amount: int
    currency: str
    status: str
    held_why: str | None
    next_attempt_at: datetime | None
    attempts: int
    first_declined_at: datetime | None
    tried_by: str | None
    keyed_in: str | None
    archived_at: datetime | None
    asked_at: datetime | None
    stopped_as: str | None  # the decline class after which its card is not tried
    is_unasked: bool  # its key may have been used before a restore, or a finding names it
    has_others: bool  # its card has another charge that is owed
    was_tried: bool  # it has an attempt

    @property
    def has_earlier(self) -> bool:
        """Whether the claim depends on more than this row: earlier attempts, findings, or its card's history."""
        of_row = (self.first_declined_at, self.asked_at, self.stopped_as)
        # `attempts` is of the locked row, `was_tried` of the statement's snapshot, which may be older.
        return self.was_tried or self.attempts > 0 or self.has_others or of_row != (None, None, None)


@dataclass(frozen=True, slots=True)
class Beginning:
    """A new attempt that is claimed as it is written."""

    intent: Attempt  # its row id is not known yet
    billing_key_id: int | None  # of the stored card; None when the card is typed in
    tried_by: str | None


def wait_for(db: Connection, charge_id: int) -> None:
    """Lock one charge, and wait for the transaction that has it locked.

    Its facts are read by a later statement: one that has waited for a lock reads other tables as they were before.
    """
    db.execute(_WAIT, {"id": charge_id})


def lock(db: Connection, ids: Sequence[int]) -> list[Locked]:
    """Lock these charges and return them; those that another transaction has locked are left out."""
    return [_row(columns) for columns in db.execute(_LOCK, {"ids": list(ids)})]


def read(db: Connection, ids: Sequence[int]) -> list[Locked]:
    """Return these charges without a lock, for display."""
    return [_row(columns) for columns in db.execute(_READ, {"ids": list(ids)})]


def _row(columns: Iterable[Any]) -> Locked:
    *own, name, email, tel = columns
    return Locked(Buyer(name, email, tel), *own)


def begin(db: Connection, beginnings: Sequence[Beginning], lease_until: datetime) -> Mapping[int, int]:
    """Insert a claimed attempt for each of these locked charges; return the attempts' row ids by charge id.

    A charge is left out whose attempt a unique constraint refuses: another worker has written it, its number or
    merchant_uid is taken, or its card has another call under way.
    """
    rows = [
        {"charge_id": each.intent.charge_id, "number": each.intent.number, "uid": each.intent.merchant_uid,
         "amount": each.intent.money.amount, "currency": each.intent.money.currency, "tried_by": each.tried_by,
         "card": each.billing_key_id}
        for each in beginnings
    ]  # fmt: skip
    values = {
        "intents": json.dumps(rows),
        "now": beginnings[0].intent.last_sent_at,
        "lease_until": lease_until,
    }
    return {row.charge_id: row.id for row in db.execute(_BEGIN, values)}
