"""The tables and their guards, as declared; migrations/ brings a database here, and a test compares them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Time,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from schedules.charges import UNRESOLVED, AttemptState, ChargeKind, ChargeStatus, SubscriptionStatus

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)
INSTANT = DateTime(timezone=True)
# Rows that are written several times each: room for updates in place, and vacuum before they pile up.
HOT = {
    "fillfactor": "70",
    "autovacuum_vacuum_scale_factor": "0.02",
    "autovacuum_analyze_scale_factor": "0.02",
}


def _one_of(column: str, values: list[str]) -> str:
    quoted = ", ".join(f"'{value}'" for value in values)
    return f"{column} IN ({quoted})"


def _id() -> Column[int]:
    return Column("id", BigInteger, Identity(always=True), primary_key=True)


OWED = "status IN ('open', 'past_due')"
UNRESOLVED_STATES = _one_of("state", sorted(UNRESOLVED))

plans = Table(
    "plans",
    metadata,
    _id(),
    Column("code", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("price", BigInteger, nullable=False),
    CheckConstraint("price > 0", name="price_is_positive"),
    Column("currency", Text, nullable=False),
    Column("every", Integer),
    Column("unit", Text),
    Column("cron", Text),
    Column("zone", Text, nullable=False),
    Column("billing_time", Time, nullable=False),
    Column("trial_days", Integer, nullable=False),
    Column("statement_name", Text, nullable=False),
    Column("catch_up", Text, nullable=False),
    Column("catch_up_cap", Integer, nullable=False),
    Column("shift", Text, nullable=False),
    Column("holidays", Text),
    Column("allow_short_months", Boolean, nullable=False),
    Column("dunning", JSONB, nullable=False),
    Column("created_at", INSTANT, nullable=False),
    Column("archived_at", INSTANT),
    CheckConstraint("(every IS NULL) = (unit IS NULL) AND (every IS NULL) <> (cron IS NULL)", name="one_cadence"),
    CheckConstraint("char_length(statement_name) BETWEEN 1 AND 40", name="statement_name_fits"),
    UniqueConstraint("code", "version", name="one_plan_for_each_code_and_version"),
    comment="What is sold: immutable versions, so that a price change leaves running subscriptions alone.",
)

plan_revision = Table(
    "plan_revision",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    CheckConstraint("id = 1", name="one_row"),
    Column("revision", BigInteger, nullable=False),
    comment="Counts the changes of plans, so that beat sees one by reading one row.",
)

customers = Table(
    "customers",
    metadata,
    _id(),
    Column("reference", Text, nullable=False),
    Column("name", Text),
    Column("email", Text),
    Column("tel", Text),
    Column("created_at", INSTANT, nullable=False),
    UniqueConstraint("reference", name="one_customer_for_each_reference"),
    comment="Who pays, by the shop's own reference.",
)

billing_keys = Table(
    "billing_keys",
    metadata,
    _id(),
    Column("customer_id", BigInteger, ForeignKey("customers.id"), nullable=False, index=True),
    Column("customer_uid", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("pg_provider", Text),
    Column("pg_id", Text),
    Column("card_name", Text),
    Column("card_number", Text, comment="masked"),
    Column("created_at", INSTANT, nullable=False),
    Column("deleted_at", INSTANT),
    CheckConstraint("char_length(customer_uid) BETWEEN 1 AND 80", name="customer_uid_fits"),
    CheckConstraint("card_number !~ '[0-9]{13}'", name="card_number_is_masked"),
    UniqueConstraint("customer_uid", name="one_billing_key_for_each_customer_uid"),
    comment="A stored card at a gateway account: masked facts only.",
)

subscriptions = Table(
    "subscriptions",
    metadata,
    _id(),
    Column("key", Text, nullable=False),
    Column("customer_id", BigInteger, ForeignKey("customers.id"), nullable=False, index=True),
    Column("billing_key_id", BigInteger, ForeignKey("billing_keys.id"), nullable=False, index=True),
    Column("plan_id", BigInteger, ForeignKey("plans.id"), nullable=False),
    Column("anchor", Date, nullable=False),
    Column(
        "status",
        Text,
        nullable=False,
    ),
    CheckConstraint(_one_of("status", list(SubscriptionStatus)), name="known_status"),
    Column("next_period_no", Integer, nullable=False),
    Column("next_period_date", Date, nullable=False),
    Column("next_due_at", INSTANT, nullable=False),
    Column("open_at", INSTANT, comment="when opening looks at it next; null when it never will"),
    Column("ends_at", INSTANT),
    Column("created_at", INSTANT, nullable=False),
    UniqueConstraint("key", name="one_subscription_for_each_key"),
    CheckConstraint("next_period_no >= 0", name="period_number_counts_up"),
    CheckConstraint(
        "status <> 'active' OR open_at IS NOT NULL OR ends_at IS NOT NULL", name="active_has_a_next_look"
    ),
    Index("ix_subscriptions_due", "open_at", postgresql_where=text("status = 'active'")),
    Index("ix_subscriptions_due_by_plan", "plan_id", "open_at", postgresql_where=text("status = 'active'")),
    comment="A customer on a plan: anchor and cursor by period number.",
    postgresql_with=HOT,
)

charges = Table(
    "charges",
    metadata,
    _id(),
    Column("key", Text, nullable=False),
    Column("kind", Text, nullable=False),
    CheckConstraint(_one_of("kind", list(ChargeKind)), name="known_kind"),
    Column("subscription_id", BigInteger, ForeignKey("subscriptions.id")),
    Column("period_no", Integer, nullable=False),
    Column("request_key", Text),
    Column("request_fingerprint", Text),
    Column("billing_key_id", BigInteger, ForeignKey("billing_keys.id"), nullable=False, index=True),
    Column("account", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),
    CheckConstraint("amount > 0", name="amount_is_positive"),
    Column("currency", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("dunning", JSONB, nullable=False),
    Column(
        "status",
        Text,
        nullable=False,
    ),
    CheckConstraint(_one_of("status", list(ChargeStatus)), name="known_status"),
    Column("due_at", INSTANT, nullable=False),
    Column("next_attempt_at", INSTANT),
    Column("queued_until", INSTANT, comment="a message is thought to wait in the broker until then"),
    Column("held_why", Text, comment="why it waits for an operator"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("declines", Integer, nullable=False, server_default="0"),
    Column("technical_tries", Integer, nullable=False, server_default="0"),
    Column("refusals", Integer, nullable=False, server_default="0"),
    Column("first_declined_at", INSTANT),
    Column("refunded", BigInteger, nullable=False, server_default="0"),
    Column("created_at", INSTANT, nullable=False),
    Column("closed_at", INSTANT),
    Column("closed_why", Text),
    UniqueConstraint("key", name="one_charge_for_each_key"),
    UniqueConstraint("subscription_id", "period_no", "kind", name="one_charge_for_each_period"),
    UniqueConstraint("request_key", name="one_charge_for_each_request_key"),
    CheckConstraint("(kind = 'adhoc') = (request_key IS NOT NULL)", name="adhoc_has_a_request_key"),
    CheckConstraint("(kind = 'renewal') = (subscription_id IS NOT NULL)", name="renewal_has_a_subscription"),
    CheckConstraint(f"{OWED} OR next_attempt_at IS NULL", name="closed_has_no_next_attempt"),
    CheckConstraint(f"({OWED}) = (closed_at IS NULL)", name="closed_says_when"),
    Index(
        "ix_charges_due",
        "account",
        "next_attempt_at",
        postgresql_where=text("next_attempt_at IS NOT NULL AND held_why IS NULL"),
    ),
    Index("ix_charges_queued", "account", "queued_until", postgresql_where=text("queued_until IS NOT NULL")),
    Index(
        "ix_charges_in_flight",
        "id",
        postgresql_where=text(f"{OWED} AND next_attempt_at IS NULL AND held_why IS NULL"),
    ),
    Index("ix_charges_held", "id", postgresql_where=text("held_why IS NOT NULL")),
    comment="A debt: one row for each period of a subscription, or for each ad-hoc request key.",
    postgresql_with=HOT,
)

attempts = Table(
    "attempts",
    metadata,
    _id(),
    Column("charge_id", BigInteger, ForeignKey("charges.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("merchant_uid", Text, nullable=False),
    Column(
        "state",
        Text,
        nullable=False,
    ),
    CheckConstraint(_one_of("state", list(AttemptState)), name="known_state"),
    Column("amount", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("lease_until", INSTANT),
    Column("sends", Integer, nullable=False),
    Column("last_sent_at", INSTANT, nullable=False),
    Column("unknown_since", INSTANT),
    Column("next_ask_at", INSTANT),
    Column("asks", Integer, nullable=False, server_default="0"),
    Column("quiet_answers", Integer, nullable=False, server_default="0"),
    Column("imp_uid", Text),
    Column("pg_provider", Text),
    Column("pg_code", Text),
    Column("reason", Text),
    Column("answer", JSONB, comment="the outcome as it was read, without anything secret"),
    Column("created_at", INSTANT, nullable=False),
    Column("settled_at", INSTANT),
    UniqueConstraint("merchant_uid", name="one_attempt_for_each_merchant_uid"),
    UniqueConstraint("charge_id", "number", name="one_attempt_for_each_number"),
    CheckConstraint("(state = 'sending') = (lease_until IS NOT NULL)", name="sending_has_a_lease"),
    CheckConstraint("state <> 'unknown' OR next_ask_at IS NOT NULL", name="unknown_is_asked_about"),
    CheckConstraint("char_length(merchant_uid) <= 40", name="merchant_uid_fits"),
    Index(
        "one_unresolved_attempt_for_each_charge",
        "charge_id",
        unique=True,
        postgresql_where=text(UNRESOLVED_STATES),
    ),
    Index("one_paid_attempt_for_each_charge", "charge_id", unique=True, postgresql_where=text("state = 'paid'")),
    Index("ix_attempts_leased", "lease_until", postgresql_where=text("state = 'sending'")),
    Index("ix_attempts_to_ask", "next_ask_at", postgresql_where=text("state = 'unknown'")),
    comment="One merchant_uid at the gateway: what was asked and what came of it.",
    postgresql_with=HOT,
)

attempt_events = Table(
    "attempt_events",
    metadata,
    _id(),
    Column("attempt_id", BigInteger, ForeignKey("attempts.id"), nullable=False, index=True),
    Column("at", INSTANT, nullable=False),
    Column("state", Text, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("words", Text),
    comment="Everything that happened to an attempt, in order; append only.",
)

outbox = Table(
    "outbox",
    metadata,
    _id(),
    Column("dedupe_key", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False, index=True),
    Column("payload", JSONB, nullable=False),
    Column("created_at", INSTANT, nullable=False),
    Column("delivered_at", INSTANT),
    UniqueConstraint("dedupe_key", name="one_notice_for_each_change"),
    comment="Notices owed to the outside, written in the transaction that caused them.",
)

audit = Table(
    "audit",
    metadata,
    _id(),
    Column("at", INSTANT, nullable=False),
    Column("actor", Text, nullable=False),
    Column("verb", Text, nullable=False),
    Column("subject", Text, nullable=False, index=True),
    Column("why", Text),
    Column("details", JSONB, nullable=False),
    comment="Who did what to which, when and why; append only.",
)

installation = Table(
    "installation",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    CheckConstraint("id = 1", name="one_row"),
    Column("fingerprint", Text, nullable=False),
    Column("environment", Text, nullable=False),
    Column("bound_at", INSTANT, nullable=False),
    Column("bound_by", Text, nullable=False),
    comment="The environment that may send charges from this database.",
)

stops = Table(
    "stops",
    metadata,
    Column("account", Text, primary_key=True),
    Column("at", INSTANT, nullable=False),
    Column("actor", Text, nullable=False),
    Column("why", Text, nullable=False),
    comment="The kill switch: a row stops charging for its account, '*' for all.",
)

rate_buckets = Table(
    "rate_buckets",
    metadata,
    Column("account", Text, primary_key=True),
    Column("next_free_at", INSTANT, nullable=False),
    comment="When the next call of an account may leave; by the database's own clock.",
)

gateway_tokens = Table(
    "gateway_tokens",
    metadata,
    Column("account", Text, primary_key=True),
    Column("sealed", LargeBinary, comment="encrypted under a key made from the account's secret"),
    Column("expires_at", INSTANT),
    Column("refresh_until", INSTANT),
    comment="The access token that all processes share, sealed, and who may refresh it.",
)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("until", INSTANT, nullable=False),
    comment="Leadership among beats; it saves work and carries no correctness.",
)

heartbeats = Table(
    "heartbeats",
    metadata,
    Column("name", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("started_at", INSTANT, nullable=False),
    Column("seen_at", INSTANT, nullable=False),
    Column("leads", Boolean, nullable=False),
    Column("plans", Integer, nullable=False),
    comment="Which beats are alive, and which of them leads; by the database's own clock.",
)
