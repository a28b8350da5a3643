"""Which chores have work to do: one statement for all, with one index step for each."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import ARRAY, ColumnElement, Connection, Text, bindparam, exists, func, select, text

from schedules.charging.charges import AttemptState, SubscriptionStatus
from schedules.requests.batches import BatchState
from worker.store.tables import (
    IS_DUE,
    attempts,
    batches,
    billing_keys,
    charges,
    installation,
    outbox,
    subscriptions,
)
from worker.store.tables.base import INSTANT

_NOW = bindparam("now", type_=INSTANT)


def _due(table_column: ColumnElement[datetime]) -> ColumnElement[bool]:
    return table_column.is_not(None) & (table_column <= _NOW)


_a, _c, _s = attempts.c, charges.c, subscriptions.c
_account = func.unnest(bindparam("accounts", type_=ARRAY(Text))).table_valued("name").render_derived("known")
_WAITS: dict[str, ColumnElement[bool]] = {
    # For each account: charges that are due in a month are in the same index, after those that are due now.
    "dispatch": exists().where(_c.account == _account.c.name, text(IS_DUE), _c.next_attempt_at <= _NOW),
    "ask_due": exists().where(_a.state == text(f"'{AttemptState.UNKNOWN.value}'"), _due(_a.next_ask_at)),
    "open_missed": exists().where(_s.status == text(f"'{SubscriptionStatus.ACTIVE.value}'"), _due(_s.open_at)),
    "chase": exists().where(_due(_c.look_at)),
    "announce": exists().where(_due(_s.tell_at)) | exists().where(_due(billing_keys.c.tell_expiry_at)),
    "lift_hold": exists().where(installation.c.hold_since.is_not(None)),
    "run_batches": exists().where(batches.c.state == text(f"'{BatchState.RUNNING.value}'")),
    "deliver": exists().where(_due(outbox.c.next_try_at)),
}
_QUESTION = select(*(condition.label(name) for name, condition in _WAITS.items()))
ASKED = frozenset(_WAITS)


def wanted(db: Connection, accounts: Collection[str], now: datetime) -> set[str]:
    """Return the names of the chores that have work to do."""
    row = db.execute(_QUESTION, {"accounts": sorted(accounts), "now": now}).mappings().one()
    return {name for name in ASKED if row[name]}
