"""A RabbitMQ node of the tests' own, where a server is on the PATH; nothing of it is left behind."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from worker.clock import wait_until

REQUIRED = "TESTS_REQUIRE_RABBITMQ"  # set where a test must fail, not be skipped, when there is no server
START_TIME = 90.0  # seconds that a node may take to start on a busy machine
# Debian's own wrappers change the user; the programs behind them run as whoever starts them.
PLACES = ("/usr/lib/rabbitmq/bin", *os.get_exec_path())


def program(name: str) -> str | None:
    """Where one of RabbitMQ's programs is; None when it is not on this machine."""
    return shutil.which(name, path=os.pathsep.join(PLACES))


NEEDS_RABBITMQ = pytest.mark.skipif(
    program("rabbitmq-server") is None and not os.environ.get(REQUIRED),
    reason="no rabbitmq-server on this machine: apt-get install rabbitmq-server",
)


def free_ports(many: int) -> list[int]:
    """So many ports that nobody listens on."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(many)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


class Rabbit:
    """A node that runs."""

    def __init__(self, folder: Path) -> None:
        port, epmd, dist = free_ports(3)
        self._port = port
        self.url = f"amqp://guest:guest@127.0.0.1:{port}//"
        config = folder / "rabbitmq.conf"
        config.write_text(f"listeners.tcp.default = 127.0.0.1:{port}\nloopback_users = none\n")
        self._environment = os.environ | {
            "HOME": str(folder), "RABBITMQ_NODENAME": f"again{port}@localhost", "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(dist), "ERL_EPMD_PORT": str(epmd), "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_CONFIG_FILE": str(config), "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "logs"), "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_LOGS": str(folder / "logs/node.log"),
            # The node and its commands would each start a daemon of names that nobody stops.
            # Its threads spin a while before they sleep, which takes processor time from the tests' own processes.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS":
                "-start_epmd false +sbwt none +sbwtdcpu none +sbwtdio none",
            "RABBITMQ_CTL_ERL_ARGS": "-start_epmd false",
        }  # fmt: skip
        self._folder = folder
        self._node: subprocess.Popen[bytes] | None = None
        self._names_port = epmd
        self._names = subprocess.Popen([str(program("epmd"))], env=self._environment, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        assert wait_until(lambda: _listens(self._names_port), START_TIME), "epmd does not answer"
        with (self._folder / "output").open("ab") as output:
            self._node = subprocess.Popen(
                [str(program("rabbitmq-server"))], env=self._environment, stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, start_new_session=True,
            )  # fmt: skip
        assert wait_until(self._answers, START_TIME), (self._folder / "output").read_text()[-2000:]

    def stop(self) -> None:
        """Stop it in order. A queue of one member that was killed finds no leader again, in RabbitMQ 3.10."""
        if self._node is not None:
            self._node.terminate()
            self._node.wait(60)

    def end(self) -> None:
        """Kill it, whatever it started, and the daemon that names its nodes."""
        if self._node is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._node.pid, signal.SIGKILL)
            self._node.wait()
        self._names.kill()
        self._names.wait()

    def queues(self) -> dict[str, str]:
        """The queues that it has, with their types."""
        told = self._control("list_queues", "name", "type", "--quiet", "--no-table-headers")
        return dict(line.split("\t") for line in told.splitlines() if line)

    def connections(self) -> set[int]:
        """The clients' ports of its connections, those that a client has closed and it has not seen end too."""
        told = self._control("list_connections", "peer_port", "--quiet", "--no-table-headers")
        return {int(port) for port in told.split()}

    def forget(self, queues: Sequence[str]) -> None:
        """Lose whatever waits in these queues."""
        for queue in queues:
            self._control("purge_queue", queue)

    @contextmanager
    def memory_alarm(self) -> Iterator[None]:
        """Have it think that its memory is used up: meanwhile it takes nothing from publishers."""
        self._control("set_vm_memory_high_watermark", "absolute", "1")
        try:
            yield
        finally:
            self._control("set_vm_memory_high_watermark", "0.9")

    def add_caller(self, name: str, password: str, definitions: Path) -> None:
        """Add a user that sends requests, as docs/how-to/broker-access.md says."""
        self._control("add_user", name, password)
        self._control("import_definitions", str(definitions))

    def _control(self, *words: str) -> str:
        command = [str(program("rabbitmqctl")), *words]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=True)
        return done.stdout

    def _answers(self) -> bool:
        assert self._node is not None
        assert self._node.poll() is None, (self._folder / "output").read_text()[-2000:]
        return _listens(self._port)  # it listens when it is ready


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 2).close()
    except OSError:
        return False
    return True


@contextmanager
def rabbit() -> Iterator[Rabbit]:
    """A node, gone afterwards."""
    assert program("rabbitmq-server"), (
        f"no rabbitmq-server, and {REQUIRED} is set: apt-get install rabbitmq-server"
    )
    with tempfile.TemporaryDirectory(prefix="again-rabbit-", ignore_cleanup_errors=True) as folder:
        node = Rabbit(Path(folder))
        try:
            node.start()
            yield node
        finally:
            node.end()
