"""Move in: the old system's own reference of a subscription, and the seam of those that PortOne's timer charged."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the column and the table."""
    op.add_column("subscriptions", sa.Column("external_ref", sa.Text, comment="what the system before called it"))
    op.create_unique_constraint("one_subscription_for_each_external_ref", "subscriptions", ["external_ref"])
    op.create_table(
        "takeovers",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("billing_key_id", sa.BigInteger, sa.ForeignKey("billing_keys.id"), nullable=False),
        sa.Column("plan_id", sa.BigInteger, sa.ForeignKey("plans.id"), nullable=False),
        sa.Column("plan", sa.Text, nullable=False, comment="the plan's code"),
        sa.Column("subscription_key", sa.Text, nullable=False),
        sa.Column("entries", JSONB, nullable=False, comment="what the timer was to charge: uid and date of each"),
        sa.Column("billing_time", sa.Time, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("words", sa.Text, comment="why it is not taken over yet"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), comment="when the subscription began here"),
        sa.UniqueConstraint("billing_key_id", "plan", name="one_takeover_for_each_card_and_plan"),
        sa.UniqueConstraint("subscription_key", name="one_takeover_for_each_subscription"),
        comment="A subscription that another timer charged until now.",
    )
    op.create_index("ix_takeovers_open", "takeovers", ["id"], postgresql_where=sa.text("taken_at IS NULL"))


def downgrade() -> None:
    """Take them away."""
    op.drop_table("takeovers")
    op.drop_constraint("one_subscription_for_each_external_ref", "subscriptions", type_="unique")
    op.drop_column("subscriptions", "external_ref")
