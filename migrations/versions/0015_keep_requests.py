"""Request keys of every verb: what was done under each, and what was answered."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table of requests."""
    op.create_table(
        "requests",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("request_key", sa.Text(), nullable=False),
        sa.Column("verb", sa.Text(), nullable=False),
        sa.Column(
            "fingerprint", sa.Text(), nullable=False, comment="of the verb and its arguments, without the actor"
        ),
        sa.Column(
            "answer",
            postgresql.JSONB(),
            comment="what the verb answered; written in the transaction that did the work",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_requests"),
        sa.UniqueConstraint("request_key", name="one_request_for_each_request_key"),
        comment="Verbs that were carried out under a request key. Charges and refunds keep the key in their own rows.",
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("requests")
