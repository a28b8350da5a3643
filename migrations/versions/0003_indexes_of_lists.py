"""Add the indexes by which charges, subscriptions and refused attempts of the archive are listed."""

from alembic import op
from sqlalchemy import text

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INDEXES = {
    "ix_charges_due_at": "charges (due_at, id)",
    "ix_charges_status": (
        "charges (status, id) WHERE status IN ('past_due', 'uncollectible', 'waived', 'canceled', 'refunded')"
    ),
    "ix_subscriptions_status": "subscriptions (status, id) WHERE status <> 'active'",
    "ix_archived_attempts_refused": (
        "archived_attempts (settled_at) WHERE (state = 'refused' OR decline_class = 'setup_fault')"
    ),
}
IS_BUILT = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")


def upgrade() -> None:
    """Build them beside the work; one that an interrupted build left is built anew."""
    with op.get_context().autocommit_block():
        for name, rows in INDEXES.items():
            if op.get_bind().execute(IS_BUILT, {"name": name}).scalar():
                continue
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {rows}")
