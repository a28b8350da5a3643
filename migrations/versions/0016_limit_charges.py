"""Limit charges: a charge above a limit waits for a second person, and each account's day has a sum."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table of daily sums, and who asked for a charge that waits for a second person."""
    op.create_table(
        "allowances",
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("day", sa.Date, nullable=False, comment="in Seoul"),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("taken", sa.BigInteger, nullable=False, comment="minor units charged without a second person"),
        sa.CheckConstraint("taken > 0", name=op.f("ck_allowances_taken_is_positive")),
        sa.PrimaryKeyConstraint("account", "day", "currency", name="pk_allowances"),
        comment="How much of an account's daily limit of charges without a second person is used.",
    )
    op.add_column(
        "charges",
        sa.Column("unapproved_actor", sa.Text, comment="who asked for it, while a second person must release it"),
    )
    op.add_column(
        "charges",
        sa.Column("unapproved_os_user", sa.Text, comment="the operating system's user of unapproved_actor"),
    )
    op.create_check_constraint(
        op.f("ck_charges_unapproved_waits"),
        "charges",
        "unapproved_actor IS NULL OR held_why IS NOT NULL OR closed_at IS NOT NULL",
    )


def downgrade() -> None:
    """Remove them; a charge that waits for a second person stays held."""
    op.drop_constraint(op.f("ck_charges_unapproved_waits"), "charges")
    op.drop_column("charges", "unapproved_os_user")
    op.drop_column("charges", "unapproved_actor")
    op.drop_table("allowances")
