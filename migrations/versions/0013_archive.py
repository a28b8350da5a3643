"""Archive: tables for what happened in old months, and the guards that nothing is lost on the way or charged again."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

SETTINGS = "autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02"
TABLES = {
    "attempts": "Attempts of old months: no worker looks here, and nothing here is changed.",
    "attempt_events": "Everything that happened to archived attempts.",
    "outbox": "Notices of old months that were delivered.",
}
# What an append-only table refused until now; from here on a row may leave it, if it stands in the other one.
REFUSED_BEFORE = {
    "attempt_events": "UPDATE",
    "outbox": "UPDATE OF dedupe_key, kind, subject, payload, version, created_at",
}
MARK = "when its attempts went to the archive; nothing may be tried any more"


def upgrade() -> None:
    """Make the tables, with the columns that the others have at this revision, and the guards."""
    for table, comment in TABLES.items():
        op.execute(f"CREATE TABLE archived_{table} (LIKE {table} INCLUDING COMMENTS) WITH ({SETTINGS})")
        op.execute(f"ALTER TABLE archived_{table} ADD CONSTRAINT pk_archived_{table} PRIMARY KEY (id)")
        op.create_table_comment(f"archived_{table}", comment)
    _constrain()
    op.execute("ALTER TABLE charges ADD archived_at timestamptz")
    op.execute(f"COMMENT ON COLUMN charges.archived_at IS '{MARK}'")
    op.execute(
        "ALTER TABLE charges ADD CONSTRAINT ck_charges_archived_is_closed "
        "CHECK (archived_at IS NULL OR closed_at IS NOT NULL)"
    )
    op.execute(
        "CREATE INDEX ix_charges_to_archive ON charges (id) "
        "WHERE kind = 'renewal' AND closed_at IS NOT NULL AND archived_at IS NULL"
    )
    op.execute("ALTER TABLE attempt_events SET (autovacuum_vacuum_scale_factor = 0.02)")
    _guard()


def _constrain() -> None:
    op.execute(
        """
        ALTER TABLE archived_attempts
            ADD CONSTRAINT fk_archived_attempts_charge_id FOREIGN KEY (charge_id) REFERENCES charges (id),
            ADD CONSTRAINT one_archived_attempt_for_each_merchant_uid UNIQUE (merchant_uid),
            ADD CONSTRAINT one_archived_attempt_for_each_number UNIQUE (charge_id, number),
            ADD CONSTRAINT ck_archived_attempts_is_settled CHECK (state IN ('declined', 'paid', 'refused')
                AND settled_at IS NOT NULL AND lease_until IS NULL AND next_ask_at IS NULL)
        """
    )
    op.execute(
        "CREATE UNIQUE INDEX one_archived_payment_for_each_charge ON archived_attempts (charge_id) "
        "WHERE state = 'paid'"
    )
    op.execute("CREATE INDEX ix_archived_attempts_paid ON archived_attempts (last_sent_at) WHERE state = 'paid'")
    op.execute(
        "CREATE INDEX ix_archived_attempts_declined ON archived_attempts (settled_at) WHERE state = 'declined'"
    )
    op.execute("CREATE INDEX ix_archived_attempt_events_attempt_id ON archived_attempt_events (attempt_id)")
    op.execute(
        """
        ALTER TABLE archived_outbox
            ADD CONSTRAINT one_archived_notice_for_each_change UNIQUE (dedupe_key),
            ADD CONSTRAINT ck_archived_outbox_is_delivered CHECK (delivered_at IS NOT NULL)
        """
    )
    op.execute("CREATE INDEX ix_archived_outbox_subject ON archived_outbox (subject)")


def _guard() -> None:
    # Looked for by the row's number, never by reading the archive through: it may hold years.
    op.execute(
        """
        CREATE FUNCTION refuse_loss() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
        DECLARE
            is_lost boolean;
        BEGIN
            EXECUTE format('SELECT EXISTS (SELECT FROM gone g WHERE NOT EXISTS '
                           '(SELECT FROM %I k WHERE k.id = g.id AND to_jsonb(k) = to_jsonb(g)))', TG_ARGV[0])
                INTO is_lost;
            IF is_lost THEN
                RAISE EXCEPTION 'table % is append only: a row may leave it only for table %',
                    TG_TABLE_NAME, TG_ARGV[0] USING ERRCODE = 'restrict_violation';
            END IF;
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        """
        CREATE FUNCTION refuse_archived() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            since timestamptz;
        BEGIN
            SELECT archived_at INTO since FROM charges WHERE id = NEW.charge_id FOR KEY SHARE;
            IF since IS NOT NULL THEN
                RAISE EXCEPTION 'the attempts of charge % are archived; no other may stand beside them',
                    NEW.charge_id USING ERRCODE = 'restrict_violation';
            END IF;
            RETURN NEW;
        END $$
        """
    )
    _refuse_from_now_on("")
    for table in TABLES:
        op.execute(
            f"CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON archived_{table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        for source, target in ((table, f"archived_{table}"), (f"archived_{table}", table)):
            op.execute(
                f"CREATE TRIGGER nothing_lost AFTER DELETE ON {source} REFERENCING OLD TABLE AS gone "
                f"FOR EACH STATEMENT EXECUTE FUNCTION refuse_loss('{target}')"
            )
    op.execute(
        "CREATE TRIGGER none_beside_archived BEFORE INSERT ON attempts "
        "FOR EACH ROW EXECUTE FUNCTION refuse_archived()"
    )


def _refuse_from_now_on(also: str) -> None:
    for table, verbs in REFUSED_BEFORE.items():
        op.execute(f"DROP TRIGGER append_only ON {table}")
        op.execute(
            f"CREATE TRIGGER append_only BEFORE {verbs} {also}OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )


def downgrade() -> None:
    """Bring everything back, then take the tables and the guards away."""
    op.execute("DROP FUNCTION refuse_loss() CASCADE")
    op.execute("DROP FUNCTION refuse_archived() CASCADE")
    _refuse_from_now_on("OR DELETE ")
    for table in TABLES:
        op.execute(f"INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM archived_{table}")  # noqa: S608
    for table in reversed(TABLES):
        op.execute(f"DROP TABLE archived_{table}")
    op.execute("ALTER TABLE attempt_events RESET (autovacuum_vacuum_scale_factor)")
    op.execute("DROP INDEX ix_charges_to_archive")
    op.execute("ALTER TABLE charges DROP COLUMN archived_at")
