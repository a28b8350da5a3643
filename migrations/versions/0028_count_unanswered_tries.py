"""Count the answers in a row that say nothing of the card, so that a person sees a charge that only gets such."""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the count; it begins at nothing for every charge."""
    op.add_column(
        "charges",
        sa.Column(
            "unanswered_tries",
            sa.Integer(),
            nullable=False,
            server_default="0",
            comment="answers in a row that said nothing of the card",
        ),
    )


def downgrade() -> None:
    """Drop the count."""
    op.drop_column("charges", "unanswered_tries")
