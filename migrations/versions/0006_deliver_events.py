"""Deliveries: each notice knows when it is tried next and what came of it, and what it says cannot be changed."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)
COMMENT = "Notices owed to the outside, written in the transaction that caused them."
NEW_COMMENT = "Notices owed to the outside, written with their cause; what they say is append only."
# As the other tables whose rows are written several times each.
HOT = "fillfactor, autovacuum_vacuum_scale_factor, autovacuum_analyze_scale_factor"


def upgrade() -> None:
    """Make the columns. What was written before has payloads without a schema: it is kept, and not delivered."""
    for column in (
        sa.Column("version", sa.Integer(), nullable=False, server_default="0", comment="of the payload's schema"),
        sa.Column(
            "tries",
            sa.Integer(),
            nullable=False,
            server_default="0",
            comment="answers so far, since the last replay",
        ),
        sa.Column("next_try_at", INSTANT, comment="while it waits; whoever delivers it moves it on, as a lease"),
        sa.Column("last_answer", sa.Text()),
        sa.Column("dead_at", INSTANT, comment="since when nobody tries any more"),
    ):
        op.add_column("outbox", column)
    op.alter_column("outbox", "version", server_default="1")  # what is there keeps 0
    op.create_check_constraint(
        op.f("ck_outbox_waits_or_is_over"), "outbox", "num_nonnulls(next_try_at, delivered_at, dead_at) <= 1"
    )
    op.create_index(
        "ix_outbox_waiting", "outbox", ["next_try_at"], postgresql_where=sa.text("next_try_at IS NOT NULL")
    )
    op.create_index("ix_outbox_dead", "outbox", ["id"], postgresql_where=sa.text("dead_at IS NOT NULL"))
    op.create_table_comment("outbox", NEW_COMMENT, existing_comment=COMMENT)
    op.execute(
        "ALTER TABLE outbox SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, "
        "autovacuum_analyze_scale_factor = 0.02)"
    )
    op.execute(
        "CREATE TRIGGER append_only BEFORE UPDATE OF dedupe_key, kind, subject, payload, version, created_at "
        "OR DELETE OR TRUNCATE ON outbox FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )


def downgrade() -> None:
    """Take the columns away; the notices stay."""
    op.execute("DROP TRIGGER append_only ON outbox")
    op.execute(f"ALTER TABLE outbox RESET ({HOT})")
    op.create_table_comment("outbox", COMMENT, existing_comment=NEW_COMMENT)
    op.drop_index("ix_outbox_dead", "outbox")
    op.drop_index("ix_outbox_waiting", "outbox")
    op.drop_constraint(op.f("ck_outbox_waits_or_is_over"), "outbox", type_="check")
    for column in ("dead_at", "last_answer", "next_try_at", "tries", "version"):
        op.drop_column("outbox", column)
