"""Remember that this database has signed its restore mark, so that an unsigned one counts only before."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the time of the first signature; the next check of the mark sets it."""
    op.add_column(
        "installation",
        sa.Column(
            "mark_signed_at",
            sa.DateTime(timezone=True),
            comment="since when the restore mark is signed by a key that a new secret does not change",
        ),
    )


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("installation", "mark_signed_at")
