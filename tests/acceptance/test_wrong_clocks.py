"""Real processes whose clocks are set two hours wrong while they run: opening goes on by those that are right."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from schedules.operations.health import CauseCode
from tests.acceptance.again import again
from tests.installation import Installation, installed
from tests.skewed import set_ahead
from worker.cli.local.stack import AGAIN
from worker.clock import wait_until
from worker.store.operations import processes

pytestmark = pytest.mark.timeout(300)
TWO_HOURS = 7200.0
PROGRAM = (*AGAIN[:-1], "tests.skewed")


@pytest.fixture(scope="module")
def clocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder whose files say how wrong each process's clock is."""
    return tmp_path_factory.mktemp("clocks")


@pytest.fixture(scope="module")
def shop(clocks: Path) -> Iterator[Installation]:
    """An installation of processes whose clocks can be set wrong."""
    with installed(program=(*PROGRAM, str(clocks))) as installation:
        yield installation


@contextmanager
def wrong(clocks: Path, child: "subprocess.Popen[bytes]", seconds: float) -> Iterator[None]:
    """Set a process's clock wrong, and right again at the end."""
    set_ahead(clocks, child.pid, seconds)
    try:
        yield
    finally:
        set_ahead(clocks, child.pid, 0)


def leaders(shop: Installation) -> set[int]:
    """The process ids of the beats that say they lead."""
    with shop.services.engine.begin() as db:
        return {each.pid for each in processes.seen(db) if each.kind == "beat" and each.is_alive and each.leads}


@contextmanager
def second_ops_worker(shop: Installation) -> Iterator[None]:
    """One more worker of the same queues, with a right clock; stopped at the end, also of a test that failed."""
    shop.standing.start("worker-second", "worker", "--queues", "ops,reconcile", "--name", "second@%h")
    (second,) = shop.standing.children("worker-second")
    try:
        yield
    finally:
        second.terminate()
        assert second.wait(60) == 0


def is_told_wrong(shop: Installation, pid: int) -> bool:
    """Whether the status fails and names this process's clock, which it knows from the last heartbeat."""
    done = again("status", "--healthy", settings=shop.settings)
    return done.returncode == 1 and CauseCode.WRONG_CLOCK in done.stderr and str(pid) in done.stderr


def log_of(shop: Installation, name: str) -> str:
    return (shop.standing.data / "logs" / f"{name}.log").read_text()


@pytest.mark.parametrize("seconds", [-TWO_HOURS, TWO_HOURS])
def test_a_beat_whose_clock_goes_wrong_gives_up_the_lead_and_another_takes_over(
    shop: Installation, clocks: Path, seconds: float
) -> None:
    """Guard: beat compares its clock with the database's; else workers discard all it sends as expired."""
    assert wait_until(lambda: len(leaders(shop)) == 1, 30)
    (leader,) = leaders(shop)
    (number,) = [n for n in (1, 2) if shop.standing.children(f"beat-{n}")[0].pid == leader]
    before = log_of(shop, f"beat-{number}").count("ERROR")
    with wrong(clocks, shop.standing.children(f"beat-{number}")[0], seconds):
        assert wait_until(lambda: leaders(shop) not in (set(), {leader}), 40)
        key = shop.customer(f"after{seconds:+.0f}", "now")
        shop.wait_for(key, "paid")
        assert is_told_wrong(shop, leader)
        lines = [line for line in log_of(shop, f"beat-{number}").splitlines()[:] if "ERROR" in line]
        assert len(lines) - before == 1, lines
        assert "clock" in lines[-1]
    assert wait_until(lambda: again("status", "--healthy", settings=shop.settings).returncode == 0, 40)


@pytest.mark.parametrize("seconds", [-TWO_HOURS, TWO_HOURS])
def test_an_ops_worker_whose_clock_goes_wrong_discards_nothing(
    shop: Installation, clocks: Path, seconds: float
) -> None:
    """Guard: the expiry of a chore is compared with the database's clock."""
    (child,) = shop.standing.children("worker-ops")
    log = log_of(shop, "worker-ops")
    with wrong(clocks, child, seconds):
        assert wait_until(lambda: "clock is" in log_of(shop, "worker-ops")[len(log) :], 40)
        with second_ops_worker(shop):
            key = shop.customer(f"beside{seconds:+.0f}", "now")
            shop.wait_for(key, "paid", 90)
            assert wait_until(lambda: is_told_wrong(shop, child.pid), 40)
    assert "Discarding revoked task" not in log_of(shop, "worker-ops")[len(log) :]
