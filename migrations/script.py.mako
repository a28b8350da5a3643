"""${message}."""

from alembic import op
import sqlalchemy as sa
${imports if imports else ""}

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    """${message}."""
    ${upgrades if upgrades else "pass"}
    # Only if it breaks code of a former revision (docs/decisions/0007-expand-deploy-contract.md):
    # op.execute("UPDATE served_code SET oldest_revision = '${up_revision}'")
    # Only for an index on a large table, in a revision of its own, as it is not in a transaction (same document):
    # with op.get_context().autocommit_block():
    #     op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_name")  # invalid: an interrupted build left it behind
    #     op.execute("CREATE INDEX CONCURRENTLY ix_name ON table_name (column_name)")
