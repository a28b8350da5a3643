"""All processes of an installation as child processes of one command: start, supervise, and stop them in order."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from urllib.error import URLError
from urllib.request import urlopen

from worker.cli.local.clock_files import SECOND, SIMULATOR_STATE, clock_file, keep
from worker.cli.local.supervision import WITHIN, Restarts, how
from worker.cli.terminal.output import age, make_console
from worker.clock import BadClockFile, MovedClock, elapsed, wait, wait_until
from worker.embedded import EmbeddedError, EmbeddedServices, free_port
from worker.runtime import up_environment

LOOK_EVERY = 0.5  # seconds between two checks of the children
STOP_SECONDS = 100.0  # seconds; above a worker's own limit: the deadline of a call and 20 s
# -P: the working directory is not in the module search path, so its owner cannot choose the code.
AGAIN = (sys.executable, "-P", "-m", "worker.cli")
ROOT = Path(__file__).resolve().parents[3]  # the folder of this code, also for the children


class Standing:
    """Services, simulator, beat and workers, as a context manager that leaves no process running."""

    def __init__(
        self,
        data: Path,
        *,
        simulator_port: int = 0,
        settings: Mapping[str, str] | None = None,
        beats: int = 1,
        charge_workers: int = 1,
        durable: bool = True,
        named_services: bool = True,
        logs: Path | None = None,
        program: Sequence[str] = AGAIN,
        launch: "Callable[..., subprocess.Popen[bytes]]" = subprocess.Popen,
    ) -> None:
        self.data = data
        self._program, self._launch = program, launch
        self.console = make_console(stderr=True)
        self._simulator_port = simulator_port
        self._extra = dict(settings or {})
        self._beats, self._charge_workers, self._durable, self._logs = beats, charge_workers, durable, logs
        self._use_named = named_services  # whether AGAIN_… variables are used in addition to `settings`
        self.services: EmbeddedServices | None = None
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._commands: dict[str, tuple[str, ...]] = {}
        self._restarts: dict[str, Restarts] = {}
        self._starts_at: dict[str, float] = {}  # when to start an ended child again, by `elapsed`
        self._clock: MovedClock | None = None  # None in real time
        self._tie: tuple[int, int] | None = None
        self._written: up_environment.Written | None = None
        self.environment: dict[str, str] = {}

    def __enter__(self) -> "Standing":
        self._handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        signal.signal(signal.SIGTERM, _as_interrupt)
        _make_data_folder(self.data)
        with ExitStack() as undo:
            undo.callback(self.stop)
            self._start_services()
            self._start_simulator()
            self._write_env_file()
            self._run("migrate")
            for number in range(self._beats):
                self.start(f"beat-{number + 1}" if self._beats > 1 else "beat", "beat")
            queues = "ops,reconcile,events,requests"
            self.start("worker-ops", "worker", "--queues", queues, "--name", "ops@%h", "--concurrency", "4")
            for number in range(self._charge_workers):
                name = f"charges{number + 1}@%h"
                self.start(
                    f"worker-charges-{number + 1}", "worker", "--queues", "charges,charges.bulk", "--name", name
                )
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def print_summary(self) -> None:
        """Print what runs, and how to reach it from another terminal."""
        self._print(f"services: {self.describe()}, data in {self.data}")
        self._print(f"gateway: {self.environment['AGAIN_PORTONE_URL']}")
        if self._clock is not None:
            now, real = self._clock.now(), self._clock.real()
            moved = f"{age(now - real)} ahead of real time" if now - real > SECOND else "real time"
            self._print(f"clock: {now:%Y-%m-%d %H:%M:%S}Z, {moved}; `again clock` moves it on")
        self._print(f"running: {', '.join(self._children)}; stop with Ctrl-C")
        where = self.data / up_environment.NAME
        if self.data == up_environment.FOLDER:
            self._print("in another terminal, in this folder: again status")
        else:
            self._print(f"in another terminal: set -a; . {where}; set +a; again status")

    def watch(self) -> None:
        """Restart ended children until Ctrl-C or SIGTERM; raises EmbeddedError when one ends too often."""
        try:
            while True:
                self._start_what_ended()
                if self._clock is not None:
                    keep(self.data, self._clock)
                    self._clock.now()  # raises when the file is missing
                wait(LOOK_EVERY)
        except KeyboardInterrupt:
            self._print("stopping, after the calls that are under way")

    def _start_what_ended(self) -> None:
        for name, ending in self._ended().items():
            if name not in self._starts_at:
                restarts = self._restarts.setdefault(name, Restarts())
                seconds = restarts.ended()
                if seconds is None:
                    raise EmbeddedError(
                        f"{name} ended {restarts.many} times within {WITHIN:g} seconds ({ending}). All processes "
                        f"are stopped; data are in {self.data}"
                    )
                self._print(f"{name} ended ({ending}); it is started again in {seconds:g} s")
                self._starts_at[name] = elapsed() + seconds
            if elapsed() >= self._starts_at[name]:
                del self._starts_at[name]
                self._start_again(name)

    def _ended(self) -> dict[str, str]:
        """The children that have ended, servers first, and how."""
        servers = self.services.ended() if self.services is not None else {}
        statuses = ((name, child.poll()) for name, child in self._children.items())
        ended = {name: how(status) for name, status in statuses if status is not None}
        return {name: f"see {log}" for name, log in servers.items()} | ended

    def _start_again(self, name: str) -> None:
        if name in self._children:
            self.start(name, *self._commands[name])
        elif self.services is not None:
            try:
                self.services.start_again(name)
            except EmbeddedError as error:
                self._print(f"{name} does not start: {error}")  # counts as a further end
            else:
                self._print(f"{name} runs again")

    def _print(self, words: str) -> None:
        self.console.print(words, markup=False, highlight=False, soft_wrap=True)

    def check(self) -> None:
        """Raise when a child has ended by itself."""
        for name, child in self._children.items():
            status = child.poll()
            if status is not None:
                where = f"; see {self._logs / (name + '.log')}" if self._logs else ""
                raise EmbeddedError(f"{name} ended by itself with status {status}{where}")

    def stop(self) -> None:
        """Stop beat first, then the workers, then their services; a second Ctrl-C has no effect."""
        for number in self._handlers:
            signal.signal(number, signal.SIG_IGN)
        order = ("beat", "listener", "worker", "simulator")
        for prefix in order:
            ending = [child for name, child in self._children.items() if name.startswith(prefix)]
            for child in ending:
                if child.poll() is None:
                    child.send_signal(signal.SIGTERM)
            for child in ending:
                _wait_or_kill(child)
        self._children.clear()
        self._keep_clock()
        if self._tie is not None:
            os.close(self._tie[0])
            os.close(self._tie[1])
            self._tie = None
        if self._written is not None:
            self._written.remove()
            self._written = None
        if self.services is not None:
            self.services.stop()
            self.services = None
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _keep_clock(self) -> None:
        if self._clock is not None:
            try:
                keep(self.data, self._clock)
            except (BadClockFile, EmbeddedError) as error:
                self._print(str(error))

    def children(self, prefix: str) -> list["subprocess.Popen[bytes]"]:
        """The running children whose names have this prefix."""
        return [child for name, child in self._children.items() if name.startswith(prefix)]

    def names(self) -> list[str]:
        """The names of all children, running or ended."""
        return list(self._children)

    def restart(self, prefix: str) -> None:
        """Start the ended children whose names have this prefix again."""
        for name in [name for name in self._children if name.startswith(prefix)]:
            self.start(name, *self._commands[name])

    def start(self, name: str, *command: str) -> None:
        """Start a further child under a new name."""
        self._commands[name] = command
        if self._tie is None:
            # Standard input of the children: it closes when this process ends in any way, and they stop.
            self._tie = os.pipe()
        output = None
        if self._logs is not None:
            self._logs.mkdir(parents=True, exist_ok=True)
            output = (self._logs / f"{name}.log").open("ab")
        # A new session: Ctrl-C reaches this process only, which stops the children in order.
        self._children[name] = self._launch(
            [*self._program, *command, "--until-stdin-closes"],
            env=self._full_environment() | self._metrics_port(name),
            stdin=self._tie[0], stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
        if output is not None:
            output.close()

    def _start_services(self) -> None:
        ours = {name: value for name, value in os.environ.items() if name.startswith("AGAIN_") and value}
        named = ours if self._use_named else {}
        self.environment = {"AGAIN_ENVIRONMENT": "demo"} | named | self._extra
        missing = {"AGAIN_DATABASE_URL", "AGAIN_BROKER_URL"} - set(self.environment)
        if len(missing) == 1:
            raise EmbeddedError(f"{missing.pop()} is not set though the other is; set both, or neither")
        if missing:
            self.services = EmbeddedServices(self.data, durable=self._durable)
            self.services.start()
            self.environment["AGAIN_DATABASE_URL"] = self.services.database_url
            self.environment["AGAIN_BROKER_URL"] = self.services.broker_url

    def describe(self) -> str:
        """The database and broker that are used."""
        return self.services.describe() if self.services is not None else "the services that AGAIN_… names"

    def _start_simulator(self) -> None:
        self._find_clock()
        if "AGAIN_PORTONE_URL" in self.environment:
            return
        port = self._simulator_port or free_port()
        _refuse_taken(port)
        url = f"http://127.0.0.1:{port}"
        # The default credentials of the simulator are not secret; others come from the environment.
        credentials = {"AGAIN_PORTONE_KEY": "sim_key", "AGAIN_PORTONE_SECRET": "sim_secret"} | self.environment
        self.environment = credentials | {
            "AGAIN_PORTONE_URL": url,
            "SIMULATOR_KEY": credentials["AGAIN_PORTONE_KEY"],
            "SIMULATOR_SECRET": credentials["AGAIN_PORTONE_SECRET"],
        }
        kept = ("--state", str(self.data.absolute() / SIMULATOR_STATE)) if self._durable else ()
        clock = ("--clock-file", str(self._clock.path)) if self._clock is not None else ()
        self.start("simulator", "simulator", "--host", "127.0.0.1", "--port", str(port), *kept, *clock)
        if not wait_until(lambda: self._answers(url), 20):
            raise EmbeddedError(f"the simulator does not answer at {url}; is port {port} free?")

    def _find_clock(self) -> None:
        """Set the file that moves the clock of shop and simulator, if there is one."""
        # A test may use any clock with any database.
        is_embedded = self.services is not None or not self._use_named
        file = clock_file(self.data, self.environment, is_embedded=is_embedded)
        if file is not None:
            self._clock = MovedClock(file)
            self.environment["AGAIN_CLOCK_FILE"] = str(file)

    def _answers(self, url: str) -> bool:
        self.check()
        try:
            with urlopen(f"{url}/_simulator/clock", timeout=1):  # noqa: S310 # our own http:// address
                return True
        except (URLError, OSError):
            return False

    def _write_env_file(self) -> None:
        ours = {name: value for name, value in self.environment.items() if name.startswith("AGAIN_")}
        self._written = up_environment.Written(self.data, ours)

    def _run(self, *command: str) -> None:
        with tempfile.TemporaryFile() as output:
            child = self._launch(
                [*self._program, *command], env=self._full_environment(), stdout=output, stderr=output
            )
            if child.wait():
                output.seek(0)
                told = output.read().decode(errors="replace").strip().removeprefix("again: ")
                raise EmbeddedError(f"`again {' '.join(command)}` failed: {told}")

    def _metrics_port(self, name: str) -> dict[str, str]:
        """AGAIN_METRICS_PORT for a child: the first one has the port that is set, each next one the next port."""
        first = self.environment.get("AGAIN_METRICS_PORT", "")
        if not first.isdecimal():
            return {}  # none, or a wrong one, which the child reports
        ours = [each for each in self._commands if each != "simulator"]
        return {"AGAIN_METRICS_PORT": str(int(first) + ours.index(name))} if name in ours else {}

    def _full_environment(self) -> dict[str, str]:
        foreign = {name: value for name, value in os.environ.items() if not name.startswith("AGAIN_")}
        return foreign | self.environment | {"PYTHONPATH": str(ROOT)}


def _wait_or_kill(child: "subprocess.Popen[bytes]") -> None:
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _make_data_folder(data: Path) -> None:
    try:
        # As root, PostgreSQL runs as another user and must reach its folder.
        data.mkdir(parents=True, exist_ok=True, mode=0o711 if os.geteuid() == 0 else 0o700)
    except OSError as error:
        why = error.strerror
    else:
        why = None if os.access(data, os.W_OK | os.X_OK) else "permission denied"
    if why is not None:
        raise EmbeddedError(
            f"the folder {data.absolute()} cannot be written ({why}); name another with --data, or run "
            "`again up` in a folder that you may write"
        )


def _refuse_taken(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise EmbeddedError(
                f"port {port} cannot be used ({error.strerror}); take another with --port"
            ) from None


def _as_interrupt(*_: object) -> None:
    raise KeyboardInterrupt
