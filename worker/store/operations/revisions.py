"""Schema revisions: those that this code knows, and migrations to the newest."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, column, func, inspect, or_, select, table, text

if TYPE_CHECKING:
    from alembic.config import Config

_PROCESS = "again"  # prefix of the application_name of each process
MIGRATIONS = Path(__file__).resolve().parents[3] / "migrations"


@dataclass(frozen=True, slots=True)
class Revisions:
    """Return the newest revision and its ancestors."""

    newest: str
    known: frozenset[str]


def _config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def newest_revision() -> Revisions:
    """Return the revisions in migrations/ by file name, without loading the files."""
    known = frozenset(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))
    return Revisions(max(known), known)


def current_revision(db: Connection) -> str | None:
    """Return the revision of a database; None when it has no tables of ours."""
    if not inspect(db).has_table("alembic_version"):
        return None
    return db.execute(text("SELECT version_num FROM alembic_version")).scalar()


def process_name(revision: str) -> str:
    """Return the application_name of a process whose code is for a revision; other processes read it."""
    return f"{_PROCESS}/{revision}"


def others_connected(db: Connection, revision: str) -> dict[str, int]:
    """Return the connections of processes whose code is for another revision, by revision; "" is an unknown one.

    Those of an unknown revision run code from before this check.
    """
    a = table("pg_stat_activity", column("application_name"), column("datname")).c
    of_ours = or_(a.application_name == _PROCESS, a.application_name.like(f"{_PROCESS}/%"))
    query = (
        select(a.application_name, func.count())
        .where(a.datname == func.current_database(), of_ours, a.application_name != process_name(revision))
        .group_by(a.application_name)
        .order_by(a.application_name)
    )
    return {name.partition("/")[2]: count for name, count in db.execute(query)}


def migrate(engine: Engine, revision: str = "head") -> None:
    """Upgrade the database to a revision, in one transaction."""
    _run(engine, revision, upward=True)


def migrate_down(engine: Engine, revision: str = "base") -> None:
    """Downgrade the database to a revision, in one transaction; rows of newer tables are lost."""
    _run(engine, revision, upward=False)


def _run(engine: Engine, revision: str, *, upward: bool) -> None:
    from alembic import command

    config = _config()
    with engine.begin() as db:
        config.attributes["connection"] = db
        (command.upgrade if upward else command.downgrade)(config, revision)
