"""The tables of batches with their lines, signups and takeovers."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    Time,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from schedules.requests.batches import BatchState
from worker.store.tables.base import INSTANT, metadata, one_of, row_id

BEGUN = "state NOT IN ('draft', 'dropped')"

batches = Table(
    "batches",
    metadata,
    row_id(),
    Column("key", Text, nullable=False),
    Column("fingerprint", Text, nullable=False, comment="of all its lines and terms"),
    Column("terms", JSONB, nullable=False),
    Column("state", Text, nullable=False),
    Column("lines", Integer, nullable=False),
    Column("sums", JSONB, nullable=False, comment="minor units by currency"),
    Column("opened_to", Integer, nullable=False, server_default="0", comment="number of the last line opened"),
    Column("opened", Integer, nullable=False, server_default="0", comment="lines that were opened"),
    Column("canary_passed", Boolean, nullable=False),
    Column("words", Text, comment="why it was stopped"),
    Column("created_by", Text, nullable=False),
    Column("created_at", INSTANT, nullable=False),
    Column("created_os_user", Text, comment="the operating system's user of created_by"),
    Column("approved_by", Text),
    Column("approved_os_user", Text, comment="the operating system's user of approved_by"),
    Column("approved_at", INSTANT),
    Column("content", Text, comment="of its lines' customers, amounts and own request keys, in any order"),
    Column("repeats", Text, nullable=False, server_default="", comment="key of the batch whose lines it repeats"),
    Column("ended_at", INSTANT),
    CheckConstraint(one_of("state", list(BatchState)), name="known_state"),
    CheckConstraint("state NOT IN ('running', 'done') OR approved_by IS NOT NULL", name="running_was_approved"),
    UniqueConstraint("key", name="one_batch_for_each_key"),
    Index("one_batch_for_each_content", "content", "repeats", unique=True, postgresql_where=text(BEGUN)),
    Index("ix_batches_running", "id", postgresql_where=text("state = 'running'")),
    comment="Charges that are asked for together.",
)

batch_lines = Table(
    "batch_lines",
    metadata,
    Column("batch_id", BigInteger, ForeignKey("batches.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("customer_uid", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("request_key", Text, nullable=False),
    Column("charge_id", BigInteger, ForeignKey("charges.id")),
    Column("words", Text, comment="why it has no charge"),
    UniqueConstraint("batch_id", "request_key", name="one_line_for_each_request_key"),
    comment="A line of a batch, and the charge that was made of it.",
)

signups = Table(
    "signups",
    metadata,
    row_id(),
    Column("charge_id", BigInteger, ForeignKey("charges.id"), nullable=False),
    Column("customer_id", BigInteger, ForeignKey("customers.id"), nullable=False),
    Column("billing_key_id", BigInteger, ForeignKey("billing_keys.id"), nullable=False),
    Column("plan_id", BigInteger, ForeignKey("plans.id"), nullable=False),
    Column("plan", Text, nullable=False, comment="the plan's code"),
    Column("subscription_key", Text, nullable=False),
    Column("anchor", Date, nullable=False),
    Column("begun_at", INSTANT, comment="when the payment was there, and it began"),
    Column("created_at", INSTANT, nullable=False),
    UniqueConstraint("charge_id", name="one_signup_for_each_charge"),
    UniqueConstraint("subscription_key", name="one_signup_for_each_subscription"),
    Index("ix_signups_billing_key_id_plan", "billing_key_id", "plan"),
    comment="A subscription that begins when its first payment is there.",
)

takeovers = Table(
    "takeovers",
    metadata,
    row_id(),
    Column("billing_key_id", BigInteger, ForeignKey("billing_keys.id"), nullable=False),
    Column("plan_id", BigInteger, ForeignKey("plans.id"), nullable=False),
    Column("plan", Text, nullable=False, comment="the plan's code"),
    Column("subscription_key", Text, nullable=False),
    Column("entries", JSONB, nullable=False, comment="what the timer was to charge: uid and date of each"),
    Column("billing_time", Time, nullable=False),
    Column("actor", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("words", Text, comment="why it is not taken over yet"),
    Column("created_at", INSTANT, nullable=False),
    Column(
        "another",
        Boolean,
        nullable=False,
        server_default="false",
        comment="asked for beside another one of the same customer and plan",
    ),
    Column("taken_at", INSTANT, comment="when the subscription began here"),
    UniqueConstraint("billing_key_id", "plan", name="one_takeover_for_each_card_and_plan"),
    UniqueConstraint("subscription_key", name="one_takeover_for_each_subscription"),
    Index("ix_takeovers_open", "id", postgresql_where=text("taken_at IS NULL")),
    comment="A subscription that another timer charged until now.",
)
