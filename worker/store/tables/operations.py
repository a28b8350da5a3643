"""The tables of operation: bindings, stops, findings, rate limits, leases and processes."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    Double,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from schedules.operations.findings import FindingKind, FindingState
from schedules.operations.health import ProcessKind
from worker.store.tables.base import INSTANT, metadata, one_of, row_id

installation = Table(
    "installation",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    CheckConstraint("id = 1", name="one_row"),
    Column("fingerprint", Text, nullable=False),
    Column("identity", Text, nullable=False, server_default="", comment="which database it was bound in"),
    Column("environment", Text, nullable=False),
    Column("bound_at", INSTANT, nullable=False),
    Column("bound_by", Text, nullable=False),
    Column("hold_since", INSTANT, comment="nothing is sent since then, until the hold is over"),
    Column("hold_from", INSTANT, comment="what the gateway did from then on may be unknown here"),
    Column("hold_cursor", BigInteger, comment="owed charges up to this row have been asked for"),
    CheckConstraint(
        "(hold_since IS NULL) = (hold_from IS NULL) AND (hold_since IS NULL) = (hold_cursor IS NULL)",
        name="hold_is_whole",
    ),
    Column("restored_at", INSTANT, comment="when the last hold after a restore ended"),
    Column("asked_to", BigInteger, comment="charges up to this row were asked for by that hold"),
    Column(
        "mark_signed_at",
        INSTANT,
        comment="since when the restore mark is signed by a key that a new secret does not change",
    ),
    comment="The environment that may send charges from this database.",
)

account_bindings = Table(
    "account_bindings",
    metadata,
    Column("account", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False, comment="of its key, address, tier and the environment"),
    Column("bound_at", INSTANT, nullable=False),
    Column("bound_by", Text, nullable=False),
    comment="The credentials that each further account may be charged with; installation has the main one's.",
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

breakers = Table(
    "breakers",
    metadata,
    Column("account", Text, primary_key=True),
    Column("counted_from", INSTANT, nullable=False),
    comment="Since when an account's refused calls are counted: a person has looked at those before.",
)

findings = Table(
    "findings",
    metadata,
    row_id(),
    Column("kind", Text, nullable=False),
    CheckConstraint(one_of("kind", list(FindingKind)), name="known_kind"),
    Column("account", Text, nullable=False),
    Column("merchant_uid", Text, nullable=False),
    Column("imp_uid", Text, nullable=False, server_default="", comment="empty when there is no payment"),
    Column("charge_key", Text, index=True),
    Column("amount", BigInteger, nullable=False),
    Column("balance", BigInteger, nullable=False, comment="minor units that have not been given back"),
    Column("currency", Text, nullable=False),
    Column("words", Text, nullable=False),
    Column("state", Text, nullable=False),
    CheckConstraint(one_of("state", list(FindingState)), name="known_state"),
    Column("fence", BigInteger, nullable=False, server_default="0"),
    Column("lease_until", INSTANT, comment="when a refund under way is looked at again"),
    Column("found_at", INSTANT, nullable=False),
    Column("seen_at", INSTANT, nullable=False),
    Column("ended_at", INSTANT),
    Column("ended_by", Text),
    Column("ended_why", Text),
    UniqueConstraint("kind", "account", "merchant_uid", "imp_uid", name="one_finding_for_each_payment"),
    CheckConstraint("(state = 'refunding') = (lease_until IS NOT NULL)", name="refunding_has_a_lease"),
    CheckConstraint(
        f"({one_of('state', [s for s in FindingState if s.is_over])}) = (ended_at IS NOT NULL)",
        name="ended_says_when",
    ),
    Index("ix_findings_open", "id", postgresql_where=text("ended_at IS NULL")),
    comment="Where the gateway's records and our books do not agree, and what was done about it.",
)

reconciliations = Table(
    "reconciliations",
    metadata,
    row_id(),
    Column("account", Text, nullable=False),
    Column("kind", Text, nullable=False),
    CheckConstraint(one_of("kind", ["hourly", "daily", "asked", "restore"]), name="known_kind"),
    Column("since", INSTANT, nullable=False),
    Column("until", INSTANT, nullable=False),
    CheckConstraint("since < until", name="goes_forward"),
    Column("done_until", INSTANT, nullable=False, comment="everything before is compared"),
    Column("started_at", INSTANT, nullable=False),
    Column("ended_at", INSTANT),
    Column("fence", BigInteger, nullable=False),
    Column("lease_until", INSTANT, nullable=False),
    Column("calls", BigInteger, nullable=False),
    Column("payments", BigInteger, nullable=False),
    Column("findings", BigInteger, nullable=False),
    Column("words", Text, comment="what kept it from going on, the last time it was kept"),
    Index(
        "one_reconciliation_at_a_time",
        "account",
        "kind",
        unique=True,
        postgresql_where=text("ended_at IS NULL"),
    ),
    Index("ix_reconciliations_newest", "account", "kind", "id"),
    comment="Runs of the reconciler, each with how far it has come.",
)

rate_buckets = Table(
    "rate_buckets",
    metadata,
    Column("account", Text, primary_key=True),
    Column("next_free_at", INSTANT, nullable=False),
    comment="When the next call of an account may leave; by the database's own clock.",
)

allowances = Table(
    "allowances",
    metadata,
    Column("account", Text, primary_key=True),
    Column("day", Date, primary_key=True, comment="in Seoul"),
    Column("currency", Text, primary_key=True),
    Column("taken", BigInteger, nullable=False, comment="minor units charged without a second person"),
    CheckConstraint("taken > 0", name="taken_is_positive"),
    comment="How much of an account's daily limit of charges without a second person is used.",
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

processes = Table(
    "processes",
    metadata,
    Column("id", Text, primary_key=True, comment="of one start; a process that starts again has another"),
    Column("kind", Text, nullable=False),
    CheckConstraint(one_of("kind", list(ProcessKind)), name="known_kind"),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("version", Text, nullable=False),
    Column("queues", ARRAY(Text), nullable=False, comment="that a worker takes messages from"),
    Column("started_at", INSTANT, nullable=False),
    Column("seen_at", INSTANT, nullable=False),
    Column("progress_at", INSTANT, nullable=False, comment="when it last finished a message, check or tick"),
    Column("ended_at", INSTANT, comment="when it stopped in good order"),
    Column("leads", Boolean, nullable=False, server_default=text("false")),
    Column("plans", Integer, nullable=False, server_default=text("0"), comment="that a beat rings for"),
    Column("clock_ahead", Double, nullable=False, comment="seconds that its clock is ahead of the database's"),
    Column("check_seconds", Double, nullable=False, comment="that a pre-send check takes; 0 without recent ones"),
    Column("obstacle", Text, comment="why it does not act on this database"),
    Index("ix_processes_seen_at", "seen_at"),
    comment="Starts of workers, beats and listeners with their heartbeats; by the database's own clock.",
)

dead_letters = Table(
    "dead_letters",
    metadata,
    row_id(),
    Column("queue", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("digest", Text, nullable=False, comment="SHA-256 of the body; empty for those that were summed up"),
    UniqueConstraint("queue", "reason", "digest", name="one_row_for_each_dead_letter"),
    Column("task", Text, comment="what the sender asked for, if it has the form of a task name"),
    Column("message_id", Text, comment="the sender's id of the newest one"),
    Column("size", BigInteger, nullable=False, comment="bytes"),
    Column("first_at", INSTANT, nullable=False),
    Column("last_at", INSTANT, nullable=False, index=True),
    Column("count", BigInteger, nullable=False),
    comment="Messages from the broker that were refused, without their contents.",
)

write_probe = Table(
    "write_probe",
    metadata,
    Column("filler", Text, nullable=False),
    comment="Emptied and filled by each `again status`: proof that the database still takes new blocks.",
    prefixes=["UNLOGGED"],
)

served_code = Table(
    "served_code",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    CheckConstraint("id = 1", name="one_row"),
    Column("oldest_revision", Text, nullable=False, comment="raised by a migration that breaks older code"),
    comment="The oldest revision of the schema whose code may still run on this one.",
)
