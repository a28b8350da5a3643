"""The migrations lead to the declared schema, up and down, and a database of another revision is refused."""

from collections.abc import Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, create_engine, inspect, text

from worker.store import revisions
from worker.store.schema import metadata
from worker.wiring import BadDatabase, check_revision


@pytest.fixture
def engine(empty_database: str) -> Iterator[Engine]:
    """A database without tables."""
    made = create_engine(empty_database)
    yield made
    made.dispose()


def schema_of(engine: Engine) -> dict[str, list[str]]:
    """Names of tables, columns, constraints and indexes, as the database tells them."""
    query = text(
        "SELECT 'constraint', conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE connamespace = 'public'::regnamespace UNION ALL "
        "SELECT 'index', indexdef FROM pg_indexes WHERE schemaname = 'public' UNION ALL "
        "SELECT 'column', table_name || '.' || column_name || ' ' || data_type || is_nullable "
        "FROM information_schema.columns WHERE table_schema = 'public'"
    )
    found: dict[str, list[str]] = {}
    with engine.connect() as db:
        for kind, words in db.execute(query):
            found.setdefault(kind, []).append(words)
    return {kind: sorted(words) for kind, words in found.items()}


def test_the_migrated_schema_is_the_declared_one(engine: Engine, migrated_template: str) -> None:
    revisions.migrate(engine)
    with engine.connect() as db:
        assert compare_metadata(MigrationContext.configure(db), metadata) == []


def test_checks_and_partial_indexes_are_the_declared_ones_too(engine: Engine) -> None:
    """Alembic's own comparison does not look at check constraints, nor at the conditions of indexes."""
    metadata.create_all(engine)
    declared = schema_of(engine)
    metadata.drop_all(engine)
    revisions.migrate(engine)
    migrated = schema_of(engine)
    ours = {kind: [w for w in words if "alembic_version" not in w] for kind, words in migrated.items()}
    assert ours == declared


def test_it_goes_up_and_down_and_up_again(engine: Engine) -> None:
    revisions.migrate(engine)
    first = schema_of(engine)
    revisions.migrate_down(engine)
    assert inspect(engine).get_table_names() == ["alembic_version"]
    revisions.migrate(engine)
    assert schema_of(engine) == first


def test_each_revision_goes_down_one_and_up_again(engine: Engine) -> None:
    revisions.migrate(engine)
    for _ in sorted(revisions.newest_revision().known):
        before = schema_of(engine)
        revisions.migrate_down(engine, "-1")
        revisions.migrate(engine, "+1")
        assert schema_of(engine) == before
        revisions.migrate_down(engine, "-1")


def test_notices_from_before_deliveries_are_kept_and_do_not_wait(engine: Engine) -> None:
    revisions.migrate(engine, "0004")
    with engine.begin() as db:
        columns = "dedupe_key, kind, subject, payload, created_at"
        db.execute(text(f"INSERT INTO outbox ({columns}) VALUES ('k', 'charge.paid', 's', '{{}}', now())"))
    revisions.migrate(engine)
    with engine.begin() as db:
        kept = db.execute(text("SELECT version, tries, next_try_at, dead_at FROM outbox")).one()
    assert tuple(kept) == (0, 0, None, None)


def test_the_files_names_are_the_revisions() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(revisions.MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    named = revisions.newest_revision()
    assert named.newest == scripts.get_current_head()
    assert named.known == {script.revision for script in scripts.walk_revisions()}


def test_a_database_without_tables_is_refused(engine: Engine) -> None:
    with pytest.raises(BadDatabase, match="run `again migrate`"):
        check_revision(engine)


def test_a_database_behind_the_code_is_refused(engine: Engine) -> None:
    revisions.migrate(engine, "0001")
    with pytest.raises(BadDatabase, match="behind this code"):
        check_revision(engine)


def test_a_database_ahead_of_the_code_is_refused(engine: Engine) -> None:
    revisions.migrate(engine)
    with engine.begin() as db:
        db.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(BadDatabase, match="it is ahead"):
        check_revision(engine)
