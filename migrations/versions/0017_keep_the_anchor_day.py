"""Keep the day of the month that was asked for when a plan change counts the periods from a shorter month."""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the day; no row has one yet, so that the table is not rewritten."""
    op.execute("ALTER TABLE subscriptions ADD COLUMN anchor_day integer")
    op.execute(
        "COMMENT ON COLUMN subscriptions.anchor_day IS "
        "'day of the month asked for, if the anchor''s month is too short for it'"
    )
    op.execute(
        "ALTER TABLE subscriptions ADD CONSTRAINT ck_subscriptions_anchor_day_is_beyond_the_anchor "
        "CHECK (anchor_day > date_part('day', anchor) AND anchor_day <= 31)"
    )


def downgrade() -> None:
    """Take the day away."""
    op.drop_column("subscriptions", "anchor_day")
