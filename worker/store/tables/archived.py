"""The archive tables: attempts, their events and notices of old months, with the same columns and few indexes."""

from sqlalchemy import CheckConstraint, Column, ForeignKeyConstraint, Index, Table, UniqueConstraint, text

from schedules.charging.charges import UNRESOLVED, AttemptState
from worker.store.tables.base import metadata, one_of
from worker.store.tables.charges import REFUSED, attempt_events, attempts
from worker.store.tables.outbox import outbox

# Rows are rarely updated: they are frozen early, so that no large vacuum is needed.
COLD = {"autovacuum_vacuum_insert_scale_factor": "0.02", "autovacuum_analyze_scale_factor": "0.02"}
SETTLED_STATES = one_of("state", sorted(set(AttemptState) - UNRESOLVED))


def _columns(table: Table) -> list[Column[object]]:
    return [
        Column(column.name, column.type, primary_key=column.primary_key, nullable=column.nullable,
               autoincrement=False, comment=column.comment)
        for column in table.c
    ]  # fmt: skip


archived_attempts = Table(
    "archived_attempts",
    metadata,
    *_columns(attempts),
    ForeignKeyConstraint(["charge_id"], ["charges.id"]),
    CheckConstraint(
        f"{SETTLED_STATES} AND settled_at IS NOT NULL AND lease_until IS NULL AND next_ask_at IS NULL",
        name="is_settled",
    ),
    UniqueConstraint("merchant_uid", name="one_archived_attempt_for_each_merchant_uid"),
    UniqueConstraint("charge_id", "number", name="one_archived_attempt_for_each_number"),
    Index(
        "one_archived_payment_for_each_charge", "charge_id", unique=True, postgresql_where=text("state = 'paid'")
    ),
    Index("ix_archived_attempts_paid", "last_sent_at", postgresql_where=text("state = 'paid'")),
    Index("ix_archived_attempts_declined", "settled_at", postgresql_where=text("state = 'declined'")),
    Index("ix_archived_attempts_imp_uid", "imp_uid", postgresql_where=text("imp_uid IS NOT NULL")),
    Index("ix_archived_attempts_refused", "settled_at", postgresql_where=text(REFUSED)),
    comment="Attempts of old months: no worker looks here, and nothing here is changed.",
    postgresql_with=COLD,
)
archived_attempt_events = Table(
    "archived_attempt_events",
    metadata,
    *_columns(attempt_events),
    Index("ix_archived_attempt_events_attempt_id", "attempt_id"),
    comment="Everything that happened to archived attempts.",
    postgresql_with=COLD,
)

archived_outbox = Table(
    "archived_outbox",
    metadata,
    *_columns(outbox),
    CheckConstraint("delivered_at IS NOT NULL", name="is_delivered"),
    UniqueConstraint("dedupe_key", name="one_archived_notice_for_each_change"),
    Index("ix_archived_outbox_subject", "subject"),
    comment="Notices of old months that were delivered.",
    postgresql_with=COLD,
)
