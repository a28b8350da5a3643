"""Which revisions of the schema this code knows, and how a database is brought to the newest."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, column, func, inspect, or_, select, table, text

if TYPE_CHECKING:
    from alembic.config import Config

_PROCESS = "again"  # how the application_name of each process of ours begins
MIGRATIONS = Path(__file__).resolve().parents[3] / "migrations"


@dataclass(frozen=True, slots=True)
class Revisions:
    """The newest revision, and all that lead to it."""

    newest: str
    known: frozenset[str]


def _config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def newest_revision() -> Revisions:
    """The revisions in migrations/, by the names of their files: a start must not read them all."""
    known = frozenset(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))
    return Revisions(max(known), known)


def current_revision(db: Connection) -> str | None:
    """The revision that a database is at; None when it has no tables of ours yet."""
    if not inspect(db).has_table("alembic_version"):
        return None
    return db.execute(text("SELECT version_num FROM alembic_version")).scalar()


def process_name(revision: str) -> str:
    """The application_name of a process whose code is for a revision: others see by it what is connected."""
    return f"{_PROCESS}/{revision}"


def others_connected(db: Connection, revision: str) -> dict[str, int]:
    """The connections of processes whose code is for another revision, by that revision; "" is an unknown one.

    Those of an unknown revision are from before processes said it, and do not look at it either.
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
    """Bring the database up to a revision, in one transaction."""
    _run(engine, revision, upward=True)


def migrate_down(engine: Engine, revision: str = "base") -> None:
    """Bring the database down to a revision, in one transaction; what newer tables held is gone."""
    _run(engine, revision, upward=False)


def _run(engine: Engine, revision: str, *, upward: bool) -> None:
    from alembic import command

    config = _config()
    with engine.begin() as db:
        config.attributes["connection"] = db
        (command.upgrade if upward else command.downgrade)(config, revision)
