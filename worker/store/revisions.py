"""Which revisions of the schema this code knows, and how a database is brought to the newest."""

from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"


@dataclass(frozen=True, slots=True)
class Revisions:
    """The newest revision, and all that lead to it."""

    newest: str
    known: frozenset[str]


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def newest_revision() -> Revisions:
    """The revisions in migrations/."""
    scripts = ScriptDirectory.from_config(_config())
    newest = scripts.get_current_head()
    if newest is None:
        raise LookupError(f"no migrations in {MIGRATIONS}")
    return Revisions(newest, frozenset(script.revision for script in scripts.walk_revisions()))


def migrate(engine: Engine, revision: str = "head") -> None:
    """Bring the database up to a revision, in one transaction."""
    _run(engine, revision, upward=True)


def migrate_down(engine: Engine, revision: str = "base") -> None:
    """Bring the database down to a revision, in one transaction; what newer tables held is gone."""
    _run(engine, revision, upward=False)


def _run(engine: Engine, revision: str, *, upward: bool) -> None:
    config = _config()
    with engine.begin() as db:
        config.attributes["connection"] = db
        (command.upgrade if upward else command.downgrade)(config, revision)
