"""The baseline: every table with its guards, as of the first release."""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BASELINE = Path(__file__).resolve().parents[1] / "baseline.sql"


def upgrade() -> None:
    """Create them."""
    # Without parameters, the driver sends the text as it is: many statements, and percent signs.
    op.get_bind().exec_driver_sql(BASELINE.read_text(encoding="utf-8"), execution_options={"no_parameters": True})
