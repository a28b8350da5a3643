"""`again migrate` of a newer version under running processes: they go on beside new ones, or charge nothing."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.acceptance.again import ROOT, plain_environment
from tests.installation import Installation, installed
from worker.clock import wait_until
from worker.store.operations.revisions import newest_revision

pytestmark = pytest.mark.timeout(300)
PATIENCE = 45.0  # seconds that anything may take on a busy machine
NEWER = "9999"
MIGRATION = '''"""A later change."""

from contextlib import nullcontext

from alembic import op

revision = "{newer}"
down_revision = "{newest}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change something."""
    with {scope}:
        for statement in {statements!r}:
            op.execute(statement)
'''
EXPAND = (
    "ALTER TABLE charges ADD COLUMN later text",
    "ALTER TABLE attempts ADD COLUMN later text",
    "ALTER TABLE archived_attempts ADD COLUMN later text",
    "CREATE TABLE later (id bigint PRIMARY KEY)",
)
INDEX = ("CREATE INDEX CONCURRENTLY later ON charges (created_at)",)
# A transaction that uses the table as a charge does, but for long.
LONG = ("SET LOCAL idle_in_transaction_session_timeout = 0", "LOCK TABLE charges IN ROW EXCLUSIVE MODE")
CONTRACT = (f"UPDATE served_code SET oldest_revision = '{NEWER}'",)


class NewerVersion:
    """A copy of the code with one more migration, and commands of it."""

    def __init__(self, folder: Path, settings: dict[str, str], statements: Sequence[str]) -> None:
        self._folder, self._environment = folder, plain_environment(settings)
        for room in ("schedules", "worker", "migrations"):
            shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
        concurrently = any("CONCURRENTLY" in statement for statement in statements)
        scope = "op.get_context().autocommit_block()" if concurrently else "nullcontext()"
        newest = newest_revision().newest
        module = MIGRATION.format(newer=NEWER, newest=newest, statements=tuple(statements), scope=scope)
        (folder / f"migrations/versions/{NEWER}_change_something.py").write_text(module)
        self._running: list[subprocess.Popen[bytes]] = []

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "worker.cli", *command], cwd=self._folder, env=self._environment,
            capture_output=True, text=True, check=True, timeout=90, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def obstacles(self) -> list[str]:
        """Why processes send nothing because of their revision, as `again status` says."""
        status = json.loads(self.run("status", "--json").stdout)
        said = [process["obstacle"] for process in status["processes"] if process["obstacle"]]
        return [words for words in said if f"at revision {NEWER}" in words]

    def start(self, *command: str) -> None:
        """Start a process."""
        with (self._folder / "log").open("ab") as log:
            self._running.append(subprocess.Popen(
                [sys.executable, "-m", "worker.cli", *command], cwd=self._folder, env=self._environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            ))  # fmt: skip

    def log(self) -> str:
        """What the started processes have printed."""
        return (self._folder / "log").read_text()

    def ended(self) -> list[int | None]:
        """The exit codes of the started processes; None for one that runs."""
        return [process.poll() for process in self._running]

    def stop(self) -> None:
        """Stop what was started."""
        for process in self._running:
            process.terminate()
        for process in self._running:
            process.wait()


@pytest.fixture
def shop() -> Iterator[Installation]:
    """An installation of this version."""
    with installed() as running:
        yield running


@pytest.fixture
def version(shop: Installation, tmp_path: Path) -> Iterator[Callable[[Sequence[str]], NewerVersion]]:
    """Make the next version, whose migration has these statements."""
    made: list[NewerVersion] = []

    def make(statements: Sequence[str]) -> NewerVersion:
        made.append(NewerVersion(tmp_path / "newer", shop.settings, statements))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def test_after_a_migration_that_only_adds_old_and_new_processes_charge_side_by_side(
    shop: Installation, version: Callable[[Sequence[str]], NewerVersion]
) -> None:
    """Expand, deploy: the processes are replaced one after another, and charges go on all the time."""
    newer = version(EXPAND)
    with pytest.raises(subprocess.CalledProcessError) as refused:
        newer.run("status")
    assert f"behind this code ({NEWER}); run `again migrate`" in refused.value.stderr + refused.value.stdout
    migrated = newer.run("migrate")
    assert f"at revision {NEWER}" in migrated.stdout
    assert "processes for revision" not in migrated.stderr
    shop.services.engine.dispose()

    first = shop.customer("first", "now")
    shop.wait_for(first, "paid")  # by the old processes alone
    (killed,) = shop.standing.children("worker-charges-1")
    killed.kill()
    killed.wait()
    shop.standing.restart("worker-charges-1")  # an old process starts on the new schema too
    newer.start("worker")
    keys = [shop.customer(f"beside-{number}", "now") for number in range(6)]
    for key in keys:
        shop.wait_for(key, "paid")
    for name in ("beat", "worker"):
        for child in shop.standing.children(name):
            child.terminate()
            child.wait()
    newer.start("beat")
    last = shop.customer("last", "now")
    shop.wait_for(last, "paid", 120)  # by the new processes alone
    assert newer.obstacles() == []
    paid = ["first", *(f"beside-{number}" for number in range(6)), "last"]
    assert [len(shop.movements(name)) for name in paid] == [1] * len(paid)


def test_after_a_migration_that_breaks_the_old_code_only_the_new_processes_charge(
    shop: Installation, version: Callable[[Sequence[str]], NewerVersion]
) -> None:
    newer = version(CONTRACT)
    ours = newest_revision().newest
    shop.wait_for(shop.customer("before", "now"), "paid")
    migrated = newer.run("migrate")
    assert f"at revision {NEWER}" in migrated.stdout
    assert f"processes for revision {ours} hold" in migrated.stderr

    after = shop.customer("after", "now")
    for name in ("beat-1", "beat-2", "worker-ops", "worker-charges-1", "worker-charges-2"):
        assert wait_until(lambda name=name: says(shop, name, "ERROR", f"at revision {NEWER}", ours), PATIENCE)  # type: ignore[misc]
    assert wait_until(lambda: newer.obstacles() != [], PATIENCE)
    killed = shop.standing.children("worker-charges-1")[0]
    killed.kill()
    killed.wait()
    shop.standing.restart("worker-charges-1")
    (restarted,) = shop.standing.children("worker-charges-1")
    assert wait_until(lambda: restarted.poll() is not None, PATIENCE)
    assert restarted.returncode != 0
    assert says(shop, "worker-charges-1", f"revision {NEWER}, which this code does not know")
    assert shop.movements("after") == []

    for name in ("beat", "worker"):
        for child in shop.standing.children(name):
            child.terminate()
            child.wait()
    newer.start("beat")
    newer.start("worker")
    shop.wait_for(after, "paid", 120)
    assert [len(shop.movements(name)) for name in ("before", "after")] == [1, 1]
    shop.services.engine.dispose()  # this very test's connections are of the old version too
    assert "processes for revision" not in newer.run("migrate").stderr


def test_a_migration_waits_two_seconds_for_a_lock_and_charges_go_on_between_its_tries(
    shop: Installation, version: Callable[[Sequence[str]], NewerVersion]
) -> None:
    """A long transaction that uses the table would otherwise stop every charge behind the migration."""
    newer = version(EXPAND)
    with shop.services.engine.connect() as long:
        for statement in LONG:
            long.execute(text(statement))
        newer.start("migrate")
        assert wait_until(lambda: "(try 1 of 5)" in newer.log(), PATIENCE), newer.log()
        shop.wait_for(shop.customer("between", "now"), "paid")
        long.rollback()
    assert wait_until(lambda: newer.ended() != [None], PATIENCE), newer.log()
    assert newer.ended() == [0], newer.log()


def test_an_index_is_built_while_charges_go_on(
    shop: Installation, version: Callable[[Sequence[str]], NewerVersion]
) -> None:
    """It waits for an older transaction, longer than for a lock, and blocks no other transaction."""
    newer = version(INDEX)
    valid = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('later')")
    with shop.services.engine.connect() as long:
        for statement in LONG:
            long.execute(text(statement))
        newer.start("migrate")

        def is_valid() -> bool | None:
            with shop.services.engine.connect() as db:
                return db.execute(valid).scalar()

        assert wait_until(lambda: is_valid() is False, PATIENCE), newer.log()
        for name in ("first", "second"):  # one after another, so for longer than a lock is waited for
            shop.wait_for(shop.customer(name, "now"), "paid")
        assert (is_valid(), newer.ended()) == (False, [None]), newer.log()
        long.rollback()
    assert wait_until(lambda: newer.ended() != [None], PATIENCE), newer.log()
    assert (is_valid(), newer.ended()) == (True, [0]), newer.log()


def says(shop: Installation, name: str, *words: str) -> bool:
    """Whether a line of a child's log has all these words."""
    lines = (shop.standing.data / "logs" / f"{name}.log").read_text().splitlines()
    return any(all(word in line for word in words) for line in lines)
