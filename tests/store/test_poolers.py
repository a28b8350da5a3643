"""Connection poolers between us and PostgreSQL: session mode works, any other is refused in words."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from sqlalchemy import Engine, text

from tests.pgbouncer import Pooler, pooler, program
from worker.store.engine import SESSION, BadSession, check_sessions, make_engine

pytestmark = [
    pytest.mark.skipif(program() is None, reason="no pgbouncer on this machine"),
    pytest.mark.timeout(120),
]
PREPARES_AT = 6  # executions of one statement, after which psycopg has prepared it


@contextmanager
def engine_on(url: str) -> Iterator[Engine]:
    """An engine as a process has it."""
    engine = make_engine(url, 5, "again-test")
    try:
        yield engine
    finally:
        engine.dispose()


@pytest.mark.parametrize("round_robin", [0, 1])
@pytest.mark.parametrize("servers", [1, 2, 3, 8])
def test_transaction_mode_is_refused_however_many_servers_it_has(
    database: str, servers: int, round_robin: int
) -> None:
    """Guard: which server process answers, compared between two connections."""
    settings = {"server_round_robin": round_robin, "default_pool_size": servers}
    with pooler(database, "transaction", **settings) as pooled, ExitStack() as others:
        _open_servers(pooled, servers, others)
        with engine_on(pooled.url) as engine, pytest.raises(BadSession, match="pool_mode = session"):
            check_sessions(engine)


def test_statement_mode_is_refused(database: str) -> None:
    with (
        pooler(database, "statement") as pooled,
        engine_on(pooled.url) as engine,
        pytest.raises(BadSession, match="pool_mode = session"),
    ):
        check_sessions(engine)


def test_a_connection_without_a_pooler_is_taken(database: str) -> None:
    with engine_on(database) as engine:
        check_sessions(engine)


def test_session_mode_keeps_our_settings_and_gives_none_of_them_to_others(database: str) -> None:
    """The way that docs/how-to/databases.md documents, with a pool as small as what is connected."""
    with pooler(database, "session", default_pool_size=2) as pooled:
        with engine_on(pooled.url) as engine:
            check_sessions(engine)
            with engine.connect() as first, engine.connect() as second:
                for db in (first, second):
                    for _ in range(PREPARES_AT):
                        db.execute(text("SELECT 1 WHERE 1 = :one"), {"one": 1})
                    assert db.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar_one() > 0
                    db.rollback()
                    assert {name: db.execute(text(f"SHOW {name}")).scalar_one() for name in SESSION} == SESSION
        with pooled.connect() as other:
            assert other.execute("SHOW enable_seqscan").fetchone() == ("on",)
            assert other.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
        with engine_on(pooled.url) as again:
            check_sessions(again)


def test_a_session_that_an_earlier_client_left_statements_in_is_refused(database: str) -> None:
    """Guard: no prepared statements in a new session; psycopg's names are the same in every process."""
    with pooler(database, "session", server_reset_query="", default_pool_size=2) as pooled:
        with pooled.connect() as first, pooled.connect() as second:
            for earlier in (first, second):
                earlier.execute("PREPARE _pg3_0 AS SELECT 'of another'")
        with (
            engine_on(pooled.url) as engine,
            pytest.raises(BadSession, match="server_reset_query = DISCARD ALL"),
        ):
            check_sessions(engine)


def _open_servers(pooled: Pooler, many: int, others: ExitStack) -> None:
    """Have the pooler open so many server connections: each is held by a transaction, then returned."""
    clients = [others.enter_context(pooled.connect()) for _ in range(many)]
    for client in clients:
        client.execute("BEGIN")
        client.execute("SELECT 1")
    for client in clients:
        client.execute("COMMIT")
