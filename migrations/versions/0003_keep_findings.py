"""Keep findings: the reconciler's runs and what they find, the breaker, the restore hold, quarantine."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

OWED = "status IN ('open', 'past_due')"
INSTANT = sa.DateTime(timezone=True)
NEXT_LOOK = "status <> 'active' OR open_at IS NOT NULL OR ends_at IS NOT NULL"


def upgrade() -> None:
    """Make the tables, and the columns that set things aside."""
    op.create_table(
        "breakers",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("counted_from", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_breakers")),
        comment="Since when an account's refused calls are counted: a person has looked at those before.",
    )
    _make_findings()
    _make_reconciliations()
    op.add_column(
        "subscriptions",
        sa.Column("held_why", sa.Text(), comment="why opening has set it aside until an operator looks"),
    )
    op.drop_constraint(op.f("ck_subscriptions_active_has_a_next_look"), "subscriptions", type_="check")
    op.create_check_constraint(
        op.f("ck_subscriptions_active_has_a_next_look"), "subscriptions", f"{NEXT_LOOK} OR held_why IS NOT NULL"
    )
    op.create_index(
        "ix_subscriptions_held", "subscriptions", ["id"], postgresql_where=sa.text("held_why IS NOT NULL")
    )
    op.create_index("ix_charges_owed", "charges", ["id"], postgresql_where=sa.text(OWED))
    op.create_index("ix_attempts_paid", "attempts", ["last_sent_at"], postgresql_where=sa.text("state = 'paid'"))
    op.create_index(
        "ix_attempts_refused", "attempts", ["settled_at"], postgresql_where=sa.text("state = 'refused'")
    )
    op.add_column(
        "installation",
        sa.Column(
            "identity", sa.Text(), nullable=False, server_default="", comment="which database it was bound in"
        ),
    )
    op.add_column(
        "installation",
        sa.Column("hold_since", INSTANT, comment="nothing is sent since then, until the hold is over"),
    )
    op.add_column(
        "installation",
        sa.Column("hold_from", INSTANT, comment="what the gateway did from then on may be unknown here"),
    )
    op.add_column(
        "installation",
        sa.Column("hold_cursor", sa.BigInteger(), comment="owed charges up to this row have been asked for"),
    )
    op.create_check_constraint(
        op.f("ck_installation_hold_is_whole"),
        "installation",
        "(hold_since IS NULL) = (hold_from IS NULL) AND (hold_since IS NULL) = (hold_cursor IS NULL)",
    )


def _make_findings() -> None:
    op.create_table(
        "findings",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("merchant_uid", sa.Text(), nullable=False),
        sa.Column(
            "imp_uid", sa.Text(), nullable=False, server_default="", comment="empty when there is no payment"
        ),
        sa.Column("charge_key", sa.Text()),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("balance", sa.BigInteger(), nullable=False, comment="minor units that have not been given back"),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("lease_until", INSTANT, comment="when a refund under way is looked at again"),
        sa.Column("found_at", INSTANT, nullable=False),
        sa.Column("seen_at", INSTANT, nullable=False),
        sa.Column("ended_at", INSTANT),
        sa.Column("ended_by", sa.Text()),
        sa.Column("ended_why", sa.Text()),
        sa.CheckConstraint(
            "kind IN ('double', 'lost', 'ghost', 'amount', 'late_paid', 'orphan', 'refund_drift')",
            name=op.f("ck_findings_known_kind"),
        ),
        sa.CheckConstraint(
            "state IN ('open', 'approved', 'refunding', 'repaired', 'refunded', 'resolved')",
            name=op.f("ck_findings_known_state"),
        ),
        sa.CheckConstraint(
            "(state = 'refunding') = (lease_until IS NOT NULL)", name=op.f("ck_findings_refunding_has_a_lease")
        ),
        sa.CheckConstraint(
            "(state IN ('repaired', 'refunded', 'resolved')) = (ended_at IS NOT NULL)",
            name=op.f("ck_findings_ended_says_when"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_findings")),
        sa.UniqueConstraint("kind", "account", "merchant_uid", "imp_uid", name="one_finding_for_each_payment"),
        comment="Where the gateway's records and our books do not agree, and what was done about it.",
    )
    op.create_index(op.f("ix_findings_charge_key"), "findings", ["charge_key"])
    op.create_index("ix_findings_open", "findings", ["id"], postgresql_where=sa.text("ended_at IS NULL"))


def _make_reconciliations() -> None:
    op.create_table(
        "reconciliations",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("since", INSTANT, nullable=False),
        sa.Column("until", INSTANT, nullable=False),
        sa.Column("done_until", INSTANT, nullable=False, comment="everything before is compared"),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("ended_at", INSTANT),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", INSTANT, nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("payments", sa.BigInteger(), nullable=False),
        sa.Column("findings", sa.BigInteger(), nullable=False),
        sa.Column("words", sa.Text(), comment="what kept it from going on, the last time it was kept"),
        sa.CheckConstraint(
            "kind IN ('hourly', 'daily', 'asked', 'restore')", name=op.f("ck_reconciliations_known_kind")
        ),
        sa.CheckConstraint("since < until", name=op.f("ck_reconciliations_goes_forward")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reconciliations")),
        comment="Runs of the reconciler, each with how far it has come.",
    )
    op.create_index(
        "one_reconciliation_at_a_time",
        "reconciliations",
        ["account", "kind"],
        unique=True,
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_index("ix_reconciliations_newest", "reconciliations", ["account", "kind", "id"])


def downgrade() -> None:
    """Take the tables and columns away; a subscription that was set aside is looked at again."""
    op.drop_constraint(op.f("ck_installation_hold_is_whole"), "installation", type_="check")
    for column in ("identity", "hold_since", "hold_from", "hold_cursor"):
        op.drop_column("installation", column)
    op.drop_index("ix_attempts_refused", "attempts")
    op.drop_index("ix_attempts_paid", "attempts")
    op.drop_index("ix_charges_owed", "charges")
    op.drop_index("ix_subscriptions_held", "subscriptions")
    op.execute("UPDATE subscriptions SET open_at = next_due_at WHERE held_why IS NOT NULL AND open_at IS NULL")
    op.drop_constraint(op.f("ck_subscriptions_active_has_a_next_look"), "subscriptions", type_="check")
    op.create_check_constraint(op.f("ck_subscriptions_active_has_a_next_look"), "subscriptions", NEXT_LOOK)
    op.drop_column("subscriptions", "held_why")
    for table in ("reconciliations", "findings", "breakers"):
        op.drop_table(table)
