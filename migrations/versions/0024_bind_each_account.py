"""Bind each further gateway account to its credentials."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table; `again migrate` and the start of a worker or beat bind the accounts."""
    op.create_table(
        "account_bindings",
        sa.Column("account", sa.Text(), primary_key=True),
        sa.Column(
            "fingerprint", sa.Text(), nullable=False, comment="of its key, address, tier and the environment"
        ),
        sa.Column("bound_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("bound_by", sa.Text(), nullable=False),
        comment="The credentials that each further account may be charged with; installation has the main one's.",
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("account_bindings")
