"""The migrations lead to the declared schema, up and down, and a database of another revision is refused."""

import unicodedata
from collections.abc import Iterator
from datetime import timedelta

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, create_engine, inspect, text

from schedules.dunning.policies import FinalAction
from worker.store.charging import charges
from worker.store.customers import plans
from worker.store.operations import revisions
from worker.store.tables import metadata
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


BEFORE_POLICIES = """
    INSERT INTO customers (reference, created_at) VALUES ('ann', now());
    INSERT INTO billing_keys (customer_id, customer_uid, account, created_at) VALUES (1, 'ann', 'main', now());
    INSERT INTO plans (code, version, price, currency, every, unit, zone, billing_time, trial_days, statement_name,
                       catch_up, catch_up_cap, shift, allow_short_months, dunning, created_at)
    SELECT code, 1, 9900, 'KRW', 1, 'month', 'Asia/Seoul', '09:00', 0, 'x', 'all', 3, 'none', false, dunning, now()
    FROM (VALUES ('keeps', '{"ladder": [86400], "final": "keep"}'::jsonb),
                 ('ends', '{"ladder": [], "final": "cancel"}'::jsonb)) AS plan (code, dunning);
    INSERT INTO charges (key, kind, period_no, request_key, billing_key_id, account, amount, currency, name,
                         dunning, status, due_at, next_attempt_at, first_declined_at, created_at)
    SELECT key, 'adhoc', 0, key, 1, 'main', 9900, 'KRW', 'x', dunning, 'past_due', now(), now(), now(), now()
    FROM (VALUES ('a', '{"ladder": [86400], "final": "keep"}'::jsonb),
                 ('b', '{"ladder": [3600, 7200], "final": "cancel"}'::jsonb)) AS debt (key, dunning);
"""


def test_ladders_from_before_policies_are_kept_as_policies_and_given_back(engine: Engine) -> None:
    revisions.migrate(engine, "0004")
    with engine.begin() as db:
        db.execute(text(BEFORE_POLICIES))
        query = "SELECT dunning->'ladder', dunning->>'final' FROM {} ORDER BY id"
        before = [list(db.execute(text(query.format(table)))) for table in ("plans", "charges")]
    revisions.migrate(engine)
    with engine.begin() as db:
        kept = [stored.policy for stored in plans.listed(db)]
        debts = [charges.locked(db, charge_id) for charge_id in (1, 2)]
    assert [(p.final, p.ladder) for p in kept] == [
        (FinalAction.CANCEL, ()),
        (FinalAction.WRITE_OFF, (timedelta(days=1),)),
    ]
    assert [(d.policy.final, len(d.policy.ladder)) for d in debts if d is not None] == [
        (FinalAction.WRITE_OFF, 1),
        (FinalAction.CANCEL, 2),
    ]
    assert all(d is not None and d.history.ladder_began_at == d.history.first_declined_at for d in debts)
    revisions.migrate_down(engine, "0004")
    with engine.begin() as db:
        assert [list(db.execute(text(query.format(table)))) for table in ("plans", "charges")] == before


ARCHIVED = """
    INSERT INTO customers (reference, created_at) VALUES ('ann', now());
    INSERT INTO billing_keys (customer_id, customer_uid, account, created_at) VALUES (1, 'ann', 'main', now());
    INSERT INTO policies (code, version, document, created_at) VALUES ('p', 1, '{}', now());
    INSERT INTO charges (key, kind, period_no, request_key, billing_key_id, account, amount, currency, name,
                         policy_id, status, due_at, created_at, closed_at, archived_at)
    VALUES ('a', 'adhoc', 0, 'a', 1, 'main', 9900, 'KRW', 'x', (SELECT max(id) FROM policies), 'paid', now(),
            now(), now(), now());
    INSERT INTO archived_attempts (id, charge_id, number, merchant_uid, state, amount, currency, fence, sends,
                                   asks, quiet_answers, last_sent_at, created_at, settled_at)
    VALUES (7, 1, 1, 'u1', 'paid', 9900, 'KRW', 1, 1, 0, 0, now(), now(), now());
    INSERT INTO archived_attempt_events (id, attempt_id, at, state, fence) VALUES (9, 7, now(), 'paid', 1);
    INSERT INTO archived_outbox (id, dedupe_key, kind, subject, payload, version, created_at, tries, delivered_at)
    VALUES (5, 'k', 'charge.paid', 'a', '{}', 1, now(), 1, now());
"""


def test_what_was_archived_comes_back_when_the_archive_is_taken_away(engine: Engine) -> None:
    revisions.migrate(engine)
    with engine.begin() as db:
        db.execute(text(ARCHIVED))
    revisions.migrate_down(engine, "0012")
    with engine.begin() as db:
        event = "SELECT a.merchant_uid, e.id FROM attempt_events e JOIN attempts a ON a.id = e.attempt_id"
        assert [tuple(row) for row in db.execute(text(event))] == [("u1", 9)]
        assert db.execute(text("SELECT dedupe_key FROM outbox")).scalars().all() == ["k"]


NFD, NFC = (unicodedata.normalize(form, "연체-1") for form in ("NFD", "NFC"))
KEYS_IN_NFD = """
    INSERT INTO customers (reference, created_at) VALUES ('ann', now());
    INSERT INTO billing_keys (customer_id, customer_uid, account, created_at) VALUES (1, :nfd, 'main', now());
    INSERT INTO policies (code, version, document, created_at) VALUES ('p', 1, '{}', now());
    INSERT INTO charges (key, kind, period_no, request_key, billing_key_id, account, amount, currency, name,
                         policy_id, status, due_at, created_at, closed_at)
    SELECT key, 'adhoc', 0, request_key, 1, 'main', 9900, 'KRW', 'x', (SELECT max(id) FROM policies), 'paid',
           now(), now(), now()
    FROM (VALUES ('a', :nfd), ('b', 'plain'), ('c', :twice || :nfd), ('d', :twice || :nfc)) AS made
         (key, request_key);
    INSERT INTO requests (request_key, verb, fingerprint, answer, created_at) VALUES (:nfd, 'x', 'y', '{}', now());
"""


def test_request_keys_from_before_they_were_normalized_are_found_again(engine: Engine) -> None:
    """Guard: the same request sent again is the same charge. What was sent to the gateway stays as it is."""
    revisions.migrate(engine, "0026")
    with engine.begin() as db:
        for statement in KEYS_IN_NFD.strip().split(";")[:-1]:
            said = {"nfd": NFD, "nfc": NFC, "twice": "또"}
            db.execute(text(statement), {name: said[name] for name in said if f":{name}" in statement})
    revisions.migrate(engine)
    with engine.begin() as db:
        kept = {row.key: row.request_key for row in db.execute(text("SELECT key, request_key FROM charges"))}
        assert db.execute(text("SELECT request_key FROM requests")).scalars().all() == [NFC]
        assert db.execute(text("SELECT customer_uid FROM billing_keys")).scalars().all() == [NFD]
    # The two that differ by their form alone are two charges, and stay so.
    assert kept == {"a": NFC, "b": "plain", "c": "또" + NFD, "d": "또" + NFC}


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
