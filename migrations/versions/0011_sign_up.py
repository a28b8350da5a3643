"""Sign up: charges of cards that are typed in, and subscriptions that begin when such a charge is paid."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the column and the table."""
    op.add_column(
        "charges",
        sa.Column("keyed_in", sa.Text, comment="the card was typed in: once, or to be kept; no worker sends it"),
    )
    op.create_check_constraint(op.f("ck_charges_known_keying"), "charges", "keyed_in IN ('keep', 'once')")
    op.create_table(
        "signups",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("charge_id", sa.BigInteger, sa.ForeignKey("charges.id"), nullable=False),
        sa.Column("customer_id", sa.BigInteger, sa.ForeignKey("customers.id"), nullable=False),
        sa.Column("billing_key_id", sa.BigInteger, sa.ForeignKey("billing_keys.id"), nullable=False),
        sa.Column("plan_id", sa.BigInteger, sa.ForeignKey("plans.id"), nullable=False),
        sa.Column("plan", sa.Text, nullable=False, comment="the plan's code"),
        sa.Column("subscription_key", sa.Text, nullable=False),
        sa.Column("anchor", sa.Date, nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), comment="when the payment was there, and it began"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("charge_id", name="one_signup_for_each_charge"),
        sa.UniqueConstraint("subscription_key", name="one_signup_for_each_subscription"),
        comment="A subscription that begins when its first payment is there.",
    )
    op.create_index("ix_signups_billing_key_id_plan", "signups", ["billing_key_id", "plan"])


def downgrade() -> None:
    """Take them away."""
    op.drop_table("signups")
    op.drop_constraint(op.f("ck_charges_known_keying"), "charges", type_="check")
    op.drop_column("charges", "keyed_in")
