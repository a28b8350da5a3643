"""First things first: what was asked for and what is tried again is found at once, and nobody is led astray."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

IS_DUE = "next_attempt_at IS NOT NULL AND held_why IS NULL"


OWED = "status IN ('open', 'past_due')"


def upgrade() -> None:
    """Give each of them an index of its own; put the one over all that is owed into other words."""
    op.drop_index("ix_charges_owed", "charges")
    op.execute("CREATE INDEX ix_charges_owed ON charges (id) WHERE closed_at IS NULL")
    op.execute(
        f"CREATE INDEX ix_charges_due_adhoc ON charges (account, next_attempt_at) WHERE kind = 'adhoc' AND {IS_DUE}"
    )
    op.execute(
        "CREATE INDEX ix_charges_due_again ON charges (account, next_attempt_at) "
        f"WHERE kind = 'renewal' AND attempts > 0 AND {IS_DUE}"
    )


def downgrade() -> None:
    """Take them away, and put the old words back."""
    op.drop_index("ix_charges_owed", "charges")
    op.execute(f"CREATE INDEX ix_charges_owed ON charges (id) WHERE {OWED}")
    op.drop_index("ix_charges_due_again", "charges")
    op.drop_index("ix_charges_due_adhoc", "charges")
