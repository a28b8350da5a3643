"""Ask for the earlier attempts of a charge whose key may have been used before a restore."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the marks of a restore, and name the charge in findings that have no charge here."""
    op.add_column(
        "installation",
        sa.Column("restored_at", sa.DateTime(timezone=True), comment="when the last hold after a restore ended"),
    )
    op.add_column(
        "installation",
        sa.Column("asked_to", sa.BigInteger(), comment="charges up to this row were asked for by that hold"),
    )
    op.add_column(
        "charges",
        sa.Column(
            "asked_at",
            sa.DateTime(timezone=True),
            comment="when the gateway was asked for attempts under its key, before it was first sent",
        ),
    )
    # A merchant_uid is ag1, 4 characters of environment, 26 of the charge key, 4 of the attempt number and a check.
    op.execute(
        "UPDATE findings SET charge_key = substr(merchant_uid, 8, 26) "
        "WHERE charge_key IS NULL AND kind = 'lost' AND merchant_uid LIKE 'ag1%' AND length(merchant_uid) = 38"
    )


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("charges", "asked_at")
    op.drop_column("installation", "asked_to")
    op.drop_column("installation", "restored_at")
