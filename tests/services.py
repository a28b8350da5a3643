"""One PostgreSQL and one Valkey for a test process, and databases that are copied from a template."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from urllib.parse import unquote, urlsplit

from psycopg import sql
from sqlalchemy import Engine, QueuePool, event

from worker.clock import wait_until
from worker.embedded import EmbeddedServices

_numbers = count(1)


@contextmanager
def session_services() -> Iterator[EmbeddedServices]:
    """Both services in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="again-tests-", ignore_cleanup_errors=True) as folder:
        # As root, PostgreSQL runs as nobody: it may walk to its data here, and nothing is left in /var/tmp.
        Path(folder).chmod(0o711)
        with EmbeddedServices(Path(folder) / "services", durable=False) as services:
            yield services


def fresh_database(services: EmbeddedServices, template: str = "") -> str:
    """A new database, empty or copied from the one at an address that nobody is connected to; its address."""
    name = f"test_{next(_numbers)}"
    # Copying the files takes 45 ms where the default, copying through the log, takes 150.
    copied = sql.SQL("TEMPLATE {} STRATEGY file_copy")
    source = copied.format(_name(template)) if template else sql.SQL("")
    with services.postgres.connect() as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} {}").format(sql.Identifier(name), source))
    return services.postgres.url_of(name)


def drop_database(services: EmbeddedServices, url: str) -> None:
    """Remove a database, whoever is still connected to it."""
    with services.postgres.connect() as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(_name(url)))


def end_engine(engine: Engine) -> None:
    """Close all connections of an engine that threads have worked with; fails if one works for 20 s more.

    A thread still holds its connection for a moment after its commit can be seen. `Engine.dispose` leaves such a
    connection open, and it would be reported as a leak of a later test.
    """
    event.listen(engine, "checkin", lambda _, record: record.invalidate())
    pool = engine.pool
    assert isinstance(pool, QueuePool)
    assert wait_until(lambda: not pool.checkedout(), 20), pool.status()
    engine.dispose()


def _name(url: str) -> sql.Identifier:
    return sql.Identifier(unquote(urlsplit(url).path.lstrip("/")))
