"""A PostgreSQL of our own: on a private socket, as an unprivileged user, with its data in a folder."""

import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from worker.embedded.errors import EmbeddedError
from worker.embedded.places import make_folder, make_socket_folder, reachable_home, unprivileged_owner
from worker.embedded.programs import find_postgres
from worker.embedded.supervised import Launch, SupervisedServer, bare_environment

PORT = 5432  # names the socket's file; nothing listens on the network
LONGEST_SOCKET = 100  # bytes of the socket's whole path: Linux takes 107, macOS 103
USER = DATABASE = "again"
INITDB_SECONDS = 300.0  # it takes one second; a network disk may take many
STOP_SIGNALS = (signal.SIGINT, signal.SIGQUIT)  # fast: sessions are ended; immediate: recovery at the next start


class PostgresServer:
    """One server; start() makes its data the first time. `lock` is a descriptor held open while it runs."""

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self.folder = folder.absolute()
        self.durable = durable
        self.lock: int | None = None
        self._owner = unprivileged_owner()
        self._programs = find_postgres(self._owner)
        self._home = self.folder
        self._socket: Path | None = None
        self._server: SupervisedServer | None = None

    @property
    def url(self) -> str:
        """Where the database is, as SQLAlchemy wants it; the same after a restart()."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """Where another database of this server is."""
        return f"postgresql+psycopg://{USER}@/{quote(database)}?host={quote(str(self._socket))}&port={PORT}"

    @property
    def pid(self) -> int | None:
        """The postmaster's process, while it runs."""
        return self._server.pid if self._server is not None else None

    def has_ended(self) -> bool:
        """Whether it was started and has ended without a call of `stop`."""
        return self._socket is not None and (self._server is None or self._server.has_ended())

    def describe(self) -> str:
        """Describe the version, its source and where the data is."""
        words = f"PostgreSQL {self._programs.version} from {self._programs.source}"
        if self._home != self.folder:
            words += f" (its data in {self._home}, as its user cannot reach {self.folder})"
        return words

    def start(self) -> None:
        """Start it, and make its data if there are none; harmless when it runs."""
        if self._server is not None and not self._server.has_ended():
            return
        self._home = reachable_home(self.folder, self._owner)
        data = self._home / "data"
        if self._socket is None:
            self._socket = self._socket_folder()
        if not data.exists():
            self._make(data)
        self._check_version(data)
        self._server = self._launched(data, self._socket)
        with ExitStack() as undo:
            undo.callback(self._end)
            self._server.wait_until(self._answers)
            self._make_database()
            undo.pop_all()

    def stop(self) -> None:
        """Stop it: sessions are ended, and everything is on the disk."""
        self._end()
        if self._socket is not None:
            shutil.rmtree(self._socket, ignore_errors=True)
            self._socket = None
        if not self.durable and self._home != self.folder:
            # Data that are not durable, in a place where no user would look for them.
            shutil.rmtree(self._home, ignore_errors=True)

    def crash(self) -> None:
        """Stop it as a power cut would: nothing is written any more, and restart() has to recover."""
        if self._server is not None:
            self._server.crash(signal.SIGQUIT)
            self._server = None

    def restart(self) -> None:
        """Start it again at the same address, running or crashed."""
        self._end()
        self.start()

    def connect(self, database: str = "postgres") -> "psycopg.Connection[tuple[object, ...]]":
        """A new autocommitting connection as the superuser, for what is administered."""
        return psycopg.connect(
            host=str(self._socket), port=PORT, user=USER, dbname=database, autocommit=True, connect_timeout=5
        )

    def _end(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    def _launched(self, data: Path, socket: Path) -> SupervisedServer:
        trust_disk = "on" if self.durable else "off"
        settings = {
            "listen_addresses": "", "unix_socket_directories": f'"{socket}"', "port": PORT,
            "unix_socket_permissions": "0700", "timezone": "UTC", "log_timezone": "UTC",
            "log_destination": "stderr", "logging_collector": "off",
            "max_connections": 200,  # several workers with a connection for each thread
            # An answered commit is written, so that crash() loses none; `durable` is about the machine.
            "synchronous_commit": "on", "fsync": trust_disk, "full_page_writes": trust_disk,
        }  # fmt: skip
        options: list[str] = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command: list[str | Path] = [self._programs.folder / "postgres", "-D", data, *options]
        return SupervisedServer(
            Launch(command, STOP_SIGNALS, self.folder / "postgres.log", self._owner, self.lock)
        )

    def _make(self, data: Path) -> None:
        for left in self._home.glob("fresh-*"):  # by an initdb that was interrupted
            shutil.rmtree(left, ignore_errors=True)
        fresh = Path(tempfile.mkdtemp(prefix="fresh-", dir=self._home))
        make_folder(fresh, self._owner)
        command: list[str | Path] = [
            self._programs.folder / "initdb", "-D", fresh, "-U", USER, "--auth=trust", "--encoding=UTF8",
            "--locale=C", *([] if self.durable else ["--no-sync"]),
        ]  # fmt: skip
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=INITDB_SECONDS, cwd=self._home,
            env=bare_environment(), user=self._owner.uid, group=self._owner.gid, extra_groups=self._owner.groups,
        )  # fmt: skip
        if done.returncode:
            shutil.rmtree(fresh, ignore_errors=True)
            raise EmbeddedError(f"initdb failed in {self._home}: {done.stderr.strip()}")
        # Only whole data bear the name: initdb writes PG_VERSION long before it is done.
        fresh.rename(data)
        _sync(self._home)

    def _check_version(self, data: Path) -> None:
        version = data / "PG_VERSION"
        found = version.read_text().strip() if version.exists() else "an unknown version"
        if found != str(self._programs.major):
            raise EmbeddedError(
                f"{data} was made by PostgreSQL {found}, and this is {self.describe()}; take another folder with "
                "--data, or dump the old data with their own version's pg_dump and load them here"
            )

    def _socket_folder(self) -> Path:
        folder = self._home / "socket"
        # libpq and PostgreSQL both read lists there, parted by commas.
        if len(os.fsencode(folder / f".s.PGSQL.{PORT}")) > LONGEST_SOCKET or {",", '"'} & set(str(folder)):
            return make_socket_folder(self._owner)
        make_folder(folder, self._owner)
        return folder

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _make_database(self) -> None:
        try:
            with self.connect() as admin:
                if admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone() is None:
                    admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        except psycopg.OperationalError as error:
            log = self.folder / "postgres.log"
            raise EmbeddedError(f"PostgreSQL ended just after its start; see {log}") from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
