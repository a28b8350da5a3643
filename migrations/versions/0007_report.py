"""Report: indexes by which a report reads its own span, and no more."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the indexes."""
    op.create_index(
        "ix_charges_first_declined",
        "charges",
        ["first_declined_at"],
        postgresql_where=sa.text("first_declined_at IS NOT NULL"),
    )
    op.create_index(
        "ix_attempts_declined", "attempts", ["settled_at"], postgresql_where=sa.text("state = 'declined'")
    )


def downgrade() -> None:
    """Take them away."""
    op.drop_index("ix_attempts_declined", "attempts")
    op.drop_index("ix_charges_first_declined", "charges")
