"""Open the books: every table with its guards."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""

    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("verb", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=True),
        sa.Column("details", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
        comment="Who did what to which, when and why; append only.",
    )
    op.create_index(op.f("ix_audit_subject"), "audit", ["subject"], unique=False)
    op.create_table(
        "customers",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("tel", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_customers")),
        sa.UniqueConstraint("reference", name="one_customer_for_each_reference"),
        comment="Who pays, by the shop's own reference.",
    )
    op.create_table(
        "gateway_tokens",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column(
            "sealed",
            sa.LargeBinary(),
            nullable=True,
            comment="encrypted under a key made from the account's secret",
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("refresh_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_gateway_tokens")),
        comment="The access token that all processes share, sealed, and who may refresh it.",
    )
    op.create_table(
        "heartbeats",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("leads", sa.Boolean(), nullable=False),
        sa.Column("plans", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_heartbeats")),
        comment="Which beats are alive, and which of them leads; by the database's own clock.",
    )
    op.create_table(
        "installation",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("bound_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("bound_by", sa.Text(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_installation_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_installation")),
        comment="The environment that may send charges from this database.",
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
        comment="Leadership among beats; it saves work and carries no correctness.",
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("dedupe_key", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sa.UniqueConstraint("dedupe_key", name="one_notice_for_each_change"),
        comment="Notices owed to the outside, written in the transaction that caused them.",
    )
    op.create_index(op.f("ix_outbox_subject"), "outbox", ["subject"], unique=False)
    op.create_table(
        "plan_revision",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_plan_revision_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plan_revision")),
        comment="Counts the changes of plans, so that beat sees one by reading one row.",
    )
    op.create_table(
        "plans",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("price", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("every", sa.Integer(), nullable=True),
        sa.Column("unit", sa.Text(), nullable=True),
        sa.Column("cron", sa.Text(), nullable=True),
        sa.Column("zone", sa.Text(), nullable=False),
        sa.Column("billing_time", sa.Time(), nullable=False),
        sa.Column("trial_days", sa.Integer(), nullable=False),
        sa.Column("statement_name", sa.Text(), nullable=False),
        sa.Column("catch_up", sa.Text(), nullable=False),
        sa.Column("catch_up_cap", sa.Integer(), nullable=False),
        sa.Column("shift", sa.Text(), nullable=False),
        sa.Column("holidays", sa.Text(), nullable=True),
        sa.Column("allow_short_months", sa.Boolean(), nullable=False),
        sa.Column("dunning", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(every IS NULL) = (unit IS NULL) AND (every IS NULL) <> (cron IS NULL)",
            name=op.f("ck_plans_one_cadence"),
        ),
        sa.CheckConstraint(
            "char_length(statement_name) BETWEEN 1 AND 40", name=op.f("ck_plans_statement_name_fits")
        ),
        sa.CheckConstraint("price > 0", name=op.f("ck_plans_price_is_positive")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plans")),
        sa.UniqueConstraint("code", "version", name="one_plan_for_each_code_and_version"),
        comment="What is sold: immutable versions, so that a price change leaves running subscriptions alone.",
    )
    op.create_table(
        "rate_buckets",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("next_free_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_rate_buckets")),
        comment="When the next call of an account may leave; by the database's own clock.",
    )
    op.create_table(
        "stops",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_stops")),
        comment="The kill switch: a row stops charging for its account, '*' for all.",
    )
    op.create_table(
        "billing_keys",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.Column("customer_uid", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("pg_provider", sa.Text(), nullable=True),
        sa.Column("pg_id", sa.Text(), nullable=True),
        sa.Column("card_name", sa.Text(), nullable=True),
        sa.Column("card_number", sa.Text(), nullable=True, comment="masked"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("card_number !~ '[0-9]{13}'", name=op.f("ck_billing_keys_card_number_is_masked")),
        sa.CheckConstraint(
            "char_length(customer_uid) BETWEEN 1 AND 80", name=op.f("ck_billing_keys_customer_uid_fits")
        ),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_billing_keys_customer_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_billing_keys")),
        sa.UniqueConstraint("customer_uid", name="one_billing_key_for_each_customer_uid"),
        comment="A stored card at a gateway account: masked facts only.",
    )
    op.create_index(op.f("ix_billing_keys_customer_id"), "billing_keys", ["customer_id"], unique=False)
    op.create_table(
        "subscriptions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.Column("billing_key_id", sa.BigInteger(), nullable=False),
        sa.Column("plan_id", sa.BigInteger(), nullable=False),
        sa.Column("anchor", sa.Date(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("next_period_no", sa.Integer(), nullable=False),
        sa.Column("next_period_date", sa.Date(), nullable=False),
        sa.Column("next_due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "open_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when opening looks at it next; null when it never will",
        ),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "status <> 'active' OR open_at IS NOT NULL OR ends_at IS NOT NULL",
            name=op.f("ck_subscriptions_active_has_a_next_look"),
        ),
        sa.CheckConstraint(
            "status IN ('active', 'paused', 'canceled')", name=op.f("ck_subscriptions_known_status")
        ),
        sa.CheckConstraint("next_period_no >= 0", name=op.f("ck_subscriptions_period_number_counts_up")),
        sa.ForeignKeyConstraint(
            ["billing_key_id"], ["billing_keys.id"], name=op.f("fk_subscriptions_billing_key_id")
        ),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_subscriptions_customer_id")),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_subscriptions_plan_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subscriptions")),
        sa.UniqueConstraint("key", name="one_subscription_for_each_key"),
        comment="A customer on a plan: anchor and cursor by period number.",
        postgresql_with={
            "fillfactor": "70",
            "autovacuum_vacuum_scale_factor": "0.02",
            "autovacuum_analyze_scale_factor": "0.02",
        },
    )
    op.create_index(op.f("ix_subscriptions_billing_key_id"), "subscriptions", ["billing_key_id"], unique=False)
    op.create_index(op.f("ix_subscriptions_customer_id"), "subscriptions", ["customer_id"], unique=False)
    op.create_index(
        "ix_subscriptions_due",
        "subscriptions",
        ["open_at"],
        unique=False,
        postgresql_where=sa.text("status = 'active'"),
    )
    op.create_index(
        "ix_subscriptions_due_by_plan",
        "subscriptions",
        ["plan_id", "open_at"],
        unique=False,
        postgresql_where=sa.text("status = 'active'"),
    )
    op.create_table(
        "charges",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subscription_id", sa.BigInteger(), nullable=True),
        sa.Column("period_no", sa.Integer(), nullable=False),
        sa.Column("request_key", sa.Text(), nullable=True),
        sa.Column("request_fingerprint", sa.Text(), nullable=True),
        sa.Column("billing_key_id", sa.BigInteger(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("dunning", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "queued_until",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="a message is thought to wait in the broker until then",
        ),
        sa.Column("held_why", sa.Text(), nullable=True, comment="why it waits for an operator"),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("declines", sa.Integer(), server_default="0", nullable=False),
        sa.Column("technical_tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("refusals", sa.Integer(), server_default="0", nullable=False),
        sa.Column("first_declined_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("refunded", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_why", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(kind = 'adhoc') = (request_key IS NOT NULL)", name=op.f("ck_charges_adhoc_has_a_request_key")
        ),
        sa.CheckConstraint(
            "(kind = 'renewal') = (subscription_id IS NOT NULL)",
            name=op.f("ck_charges_renewal_has_a_subscription"),
        ),
        sa.CheckConstraint(
            "(status IN ('open', 'past_due')) = (closed_at IS NULL)", name=op.f("ck_charges_closed_says_when")
        ),
        sa.CheckConstraint("kind IN ('renewal', 'adhoc')", name=op.f("ck_charges_known_kind")),
        sa.CheckConstraint(
            "status IN ('open', 'past_due') OR next_attempt_at IS NULL",
            name=op.f("ck_charges_closed_has_no_next_attempt"),
        ),
        sa.CheckConstraint(
            "status IN ('open', 'past_due', 'paid', 'uncollectible', 'waived', 'canceled', 'refunded')",
            name=op.f("ck_charges_known_status"),
        ),
        sa.CheckConstraint("amount > 0", name=op.f("ck_charges_amount_is_positive")),
        sa.ForeignKeyConstraint(["billing_key_id"], ["billing_keys.id"], name=op.f("fk_charges_billing_key_id")),
        sa.ForeignKeyConstraint(
            ["subscription_id"], ["subscriptions.id"], name=op.f("fk_charges_subscription_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_charges")),
        sa.UniqueConstraint("key", name="one_charge_for_each_key"),
        sa.UniqueConstraint("request_key", name="one_charge_for_each_request_key"),
        sa.UniqueConstraint("subscription_id", "period_no", "kind", name="one_charge_for_each_period"),
        comment="A debt: one row for each period of a subscription, or for each ad-hoc request key.",
        postgresql_with={
            "fillfactor": "70",
            "autovacuum_vacuum_scale_factor": "0.02",
            "autovacuum_analyze_scale_factor": "0.02",
        },
    )
    op.create_index(op.f("ix_charges_billing_key_id"), "charges", ["billing_key_id"], unique=False)
    op.create_index(
        "ix_charges_due",
        "charges",
        ["account", "next_attempt_at"],
        unique=False,
        postgresql_where=sa.text("next_attempt_at IS NOT NULL AND held_why IS NULL"),
    )
    op.create_index(
        "ix_charges_held", "charges", ["id"], unique=False, postgresql_where=sa.text("held_why IS NOT NULL")
    )
    op.create_index(
        "ix_charges_in_flight",
        "charges",
        ["id"],
        unique=False,
        postgresql_where=sa.text(
            "status IN ('open', 'past_due') AND next_attempt_at IS NULL AND held_why IS NULL"
        ),
    )
    op.create_index(
        "ix_charges_queued",
        "charges",
        ["account", "queued_until"],
        unique=False,
        postgresql_where=sa.text("queued_until IS NOT NULL"),
    )
    op.create_table(
        "attempts",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("charge_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("merchant_uid", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sends", sa.Integer(), nullable=False),
        sa.Column("last_sent_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("unknown_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_ask_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("asks", sa.Integer(), server_default="0", nullable=False),
        sa.Column("quiet_answers", sa.Integer(), server_default="0", nullable=False),
        sa.Column("imp_uid", sa.Text(), nullable=True),
        sa.Column("pg_provider", sa.Text(), nullable=True),
        sa.Column("pg_code", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column(
            "answer",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="the outcome as it was read, without anything secret",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'sending') = (lease_until IS NOT NULL)", name=op.f("ck_attempts_sending_has_a_lease")
        ),
        sa.CheckConstraint(
            "state <> 'unknown' OR next_ask_at IS NOT NULL", name=op.f("ck_attempts_unknown_is_asked_about")
        ),
        sa.CheckConstraint(
            "state IN ('ready', 'sending', 'paid', 'declined', 'refused', 'not_sent', 'unknown')",
            name=op.f("ck_attempts_known_state"),
        ),
        sa.CheckConstraint("char_length(merchant_uid) <= 40", name=op.f("ck_attempts_merchant_uid_fits")),
        sa.ForeignKeyConstraint(["charge_id"], ["charges.id"], name=op.f("fk_attempts_charge_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempts")),
        sa.UniqueConstraint("charge_id", "number", name="one_attempt_for_each_number"),
        sa.UniqueConstraint("merchant_uid", name="one_attempt_for_each_merchant_uid"),
        comment="One merchant_uid at the gateway: what was asked and what came of it.",
        postgresql_with={
            "fillfactor": "70",
            "autovacuum_vacuum_scale_factor": "0.02",
            "autovacuum_analyze_scale_factor": "0.02",
        },
    )
    op.create_index(
        "ix_attempts_leased",
        "attempts",
        ["lease_until"],
        unique=False,
        postgresql_where=sa.text("state = 'sending'"),
    )
    op.create_index(
        "ix_attempts_to_ask",
        "attempts",
        ["next_ask_at"],
        unique=False,
        postgresql_where=sa.text("state = 'unknown'"),
    )
    op.create_index(
        "one_paid_attempt_for_each_charge",
        "attempts",
        ["charge_id"],
        unique=True,
        postgresql_where=sa.text("state = 'paid'"),
    )
    op.create_index(
        "one_unresolved_attempt_for_each_charge",
        "attempts",
        ["charge_id"],
        unique=True,
        postgresql_where=sa.text("state IN ('not_sent', 'ready', 'sending', 'unknown')"),
    )
    op.create_table(
        "attempt_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("attempt_id", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("words", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name=op.f("fk_attempt_events_attempt_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempt_events")),
        comment="Everything that happened to an attempt, in order; append only.",
    )
    op.create_index(op.f("ix_attempt_events_attempt_id"), "attempt_events", ["attempt_id"], unique=False)


def downgrade() -> None:
    """Undo it."""

    op.drop_index(op.f("ix_attempt_events_attempt_id"), table_name="attempt_events")
    op.drop_table("attempt_events")
    op.drop_index(
        "one_unresolved_attempt_for_each_charge",
        table_name="attempts",
        postgresql_where=sa.text("state IN ('not_sent', 'ready', 'sending', 'unknown')"),
    )
    op.drop_index(
        "one_paid_attempt_for_each_charge", table_name="attempts", postgresql_where=sa.text("state = 'paid'")
    )
    op.drop_index("ix_attempts_to_ask", table_name="attempts", postgresql_where=sa.text("state = 'unknown'"))
    op.drop_index("ix_attempts_leased", table_name="attempts", postgresql_where=sa.text("state = 'sending'"))
    op.drop_table("attempts")
    op.drop_index("ix_charges_queued", table_name="charges", postgresql_where=sa.text("queued_until IS NOT NULL"))
    op.drop_index(
        "ix_charges_in_flight",
        table_name="charges",
        postgresql_where=sa.text(
            "status IN ('open', 'past_due') AND next_attempt_at IS NULL AND held_why IS NULL"
        ),
    )
    op.drop_index("ix_charges_held", table_name="charges", postgresql_where=sa.text("held_why IS NOT NULL"))
    op.drop_index(
        "ix_charges_due",
        table_name="charges",
        postgresql_where=sa.text("next_attempt_at IS NOT NULL AND held_why IS NULL"),
    )
    op.drop_index(op.f("ix_charges_billing_key_id"), table_name="charges")
    op.drop_table("charges")
    op.drop_index(
        "ix_subscriptions_due_by_plan", table_name="subscriptions", postgresql_where=sa.text("status = 'active'")
    )
    op.drop_index(
        "ix_subscriptions_due", table_name="subscriptions", postgresql_where=sa.text("status = 'active'")
    )
    op.drop_index(op.f("ix_subscriptions_customer_id"), table_name="subscriptions")
    op.drop_index(op.f("ix_subscriptions_billing_key_id"), table_name="subscriptions")
    op.drop_table("subscriptions")
    op.drop_index(op.f("ix_billing_keys_customer_id"), table_name="billing_keys")
    op.drop_table("billing_keys")
    op.drop_table("stops")
    op.drop_table("rate_buckets")
    op.drop_table("plans")
    op.drop_table("plan_revision")
    op.drop_index(op.f("ix_outbox_subject"), table_name="outbox")
    op.drop_table("outbox")
    op.drop_table("leases")
    op.drop_table("installation")
    op.drop_table("heartbeats")
    op.drop_table("gateway_tokens")
    op.drop_table("customers")
    op.drop_index(op.f("ix_audit_subject"), table_name="audit")
    op.drop_table("audit")
