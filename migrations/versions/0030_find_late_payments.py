"""Let a payment of a debt that had ended be a finding."""

from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

_KINDS = "'double', 'lost', 'ghost', 'amount', 'late_paid', 'orphan', 'refund_drift'"


def upgrade() -> None:
    """Take the new kind; payments before the upgrade keep their events, and get no finding."""
    _take(f"{_KINDS}, 'paid_after_end'")


def downgrade() -> None:
    """Refuse the kind again; its findings go."""
    op.execute("DELETE FROM findings WHERE kind = 'paid_after_end'")
    _take(_KINDS)


def _take(kinds: str) -> None:
    op.drop_constraint(op.f("ck_findings_known_kind"), "findings", type_="check")
    op.create_check_constraint(op.f("ck_findings_known_kind"), "findings", f"kind IN ({kinds})")
