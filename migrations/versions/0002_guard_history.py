"""Guard history: what is append only refuses change, plan versions are immutable, and beat sees new plans."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

APPEND_ONLY = ("audit", "attempt_events")


def upgrade() -> None:
    """Make the functions and hang them on their tables."""
    op.execute(
        """
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'table % is append only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
        END $$
        """
    )
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
    op.execute(
        """
        CREATE FUNCTION refuse_new_terms() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF to_jsonb(NEW) - 'archived_at' <> to_jsonb(OLD) - 'archived_at' THEN
                RAISE EXCEPTION 'plan % version % is immutable; add a new version', OLD.code, OLD.version
                    USING ERRCODE = 'restrict_violation';
            END IF;
            RETURN NEW;
        END $$
        """
    )
    op.execute("CREATE TRIGGER immutable BEFORE UPDATE ON plans FOR EACH ROW EXECUTE FUNCTION refuse_new_terms()")
    op.execute(
        """
        CREATE FUNCTION count_plan_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO plan_revision AS counted (id, revision) VALUES (1, 1)
                ON CONFLICT (id) DO UPDATE SET revision = counted.revision + 1;
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER seen_by_beat AFTER INSERT OR UPDATE OR DELETE ON plans "
        "FOR EACH STATEMENT EXECUTE FUNCTION count_plan_change()"
    )


def downgrade() -> None:
    """Take the functions away, and with them what hangs on them."""
    for function in ("refuse_change", "refuse_new_terms", "count_plan_change"):
        op.execute(f"DROP FUNCTION {function}() CASCADE")
