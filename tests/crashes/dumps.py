"""Real dumps of a running shop's database, and what an operator does with them."""

import subprocess
from pathlib import Path
from typing import LiteralString

from psycopg import sql

from worker.embedded import PostgresServer
from worker.embedded.places import unprivileged_owner
from worker.embedded.programs import find_postgres


def dump(server: PostgresServer, database: str, into: Path) -> Path:
    """A dump of a database, made while it is in use."""
    where = into / f"{database}.dump"
    _run("pg_dump", "--format=custom", f"--file={where}", _address(server, database))
    return where


def restore(server: PostgresServer, backup: Path, into: str) -> None:
    """Restore a dump into a database that is there: over what it holds, as pg_restore does it in place."""
    _run("pg_restore", "--clean", "--if-exists", "--exit-on-error", f"--dbname={_address(server, into)}", backup)


def make_empty(server: PostgresServer, database: str) -> None:
    """Make a database anew, whoever was connected to the old one."""
    name = sql.Identifier(database)
    _administer(server, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
    _administer(server, sql.SQL("CREATE DATABASE {}").format(name))


def _administer(server: PostgresServer, statement: sql.Composed) -> None:
    with server.connect() as admin:
        admin.execute(statement)


def _address(server: PostgresServer, database: str) -> str:
    return server.url_of(database).replace("+psycopg", "")


def _run(program: LiteralString, *arguments: str | Path) -> None:
    command = [find_postgres(unprivileged_owner()).folder / program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
