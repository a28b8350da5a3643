"""Compare batches: the same lines are not charged twice by accident, and two persons can be distinguished."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; a batch from before has no content and is compared with none."""
    for column in (
        sa.Column("created_os_user", sa.Text, comment="the operating system's user of created_by"),
        sa.Column("approved_os_user", sa.Text, comment="the operating system's user of approved_by"),
        sa.Column(
            "content", sa.Text, comment="of its lines' customers, amounts and own request keys, in any order"
        ),
        sa.Column(
            "repeats",
            sa.Text,
            nullable=False,
            server_default="",
            comment="key of the batch whose lines it repeats",
        ),
    ):
        op.add_column("batches", column)
    op.create_index(
        "one_batch_for_each_content",
        "batches",
        ["content", "repeats"],
        unique=True,
        postgresql_where=sa.text("state NOT IN ('draft', 'dropped')"),
    )


def downgrade() -> None:
    """Remove them."""
    op.drop_index("one_batch_for_each_content", "batches")
    for name in ("repeats", "content", "approved_os_user", "created_os_user"):
        op.drop_column("batches", name)
