"""Know since when a debt has its present card, so that the answers of the card before do not count for it."""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the time; no row has one yet, so that the table is not rewritten."""
    op.execute("ALTER TABLE charges ADD COLUMN card_since timestamptz")
    op.execute("COMMENT ON COLUMN charges.card_since IS 'when it was moved to its present card from another one'")


def downgrade() -> None:
    """Take the time away."""
    op.drop_column("charges", "card_since")
