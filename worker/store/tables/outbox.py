"""The outbox and the audit, which a change writes beside its own rows."""

from sqlalchemy import CheckConstraint, Column, Index, Integer, Table, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB

from worker.store.tables.base import HOT, INSTANT, metadata, row_id

outbox = Table(
    "outbox",
    metadata,
    row_id(),
    Column("dedupe_key", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False, index=True),
    Column("payload", JSONB, nullable=False),
    Column("version", Integer, nullable=False, server_default="1", comment="of the payload's schema"),
    Column("created_at", INSTANT, nullable=False),
    Column("tries", Integer, nullable=False, server_default="0", comment="answers so far, since the last replay"),
    Column("next_try_at", INSTANT, comment="while it waits; a delivery moves it forward, as a lease"),
    Column("last_answer", Text),
    Column("delivered_at", INSTANT),
    Column("dead_at", INSTANT, comment="when its tries ended"),
    UniqueConstraint("dedupe_key", name="one_notice_for_each_change"),
    CheckConstraint("num_nonnulls(next_try_at, delivered_at, dead_at) <= 1", name="waits_or_is_over"),
    Index("ix_outbox_waiting", "next_try_at", postgresql_where=text("next_try_at IS NOT NULL")),
    Index("ix_outbox_dead", "id", postgresql_where=text("dead_at IS NOT NULL")),
    comment="Notices owed to the outside, written with their cause; what they say is append only.",
    postgresql_with=HOT,
)

audit = Table(
    "audit",
    metadata,
    row_id(),
    Column("at", INSTANT, nullable=False),
    Column("actor", Text, nullable=False),
    Column("verb", Text, nullable=False),
    Column("subject", Text, nullable=False, index=True),
    Column("why", Text),
    Column("details", JSONB, nullable=False),
    comment="Who did what to which, when and why; append only.",
)
