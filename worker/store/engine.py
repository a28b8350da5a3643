"""Connections to PostgreSQL, with time-outs of its own on everything that could wait for ever."""

from sqlalchemy import Connection, Engine, create_engine, text

PATIENCE = "10min"  # for a reader who stops reading, and for a statement over all that is there
# A statement of ours takes milliseconds; a lock is held for one short transaction; nobody thinks inside one.
# What is small at midnight is large at one: a plan made for a table of no rows would read all of them, a million
# times. Every question of ours has its index, so nothing is read from end to end; but see `allow_time`.
SESSION = (
    "-c statement_timeout=30000 -c lock_timeout=10000 -c idle_in_transaction_session_timeout=30000 "
    "-c timezone=UTC -c enable_seqscan=off"
)
# One thread asks for many, so a line that is dead without a word must be noticed well within a lease.
LINE = {"tcp_user_timeout": 35_000, "keepalives_idle": 30, "keepalives_interval": 5, "keepalives_count": 3}


def make_engine(url: str, connections: int, name: str) -> Engine:
    """An engine with at most so many connections; parameters never show in its errors."""
    return create_engine(
        url,
        pool_size=connections,
        max_overflow=2,
        pool_timeout=30,
        # No ping before use: it costs a round trip for each of the three transactions of a charge. After a restart
        # of PostgreSQL one task for each process fails and empties the pool; its row is still due.
        pool_pre_ping=False,
        hide_parameters=True,
        connect_args={"options": SESSION, "application_name": name, "connect_timeout": 5} | LINE,
    )


def allow_time(db: Connection) -> None:
    """Let this transaction last as long as a reader takes, within bounds, and plan for reading to the end."""
    db.execute(text(f"SET LOCAL statement_timeout = '{PATIENCE}'"))
    db.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = '{PATIENCE}'"))
    db.execute(text("SET LOCAL cursor_tuple_fraction = 1"))
    db.execute(text("SET LOCAL enable_seqscan = on"))
