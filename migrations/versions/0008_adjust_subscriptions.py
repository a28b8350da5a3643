"""Adjust subscriptions: a series of their own, counted from any period on, at any time of day, with gaps."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the columns."""
    number = sa.Column(
        "anchor_no",
        sa.Integer,
        nullable=False,
        server_default="0",
        comment="number of the period at the anchor",
    )
    op.add_column("subscriptions", number)
    op.add_column(
        "subscriptions", sa.Column("billing_time", sa.Time, comment="its own time of day, instead of the plan's")
    )
    op.add_column(
        "subscriptions", sa.Column("skip_to", sa.Integer, comment="periods below this number are not charged")
    )
    op.create_check_constraint(
        op.f("ck_subscriptions_anchor_is_behind"), "subscriptions", "anchor_no BETWEEN 0 AND next_period_no"
    )


def downgrade() -> None:
    """Take them away."""
    op.drop_constraint(op.f("ck_subscriptions_anchor_is_behind"), "subscriptions", type_="check")
    for name in ("skip_to", "billing_time", "anchor_no"):
        op.drop_column("subscriptions", name)
