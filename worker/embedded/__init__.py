"""PostgreSQL and Valkey from wheels, for first runs, demos and tests: started, watched over and stopped."""

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from worker.embedded.errors import EmbeddedError, ServerEnded
from worker.embedded.locks import FolderLock
from worker.embedded.postgres import PostgresServer
from worker.embedded.valkey import ValkeyServer, free_port

__all__ = ["EmbeddedError", "EmbeddedServices", "PostgresServer", "ServerEnded", "ValkeyServer", "free_port"]


class EmbeddedServices:
    """A PostgreSQL and a Valkey with their data in one folder, for one process at a time.

    `durable=False` trades safety against a crash of the machine for speed, for data that nobody will miss: where
    they have to lie outside of the folder, because PostgreSQL's user cannot reach it, stop() removes them.
    """

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self.folder = folder.absolute()
        self.postgres = PostgresServer(self.folder / "postgres", durable=durable)
        self.valkey = ValkeyServer(self.folder / "valkey")
        self._lock = FolderLock(self.folder)

    def start(self) -> None:
        """Start both; refused while another process has this folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock.take()
        self.postgres.lock = self.valkey.lock = self._lock.descriptor
        with ExitStack() as undo:
            undo.callback(self.stop)
            self.postgres.start()
            self.valkey.start()
            undo.pop_all()

    def stop(self) -> None:
        """Stop both; what they hold stays in the folder. Harmless when they do not run."""
        if self._lock.descriptor is None:
            return
        try:
            self.valkey.stop()
        finally:
            try:
                self.postgres.stop()
            finally:
                self.postgres.lock = self.valkey.lock = None
                self._lock.release()

    def crash(self) -> None:
        """End both as a power cut would; restart() brings them back at the same addresses."""
        self.valkey.crash()
        self.postgres.crash()

    def restart(self) -> None:
        """Start both again at the same addresses, running or crashed."""
        self.postgres.restart()
        self.valkey.restart()

    def ended(self) -> dict[str, Path]:
        """The servers that have ended by themselves, by name, and where each has its log."""
        ended = (name for name, server in self._servers().items() if server.has_ended())
        return {name: self.folder / name / f"{name}.log" for name in ended}

    def start_again(self, name: str) -> None:
        """Start one that has ended at the same address; EmbeddedError when it does not start."""
        self._servers()[name].restart()

    def _servers(self) -> dict[str, PostgresServer | ValkeyServer]:
        return {"postgres": self.postgres, "valkey": self.valkey}

    @property
    def database_url(self) -> str:
        """Where PostgreSQL listens, as SQLAlchemy wants it."""
        return self.postgres.url

    @property
    def broker_url(self) -> str:
        """Where Valkey listens; holds its password."""
        return self.valkey.url

    def describe(self) -> str:
        """Describe both servers."""
        return f"{self.postgres.describe()}, {self.valkey.describe()}"

    def __enter__(self) -> "EmbeddedServices":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
