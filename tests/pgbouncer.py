"""A PgBouncer of the tests' own, where the program is on the machine; nothing of it is left behind."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import psycopg

from worker.clock import wait_until
from worker.embedded import free_port
from worker.embedded.places import unprivileged_owner
from worker.embedded.supervised import bare_environment

START_TIME = 20.0  # seconds that it may take to start on a busy machine
USER = "again"


def program() -> str | None:
    """Where it is; None when it is not on this machine. Debian puts it where only root looks."""
    return shutil.which("pgbouncer", path=os.pathsep.join((*os.get_exec_path(), "/usr/sbin")))


@dataclass(frozen=True, slots=True)
class Pooler:
    """A PgBouncer that runs."""

    url: str  # of the database, as SQLAlchemy wants it
    port: int
    database: str

    def connect(self) -> "psycopg.Connection[tuple[object, ...]]":
        """Another client's connection."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, dbname=self.database, autocommit=True, connect_timeout=5
        )


@contextmanager
def pooler(database_url: str, mode: str, **more: object) -> Iterator[Pooler]:
    """A PgBouncer in front of a database, in a pool mode and with further settings; gone afterwards."""
    url, port = urlsplit(database_url), free_port()
    database = unquote(url.path.lstrip("/"))
    socket = parse_qs(url.query)["host"][0]
    settings = {
        "listen_addr": "127.0.0.1", "listen_port": port, "unix_socket_dir": "", "auth_type": "any",
        "pool_mode": mode, "default_pool_size": 100, **more,
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="again-pgbouncer-") as folder:
        file = Path(folder) / "pgbouncer.ini"
        lines = [f"{name} = {value}" for name, value in settings.items()]
        target = f"* = host={socket} port=5432 user={USER}"
        file.write_text("\n".join(("[databases]", target, "[pgbouncer]", *lines, "")))
        file.chmod(0o644)
        Path(folder).chmod(0o711)
        owner, log = unprivileged_owner(), Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(program()), str(file)], stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/",
                env=bare_environment(), user=owner.uid, group=owner.gid, extra_groups=owner.groups,
            )  # fmt: skip
        try:
            made = Pooler(f"postgresql+psycopg://{USER}@127.0.0.1:{port}/{database}", port, database)

            def answers() -> bool:
                assert process.poll() is None, log.read_text()
                try:
                    made.connect().close()
                except psycopg.OperationalError:
                    return False
                return True

            assert wait_until(answers, START_TIME), log.read_text()
            yield made
        finally:
            process.kill()
            process.wait()
