"""The migrations lead to the declared schema, and a database that cannot serve this code is refused."""

from collections.abc import Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, create_engine, text

from worker.store.operations import revisions
from worker.store.operations.revisions import MigrationBlocked, Revisions
from worker.store.tables import metadata
from worker.wiring import BadDatabase, check_revision, refuse_newer

CODE = revisions.newest_revision()
NEWER = "9999"
# What the declared tables do not contain: SQLAlchemy knows no triggers.
TRIGGERS = {
    ("archived_attempt_events", "append_only", "refuse_change"),
    ("archived_attempt_events", "nothing_lost", "refuse_loss"),
    ("archived_attempts", "append_only", "refuse_change"),
    ("archived_attempts", "nothing_lost", "refuse_loss"),
    ("archived_outbox", "append_only", "refuse_change"),
    ("archived_outbox", "nothing_lost", "refuse_loss"),
    ("attempt_events", "append_only", "refuse_change"),
    ("attempt_events", "nothing_lost", "refuse_loss"),
    ("attempts", "none_beside_archived", "refuse_archived"),
    ("attempts", "nothing_lost", "refuse_loss"),
    ("audit", "append_only", "refuse_change"),
    ("outbox", "append_only", "refuse_change"),
    ("outbox", "nothing_lost", "refuse_loss"),
    ("plans", "immutable", "refuse_new_terms"),
    ("plans", "seen_by_beat", "count_plan_change"),
    ("policies", "append_only", "refuse_change"),
    ("subscriptions", "plan_code_is_the_plans", "keep_plan_code"),
}


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


def test_the_migrated_triggers_and_functions_are_these(engine: Engine) -> None:
    """All are enabled; a function that no trigger calls would be left over."""
    revisions.migrate(engine)
    triggers = text(
        "SELECT tgrelid::regclass::text, tgname, tgfoid::regproc::text FROM pg_trigger "
        "WHERE NOT tgisinternal AND tgenabled = 'O'"
    )
    functions = text("SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace")
    with engine.connect() as db:
        assert {tuple(row) for row in db.execute(triggers)} == TRIGGERS
        assert set(db.execute(functions).scalars()) == {function for _, _, function in TRIGGERS}


# Each holds what a migration needs: the table of revisions, and the lock of a running migration.
HOLDS = [
    "LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE",
    "SELECT pg_advisory_xact_lock(4116212114)",
]


@pytest.mark.parametrize("hold", HOLDS)
def test_a_migration_that_gets_no_lock_is_tried_again_and_says_so(engine: Engine, hold: str) -> None:
    with engine.begin() as db:
        db.execute(text("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)"))
    reports: list[str] = []
    with engine.connect() as holder:
        holder.execute(text(hold))

        def release_after_the_second(sentence: str) -> None:
            reports.append(sentence)
            if len(reports) == 2:
                holder.rollback()

        revisions.migrate(engine, pause=0, report=release_after_the_second)
    assert len(reports) == 2
    check_revision(engine, CODE)


@pytest.mark.parametrize("hold", HOLDS)
def test_a_migration_that_never_gets_the_lock_ends_with_an_error(engine: Engine, hold: str) -> None:
    with engine.begin() as db:
        db.execute(text("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)"))
    reports: list[str] = []
    with engine.connect() as holder:
        holder.execute(text(hold))
        with pytest.raises(MigrationBlocked, match="each of 2 tries"):
            revisions.migrate(engine, tries=2, pause=0, report=reports.append)
    assert len(reports) == 1
    with engine.connect() as db:
        assert revisions.current_schema(db) is None


def test_a_migration_leaves_no_lock_behind(engine: Engine) -> None:
    revisions.migrate(engine)
    with engine.connect() as db:
        assert db.execute(text("SELECT pg_try_advisory_lock(4116212114)")).scalar_one()


def test_the_newest_schema_serves_the_newest_code(engine: Engine) -> None:
    revisions.migrate(engine)
    with engine.connect() as db:
        schema = revisions.current_schema(db)
    assert schema is not None
    assert schema.serves(CODE.newest)
    check_revision(engine, CODE)


def test_a_database_without_tables_is_refused(engine: Engine) -> None:
    with pytest.raises(BadDatabase, match="run `again migrate`"):
        check_revision(engine, CODE)


def test_a_database_behind_the_code_is_refused(engine: Engine) -> None:
    revisions.migrate(engine)
    with pytest.raises(BadDatabase, match="behind this code"):
        check_revision(engine, Revisions(NEWER, CODE.known | {NEWER}))


def test_a_database_ahead_of_the_code_is_refused_unless_it_says_that_it_serves_it(engine: Engine) -> None:
    revisions.migrate(engine)
    with engine.begin() as db:
        db.execute(text("UPDATE alembic_version SET version_num = :newer"), {"newer": NEWER})
    check_revision(engine, CODE)
    with pytest.raises(BadDatabase, match=f"revision {NEWER}"):
        refuse_newer(engine)
    with engine.begin() as db:
        db.execute(text("UPDATE served_code SET oldest_revision = :newer"), {"newer": NEWER})
    with pytest.raises(BadDatabase, match=f"revision {NEWER}"):
        check_revision(engine, CODE)


@pytest.mark.parametrize("revision", ["0001", "0030"])
def test_a_database_from_before_the_first_release_is_refused_with_what_to_do(
    engine: Engine, revision: str
) -> None:
    """Its revisions had the numbers 0001 to 0030, and one of them is the baseline's too."""
    with engine.begin() as db:
        db.execute(text("CREATE TABLE alembic_version (version_num text)"))
        db.execute(text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": revision})
    sentence = f"{revision} of a version from before the first release.*empty database"
    with pytest.raises(BadDatabase, match=sentence):
        check_revision(engine, CODE)
    with pytest.raises(BadDatabase, match=sentence):
        refuse_newer(engine)
