"""Keep a record of messages that were refused."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column(
            "digest", sa.Text, nullable=False, comment="SHA-256 of the body; empty for those that were summed up"
        ),
        sa.Column("task", sa.Text, comment="what the sender asked for, if it has the form of a task name"),
        sa.Column("message_id", sa.Text, comment="the sender's id of the newest one"),
        sa.Column("size", sa.BigInteger, nullable=False, comment="bytes"),
        sa.Column("first_at", INSTANT, nullable=False),
        sa.Column("last_at", INSTANT, nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_dead_letters"),
        sa.UniqueConstraint("queue", "reason", "digest", name="one_row_for_each_dead_letter"),
        comment="Messages from the broker that were refused, without their contents.",
    )
    op.create_index("ix_dead_letters_last_at", "dead_letters", ["last_at"])


def downgrade() -> None:
    """Drop it."""
    op.drop_table("dead_letters")
