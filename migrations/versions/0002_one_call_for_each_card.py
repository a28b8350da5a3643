"""Let one call at a time leave for each stored card."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the card of an attempt's last call; what is under way has none, and holds up no other call."""
    for table in ("attempts", "archived_attempts"):
        op.add_column(
            table,
            sa.Column("billing_key_id", sa.BigInteger(), comment="the stored card that it was last claimed for"),
        )
    op.create_index(
        "one_call_at_a_time_for_each_card",
        "attempts",
        ["billing_key_id"],
        unique=True,
        postgresql_where=sa.text("state = 'sending'"),
    )
