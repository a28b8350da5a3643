"""Keep notices true: what the last notice of a next charge said, so that another one follows a change."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; a charge that was announced before is announced once more if it changes."""
    op.add_column(
        "subscriptions",
        sa.Column(
            "told_as", sa.Text, comment="what the last notice of the next charge said; null when none stands"
        ),
    )


def downgrade() -> None:
    """Remove it."""
    op.drop_column("subscriptions", "told_as")
