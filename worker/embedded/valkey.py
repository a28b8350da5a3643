"""A Valkey of our own: on loopback, behind a password, with an append-only file in a folder."""

import os
import secrets
import signal
import socket
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from worker.embedded.errors import ServerEnded
from worker.embedded.places import make_folder
from worker.embedded.programs import find_valkey
from worker.embedded.supervised import Launch, Owner, SupervisedServer

TRIES = 5  # another program may take the port between our choosing and the server's listening


class ValkeyServer:
    """One server; its port and password are new with each start(). `lock` is held open while it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.lock: int | None = None
        self._program = find_valkey()
        self._server: SupervisedServer | None = None
        self._password = ""
        self.port = 0

    @property
    def url(self) -> str:
        """Where the broker is; holds the password."""
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int | None:
        """The server's process, while it runs."""
        return self._server.pid if self._server is not None else None

    def has_ended(self) -> bool:
        """Whether it was started and has ended without a call of `stop`."""
        return self._password != "" and (self._server is None or self._server.has_ended())

    def describe(self) -> str:
        """Describe the server and its version."""
        return self._program.words

    def start(self) -> None:
        """Start it on a free port; harmless when it runs."""
        if self._server is not None and not self._server.has_ended():
            return
        make_folder(self.folder, Owner())
        self._password = secrets.token_urlsafe(24)
        for tries_left in reversed(range(TRIES)):
            self.port = free_port()
            try:
                self._launch()
            except ServerEnded:
                if not tries_left:
                    raise
            else:
                return

    def restart(self) -> None:
        """Start it again on the same port with the same password, running, stopped or crashed."""
        self.stop()
        self._launch()

    def stop(self) -> None:
        """Stop it; its append-only file is written."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def crash(self) -> None:
        """Kill it."""
        if self._server is not None:
            self._server.crash(signal.SIGKILL)
            self._server = None

    def _launch(self) -> None:
        configuration = self.folder / "valkey.conf"
        self._write(configuration)
        command = [self._program.program, configuration]
        self._server = SupervisedServer(
            Launch(command, (signal.SIGTERM,), self.folder / "valkey.log", lock=self.lock)
        )
        self._server.wait_until(self._answers)

    def _write(self, configuration: Path) -> None:
        # The password stands in a file that only we can read: a command line is open to everybody.
        configuration.unlink(missing_ok=True)
        descriptor = os.open(configuration, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(
                f"bind 127.0.0.1\nport {self.port}\nrequirepass {self._password}\ndir {_quoted(self.folder)}\n"
                'appendonly yes\nappendfsync everysec\nmaxmemory-policy noeviction\nsave ""\ndaemonize no\n'
            )

    def _answers(self) -> bool:
        client = Redis(
            host="127.0.0.1", port=self.port, password=self._password, socket_timeout=2, socket_connect_timeout=2,
            retry=Retry(NoBackoff(), 0),  # we ask again ourselves
        )  # fmt: skip
        try:
            return bool(client.ping())
        except RedisError:
            return False
        finally:
            client.close()


def _quoted(path: Path) -> str:
    words = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{words}"'


def free_port() -> int:
    """Return a free port of the loopback address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
