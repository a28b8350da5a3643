"""Keep refunds: what is given back of a payment, once for each request key."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

OPEN = "state IN ('asked', 'sending')"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "refunds",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("request_key", sa.Text, nullable=False),
        sa.Column("request_fingerprint", sa.Text, nullable=False),
        sa.Column("charge_id", sa.BigInteger, sa.ForeignKey("charges.id"), nullable=False, index=True),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("merchant_uid", sa.Text, nullable=False),
        sa.Column("imp_uid", sa.Text, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column(
            "balance", sa.BigInteger, nullable=False, comment="minor units left before it, as our books say"
        ),
        sa.Column("reason", sa.Text, nullable=False, comment="shown in the gateway's console"),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("sends", sa.Integer, nullable=False, server_default="0"),
        sa.Column("lease_until", sa.DateTime(timezone=True), comment="when one under way is looked at again"),
        sa.Column("words", sa.Text, comment="what came of it last"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint(
            "state IN ('asked', 'sending', 'made', 'refused')", name=op.f("ck_refunds_known_state")
        ),
        sa.CheckConstraint("amount BETWEEN 1 AND balance", name=op.f("ck_refunds_never_more_than_is_left")),
        sa.CheckConstraint(
            "(state = 'sending') = (lease_until IS NOT NULL)", name=op.f("ck_refunds_sending_has_a_lease")
        ),
        sa.CheckConstraint(f"({OPEN}) = (ended_at IS NULL)", name=op.f("ck_refunds_ended_says_when")),
        sa.UniqueConstraint("request_key", name="one_refund_for_each_request_key"),
        comment="What is given back of a payment: a request, and what came of it.",
    )
    op.create_index("one_refund_at_a_time", "refunds", ["charge_id"], unique=True, postgresql_where=sa.text(OPEN))
    op.create_index("ix_refunds_open", "refunds", ["id"], postgresql_where=sa.text(OPEN))
    op.create_check_constraint(
        op.f("ck_charges_never_more_than_was_paid"), "charges", "refunded BETWEEN 0 AND amount"
    )


def downgrade() -> None:
    """Take it away."""
    op.drop_constraint(op.f("ck_charges_never_more_than_was_paid"), "charges", type_="check")
    op.drop_table("refunds")
