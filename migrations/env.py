"""Runs the migrations over the connection that worker.store.operations.revisions gives."""

from alembic import context
from sqlalchemy import text

from worker.store.tables import metadata

connection = context.config.attributes["connection"]
# Two that migrate at once wait for each other: the number is ours alone, and freed with the transaction.
connection.execute(text("SELECT pg_advisory_xact_lock(4116212114)"))
# A statement over a big table takes its time; nobody else's patience counts here.
connection.execute(text("SET LOCAL statement_timeout = 0"))
context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=False)
with context.begin_transaction():
    context.run_migrations()
