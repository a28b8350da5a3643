"""Runs the migrations over the connection that worker.store.operations.revisions gives and closes."""

from alembic import context
from sqlalchemy import Connection, event, text

from worker.store.tables import metadata

# How long a migration waits for a lock. Meanwhile charges wait for the locks that it holds, and behind the one
# that it waits for. `revisions.migrate` tries again.
LOCK_TIMEOUT = "2s"
connection = context.config.attributes["connection"]
# A statement over a large table takes minutes. CREATE INDEX CONCURRENTLY, in an autocommit_block, waits for older
# transactions; it blocks neither readers nor writers meanwhile, and a time-out would leave an invalid index.
connection.execute(
    text("SELECT set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false)")
)
connection.commit()


@event.listens_for(connection, "begin")
def limit_waiting(db: Connection) -> None:
    """Limit how long each transaction waits for a lock."""
    if db.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        db.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")


context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
