"""First things first: what somebody asked for, and what is tried again, is found before the renewals."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

IS_DUE = "next_attempt_at IS NOT NULL AND held_why IS NULL"


def upgrade() -> None:
    """Give each of them an index of its own."""
    op.execute(
        f"CREATE INDEX ix_charges_due_adhoc ON charges (account, next_attempt_at) WHERE kind = 'adhoc' AND {IS_DUE}"
    )
    op.execute(
        "CREATE INDEX ix_charges_due_again ON charges (account, next_attempt_at) "
        f"WHERE kind = 'renewal' AND attempts > 0 AND {IS_DUE}"
    )


def downgrade() -> None:
    """Take them away."""
    op.drop_index("ix_charges_due_again", "charges")
    op.drop_index("ix_charges_due_adhoc", "charges")
