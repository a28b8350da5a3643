"""Ask the gateway about a card whose issue was not answered."""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; what was unclear before is not known."""
    op.add_column(
        "billing_keys",
        sa.Column(
            "unclear_since",
            sa.DateTime(timezone=True),
            comment="since when it is unclear whether a typed-in card is stored",
        ),
    )
    op.create_check_constraint(
        op.f("ck_billing_keys_unclear_is_asked_about"),
        "billing_keys",
        "unclear_since IS NULL OR ask_at IS NOT NULL",
    )


def downgrade() -> None:
    """Drop the column with its constraint."""
    op.drop_column("billing_keys", "unclear_since")
