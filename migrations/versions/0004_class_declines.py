"""Class declines: what a declined attempt's words mean, and which rule of which version says so."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

CLASSES = (
    "never_again", "customer_must_act", "money_short", "limit", "later", "unknown_word", "unknown_outcome",
    "setup_fault", "not_a_decline",
)  # fmt: skip


def upgrade() -> None:
    """Make the columns; `again declines reclassify` fills them for what was declined before."""
    op.add_column("attempts", sa.Column("decline_class", sa.Text(), comment="what the words of a decline mean"))
    op.add_column(
        "attempts", sa.Column("decline_rule", sa.Text(), comment="the rule that says so, with its version")
    )
    known = ", ".join(f"'{name}'" for name in CLASSES)
    op.create_check_constraint(op.f("ck_attempts_known_decline_class"), "attempts", f"decline_class IN ({known})")
    op.create_check_constraint(
        op.f("ck_attempts_decline_class_has_a_rule"),
        "attempts",
        "(decline_class IS NULL) = (decline_rule IS NULL)",
    )


def downgrade() -> None:
    """Take the columns away; the words of each decline stay, so that they can be placed again."""
    op.drop_constraint(op.f("ck_attempts_decline_class_has_a_rule"), "attempts", type_="check")
    op.drop_constraint(op.f("ck_attempts_known_decline_class"), "attempts", type_="check")
    op.drop_column("attempts", "decline_rule")
    op.drop_column("attempts", "decline_class")
