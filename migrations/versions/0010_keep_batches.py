"""Keep batches: many charges asked for together, with who approved them and how far they have come."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

STATES = "state IN ('draft', 'waiting', 'running', 'stopped', 'done', 'dropped')"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "batches",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False, comment="of all its lines and terms"),
        sa.Column("terms", JSONB, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("lines", sa.Integer, nullable=False),
        sa.Column("sums", JSONB, nullable=False, comment="minor units by currency"),
        sa.Column(
            "opened_to", sa.Integer, nullable=False, server_default="0", comment="number of the last line opened"
        ),
        sa.Column("opened", sa.Integer, nullable=False, server_default="0", comment="lines that were opened"),
        sa.Column("canary_passed", sa.Boolean, nullable=False),
        sa.Column("words", sa.Text, comment="why it was stopped"),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("approved_by", sa.Text),
        sa.Column("approved_at", sa.DateTime(timezone=True)),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint(STATES, name=op.f("ck_batches_known_state")),
        sa.CheckConstraint(
            "state NOT IN ('running', 'done') OR approved_by IS NOT NULL",
            name=op.f("ck_batches_running_was_approved"),
        ),
        sa.UniqueConstraint("key", name="one_batch_for_each_key"),
        comment="Charges that are asked for together.",
    )
    op.create_index("ix_batches_running", "batches", ["id"], postgresql_where=sa.text("state = 'running'"))
    op.create_table(
        "batch_lines",
        sa.Column("batch_id", sa.BigInteger, sa.ForeignKey("batches.id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("customer_uid", sa.Text, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("request_key", sa.Text, nullable=False),
        sa.Column("charge_id", sa.BigInteger, sa.ForeignKey("charges.id")),
        sa.Column("words", sa.Text, comment="why it has no charge"),
        sa.UniqueConstraint("batch_id", "request_key", name="one_line_for_each_request_key"),
        comment="A line of a batch, and the charge that was made of it.",
    )


def downgrade() -> None:
    """Take them away."""
    op.drop_table("batch_lines")
    op.drop_table("batches")
