"""One PostgreSQL and one Valkey for a test process, and databases that are copied from a template."""

import os
import shutil
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

MEMORY = Path("/dev/shm")
ENOUGH = 4 * 1024**3  # bytes; a session takes up to one GiB of PostgreSQL's log, and some sessions run at once
_numbers = count(1)


@contextmanager
def data_folder(prefix: str) -> Iterator[Path]:
    """A folder for the data of services, removed afterwards; in memory where there is enough.

    The copy of a database takes 17 ms in memory, and 260 ms on a disk. Nothing of it outlives the test.
    """
    with tempfile.TemporaryDirectory(prefix=prefix, dir=_memory(), ignore_cleanup_errors=True) as folder:
        # As root, PostgreSQL runs as nobody: it may walk to its data here, and nothing is left in /var/tmp.
        Path(folder).chmod(0o711)
        yield Path(folder)


def _memory() -> Path | None:
    """Linux's file system in memory; None where it is absent or small, as in a container of Docker's."""
    is_large = MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ENOUGH
    return MEMORY if is_large else None


@contextmanager
def session_services() -> Iterator[EmbeddedServices]:
    """Both services in a folder that is removed afterwards."""
    with data_folder("again-tests-") as folder, EmbeddedServices(folder / "services", durable=False) as services:
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
