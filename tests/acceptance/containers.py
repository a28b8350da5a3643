"""The services of a composition, as processes here instead of containers."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit, urlunsplit

from redis import Redis
from redis.exceptions import RedisError

from tests.acceptance.again import AGAIN
from tests.acceptance.compose_files import Composition
from worker.clock import wait_until
from worker.embedded import free_port
from worker.embedded.programs import find_valkey

# As `cap_drop` and `no-new-privileges` have it. The user stays: another one may not read the interpreter here.
DROPPED = ("setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all")
START_TIME = 120.0  # seconds that the processes may take on a busy machine
# The wheel of the server has no client: what `valkey-cli ping` does, with its exit status.
VALKEY_CLI = """
import os, redis
try:
    print("PONG" if redis.Redis(port=int(os.environ["PORT"]), password=os.environ["REDISCLI_AUTH"]).ping() else "")
except redis.RedisError as error:
    print(error)
"""


def bounds() -> Sequence[str]:
    """What a program is started with, to have no capabilities as in its container."""
    return DROPPED if os.geteuid() == 0 and shutil.which(DROPPED[0]) is not None else ()


class Containers:
    """One composition that runs: each container has temporary files of its own, and the ports are free ones."""

    def __init__(self, composition: Composition, database: str, folder: Path, actor: str) -> None:
        self.composition = composition
        self.database = database
        self._actor = actor
        self._folder = folder
        self._bounds = bounds()
        self.ports = {port: str(free_port()) for port in ("6379", "8020", "8765")}
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def tmp(self, name: str) -> Path:
        """The folder that stands for those which a container keeps in memory."""
        folder = self._folder / name
        if not folder.exists():
            folder.mkdir()
        return folder

    def environment(self, name: str) -> dict[str, str]:
        """The variables of a container, with the addresses as they are here."""
        given = self.composition.environment(name)
        if name in self.composition.ours:
            broker = urlsplit(given["AGAIN_BROKER_URL"])
            at = f":{broker.password}@127.0.0.1:{self.ports['6379']}"
            given |= {
                "AGAIN_DATABASE_URL": self.database,
                "AGAIN_BROKER_URL": urlunsplit(broker._replace(netloc=at)),
                "AGAIN_LISTENER_ALLOW": "127.0.0.1",
            }
            if "AGAIN_PORTONE_URL" in given:
                given["AGAIN_PORTONE_URL"] = self._here(given["AGAIN_PORTONE_URL"], name).replace(
                    "//simulator:", "//127.0.0.1:"
                )
        if name == "again":
            given["AGAIN_ACTOR"] = self._actor  # $USER of the host
        path = f"{self._folder}{os.pathsep}{os.environ['PATH']}"  # with valkey-server and valkey-cli
        return {"PATH": path, "TMPDIR": str(self.tmp(name)), "PORT": self.ports["6379"], **given}

    def write_secret(self, name: str, text: str) -> None:
        """Put a file into the folder of the broker's secrets."""
        (self._folder / "secrets").mkdir(exist_ok=True)
        (self._folder / "secrets" / name).write_text(text)

    def start(self, *names: str) -> None:
        """Start services that do not run."""
        for name in names:
            if name not in self.running:
                words = self._words(name, self.composition.services[name]["command"])
                with (self._folder / f"{name}.log").open("ab") as log:
                    self.running[name] = subprocess.Popen(
                        [*self._bounds, *words], env=self.environment(name), stdout=log, stderr=log, cwd="/"
                    )

    def start_all(self) -> None:
        """Start the broker, migrate, and start what lasts; return when all are healthy."""
        self.start_broker()
        assert self.finish("migrate") == 0, self.log("migrate")
        names = [*self.composition.lasting, *({"simulator"} & self.composition.services.keys())]
        self.start(*names)
        self.wait_healthy(*names)

    def start_broker(self) -> None:
        """Start the broker by its own command, with port and folder as they are here."""
        script = self.composition.services["valkey"]["command"][2]
        here = f"--port {self.ports['6379']} --dir {self.tmp('valkey')} "
        script = script.replace(" <<END", f" {here}<<END").replace("/run/secrets", str(self._folder / "secrets"))
        if not (self._folder / "valkey-cli").exists():
            (self._folder / "valkey-server").symlink_to(find_valkey().program)
            (self._folder / "valkey-cli").write_text(f"#!{sys.executable}\n{VALKEY_CLI}")
            (self._folder / "valkey-cli").chmod(0o755)
        with (self._folder / "valkey.log").open("ab") as log:
            self.running["valkey"] = subprocess.Popen(
                ["sh", "-c", script], env=self.environment("valkey"), stdout=log, stderr=log
            )
        assert wait_until(self._broker_answers, START_TIME), self.log("valkey")

    def broker(self, password: str | None = None, username: str | None = None) -> Redis:
        """A client of the broker."""
        return Redis(port=int(self.ports["6379"]), username=username, password=password)

    def _broker_answers(self) -> bool:
        with self.broker(password=self.composition.env["VALKEY_PASSWORD"]) as client:
            try:
                return bool(client.ping())
            except RedisError:
                return False

    def finish(self, name: str) -> int:
        """Run a service to its end."""
        self.start(name)
        return self.running.pop(name).wait(START_TIME)

    def ask(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run `docker compose run --rm again ARGUMENTS`."""
        words = self._words("again", [*self.composition.services["again"]["entrypoint"], *arguments])
        return subprocess.run(
            [*self._bounds, *words], env=self.environment("again"), capture_output=True, text=True, check=False,
            cwd="/", stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def health(self, name: str) -> tuple[int, str]:
        """What the service's health check exits with, and prints."""
        test = self.composition.services[name]["healthcheck"]["test"]
        words = ["sh", "-c", test[1]] if test[0] == "CMD-SHELL" else self._words(name, test[1:])
        done = subprocess.run(
            [*self._bounds, *words], env=self.environment(name), capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    def wait_healthy(self, *names: str) -> None:
        """Return when the health checks of these services succeed."""
        for name in names:
            assert wait_until(lambda name=name: self.health(name)[0] == 0, START_TIME, every=0.5), (  # type: ignore[misc]
                f"{name}: {self.health(name)}\n{self.log(name)[-3000:]}"
            )

    def stop(self, *names: str) -> dict[str, int]:
        """Stop services as the engine would; their exit statuses."""
        stopped = {name: self.running.pop(name) for name in names}
        for process in stopped.values():
            process.terminate()
        return {name: process.wait(100) for name, process in stopped.items()}

    def log(self, name: str) -> str:
        """What a service has logged."""
        return (self._folder / f"{name}.log").read_text("utf-8", errors="replace")

    def end(self) -> None:
        """Kill what runs."""
        for process in self.running.values():
            process.kill()
            process.wait()

    def _words(self, name: str, command: Sequence[str]) -> list[str]:
        programs = {"again": str(AGAIN), "python": sys.executable, "0.0.0.0": "127.0.0.1"}
        return [programs.get(word, self._here(word, name)) for word in command]

    def _here(self, word: str, name: str) -> str:
        if word in self.ports:
            return self.ports[word]
        for port, moved in self.ports.items():
            word = word.replace(f":{port}/", f":{moved}/")
            word = f"{word.removesuffix(f':{port}')}:{moved}" if word.endswith(f":{port}") else word
        return f"{self.tmp(name)}/{Path(word).name}" if word.startswith("/run/again/") else word


@contextmanager
def containers(composition: Composition, database: str, actor: str) -> Iterator[Containers]:
    """Containers of a composition, ended afterwards."""
    with TemporaryDirectory(prefix="again-compose-", ignore_cleanup_errors=True) as folder:
        made = Containers(composition, database, Path(folder), actor)
        try:
            yield made
        finally:
            made.end()
