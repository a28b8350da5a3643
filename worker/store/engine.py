"""Connections to PostgreSQL, with a time-out for everything that can wait."""

from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import OperationalError

from schedules.errors import Code, FixedCode

PATIENCE = "10min"  # time-out of a reader that stops reading, and of a statement over whole tables
# The settings of every session, as `SHOW` prints them; `_set_session` is the one place that sets them. A statement
# takes milliseconds; a lock is held for one short transaction. Tables that are small at midnight are large an hour
# later, and a plan made for an empty table would scan them. Every query has an index, so sequential scans are
# disabled; but see `allow_time`. Without sequential scans a plan looks expensive, and PostgreSQL's default is to
# compile (JIT) expensive plans: that takes 60 to 700 ms for each statement, and each statement runs for less than
# 1 ms.
SESSION = {
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "30s",
    "timezone": "UTC",
    "enable_seqscan": "off",
    "jit": "off",
}
_SET = "SELECT " + ", ".join(f"set_config('{name}', '{value}', false)" for name, value in SESSION.items())
_LEFT_OVER = "(SELECT count(*) FROM pg_prepared_statements)"
_READ = "SELECT " + ", ".join([*(f"current_setting('{name}')" for name in SESSION), _LEFT_OVER])
# Identifies the server process: process ids are reused, and two servers may have the same one.
_BACKEND = text("SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()")
# The order in which two connections are queried. A pooler in transaction mode gives the second connection the
# server connection that the first has just returned, or gives one connection two of them in turn.
_ASKED = (0, 0, 1, 0, 1, 1, 0, 1)
POOLING = (
    "the connection pooler between this process and PostgreSQL is in transaction or statement mode, which mixes "
    "up the prepared statements of its clients; set `pool_mode = session` for this database (PgBouncer), or "
    "connect to PostgreSQL directly; see docs/how-to/databases.md"
)
# One thread sends queries for many charges, so a broken connection must be detected well within a lease.
LINE = {"tcp_user_timeout": 35_000, "keepalives_idle": 30, "keepalives_interval": 5, "keepalives_count": 3}


class BadSession(FixedCode, code=Code.HELD):
    """A database session lacks settings that this code depends on."""


def make_engine(url: str, connections: int, name: str) -> Engine:
    """Create an engine with at most this many connections; its errors never show parameters."""
    engine = create_engine(
        url,
        pool_size=connections,
        max_overflow=2,
        pool_timeout=30,
        # No ping before use: it costs a round trip for each of the three transactions of a charge. After a restart
        # of PostgreSQL one task for each process fails and empties the pool; its row is still due.
        pool_pre_ping=False,
        hide_parameters=True,
        connect_args={"application_name": name, "connect_timeout": 5} | LINE,
    )
    event.listen(engine, "connect", _set_session)
    return engine


def _set_session(connection: Any, _: object) -> None:
    """Set a new connection's session settings, and read them back; raises BadSession when one differs.

    Statements are used, not the startup packet's `options`: a connection pooler refuses or drops those.
    """
    before, connection.autocommit = connection.autocommit, True
    try:
        with connection.cursor() as cursor:
            cursor.execute(_SET)
            *values, prepared = cursor.execute(_READ).fetchone()
    finally:
        connection.autocommit = before
    found = dict(zip(SESSION, values, strict=True))
    wrong = [
        f"{name} is {found[name]!r}, not {value!r}" for name, value in SESSION.items() if found[name] != value
    ]
    if wrong:
        raise BadSession(f"the database session lost its settings ({'; '.join(wrong)}): {POOLING}")
    if prepared:
        raise BadSession(
            f"a new database session has {prepared} prepared statements of an earlier client: the connection "
            "pooler has no `server_reset_query`, or is in transaction mode; set `pool_mode = session` and "
            "`server_reset_query = DISCARD ALL` (PgBouncer); see docs/how-to/databases.md"
        )


def allow_waiting(db: Connection) -> None:
    """Allow this transaction to wait for another one that writes hundreds of rows, also on a slow machine."""
    db.execute(text("SET LOCAL statement_timeout = '2min'"))
    db.execute(text("SET LOCAL lock_timeout = '2min'"))


def check_sessions(engine: Engine) -> None:
    """Raise BadSession when a connection pooler lends one server process to several connections in turn.

    Reading the settings back does not show it: while the pooler has no other client, the same server process
    answers. It takes eight round trips.
    """
    try:
        with engine.connect() as first, engine.connect() as second:
            pair = [each.execution_options(isolation_level="AUTOCOMMIT") for each in (first, second)]
            answered = [(which, tuple(pair[which].execute(_BACKEND).one())) for which in _ASKED]
    except OperationalError as error:
        if "pooling mode" in str(error.orig):  # statement mode rejects the driver's first transaction
            raise BadSession(POOLING) from None
        raise
    backends = [{backend for which, backend in answered if which == each} for each in (0, 1)]
    if any(len(each) > 1 for each in backends) or backends[0] == backends[1]:
        raise BadSession(POOLING)


def allow_time(db: Connection) -> None:
    """Allow this transaction to last as long as a slow reader, within bounds, and plan for a full read."""
    db.execute(text(f"SET LOCAL statement_timeout = '{PATIENCE}'"))
    db.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = '{PATIENCE}'"))
    db.execute(text("SET LOCAL cursor_tuple_fraction = 1"))
    db.execute(text("SET LOCAL enable_seqscan = on"))


def allow_briefly(db: Connection) -> None:
    """Set the time-outs of this transaction's locks and statements for an interactive user."""
    db.execute(text("SELECT set_config('lock_timeout', '2s', true), set_config('statement_timeout', '5s', true)"))
