"""Schema revisions: those that this code knows, and migrations to the newest."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg.errors import DeadlockDetected, LockNotAvailable
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    column,
    func,
    inspect,
    literal_column,
    or_,
    select,
    table,
    text,
)
from sqlalchemy.exc import OperationalError

from schedules.errors import Code, FixedCode
from worker.clock import wait
from worker.store.tables import served_code

if TYPE_CHECKING:
    from alembic.config import Config

log = logging.getLogger("again.migrations")
_MIGRATING = 4116212114  # the advisory lock of a running migration; no other program uses the number
_PROCESS = "again"  # prefix of the application_name of each process
# Part of the statements of claims and pre-send checks: the revision, and the oldest code that it serves.
SCHEMA: tuple[ColumnElement[Any], ...] = (
    literal_column("(SELECT version_num FROM alembic_version)"),
    select(served_code.c.oldest_revision).scalar_subquery(),
)
MIGRATIONS = Path(__file__).resolve().parents[3] / "migrations"


class MigrationBlocked(FixedCode, code=Code.BUSY):
    """A migration did not get a lock: other transactions, or another migration, hold it."""


@dataclass(frozen=True, slots=True)
class Revisions:
    """The revisions that this code has migrations for."""

    newest: str
    known: frozenset[str]


@dataclass(frozen=True, slots=True)
class Schema:
    """The revision that a database is at, and the oldest revision of code that may run on it.

    A migration that only adds to the schema leaves `oldest_code` as it is: processes of the former version go on
    beside those of the new one. One that breaks older code raises it. See docs/decisions/.
    """

    revision: str | None  # None: `alembic_version` has no row
    oldest_code: str | None  # None: the schema is from before the baseline

    def serves(self, code: str) -> bool:
        """Whether code that was written for this revision may run on it."""
        if self.revision is None or self.oldest_code is None:
            return False
        return self.oldest_code <= code <= self.revision


def _config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def newest_revision() -> Revisions:
    """Return the revisions in migrations/ by file name, without loading the files."""
    known = frozenset(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))
    return Revisions(max(known), known)


def current_schema(db: Connection) -> Schema | None:
    """Return the schema of a database; None when it has no tables of ours."""
    if not inspect(db).has_table("alembic_version"):
        return None
    revision = db.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if revision is None:
        return None
    oldest = select(served_code.c.oldest_revision)
    return Schema(revision, db.execute(oldest).scalar_one() if inspect(db).has_table(served_code.name) else None)


def process_name(revision: str) -> str:
    """Return the application_name of a process whose code is for a revision; other processes read it."""
    return f"{_PROCESS}/{revision}"


def unserved_connected(db: Connection, schema: Schema) -> dict[str, int]:
    """Return the connections of processes whose code the schema does not serve, by revision; "" is an unknown one.

    Those of an unknown revision run code from before this check.
    """
    a = table("pg_stat_activity", column("application_name"), column("datname")).c
    of_ours = or_(a.application_name == _PROCESS, a.application_name.like(f"{_PROCESS}/%"))
    query = (
        select(a.application_name, func.count())
        .where(a.datname == func.current_database(), of_ours)
        .group_by(a.application_name)
        .order_by(a.application_name)
    )
    found = ((name.partition("/")[2], count) for name, count in db.execute(query))
    return {revision: count for revision, count in found if not schema.serves(revision)}


def migrate(
    engine: Engine,
    revision: str = "head",
    *,
    tries: int = 5,
    pause: float = 3.0,
    report: Callable[[str], None] = log.warning,
) -> None:
    """Upgrade the database to a revision, each migration in a transaction of its own.

    A migration that does not get a lock in time (LOCK_TIMEOUT of migrations/env.py) is rolled back and tried again
    after `pause` seconds; each failed try is reported. Raises MigrationBlocked after the last one.
    """
    for number in range(1, tries + 1):
        obstacle = _upgrade(engine, revision)
        if obstacle is None:
            return
        if number < tries:
            report(f"{obstacle} (try {number} of {tries}); the next try is in {pause:.0f} s")
            wait(pause)
    raise MigrationBlocked(
        f"{obstacle}, in each of {tries} tries; what was migrated before is kept. Run `again migrate` again when "
        "`pg_stat_activity` shows no long transaction and no other `again migrate`"
    )


def _upgrade(engine: Engine, revision: str) -> str | None:
    """Run the migrations up to a revision; return what blocked them, or None."""
    with engine.connect() as db:
        try:
            # Waiting for this lock would be a transaction, which CREATE INDEX CONCURRENTLY would wait for in turn.
            if not db.execute(select(func.pg_try_advisory_lock(_MIGRATING))).scalar_one():
                return "another `again migrate` is running"
            db.commit()
            config = _config()
            config.attributes["connection"] = db
            obstacle = _run(config, revision)
            db.rollback()
            db.execute(select(func.pg_advisory_unlock(_MIGRATING)))
            db.commit()
        finally:
            db.invalidate()  # it has other settings, and may hold the lock: it does not return to the pool
    return obstacle


def _run(config: "Config", revision: str) -> str | None:
    from alembic import command

    try:
        command.upgrade(config, revision)
    except OperationalError as error:
        if not isinstance(error.orig, LockNotAvailable | DeadlockDetected):
            raise
        return "other transactions hold a lock that the migration needs"
    return None
