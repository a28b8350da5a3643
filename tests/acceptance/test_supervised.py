"""`again up` starts again each process that ends, keeps the data, and ends with one sentence when it cannot."""

import os
import signal
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tests.acceptance.again import again
from tests.acceptance.up import Up, running_up
from worker.clock import wait_until


@pytest.fixture
def up() -> Iterator[Up]:
    """`again up` in a folder."""
    with running_up() as running:
        yield running


def lines_of(up: Up) -> dict[int, str]:
    """The command lines of all processes that `again up` started, and that those started."""
    found: dict[int, tuple[int, str]] = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (place / "stat").read_text().rsplit(")", 1)[1].split()[:2]
            line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if state != "Z":
            found[int(place.name)] = int(parent), line
    ours, grew = {up.process.pid}, True
    while grew:
        more = {pid for pid, (parent, _) in found.items() if parent in ours} - ours
        ours, grew = ours | more, bool(more)
    return {pid: found[pid][1] for pid in ours - {up.process.pid} if pid in found}


WORKERS = {
    "simulator": ("-m simulator",), "beat": ("worker.cli beat",), "ops": ("worker.cli worker", "ops,"),
    "charges": ("worker.cli worker", "charges.bulk"),
}  # fmt: skip
SERVERS = {
    "postgres": ("bin/postgres", "/postgres/data"), "valkey": ("valkey-server",),
    "supervisor of postgres": ("supervisor.py", "/postgres/data"),
    "supervisor of valkey": ("supervisor.py", "valkey.conf"),
}  # fmt: skip


def pid_of(up: Up, name: str) -> int | None:
    """The process of this name."""
    words = (WORKERS | SERVERS)[name]
    for pid, line in lines_of(up).items():
        if all(word in line for word in words) and ("supervisor.py" in line) == ("supervisor.py" in words):
            return pid
    return None


@pytest.mark.timeout(900)  # eight processes are killed and start again, one after the other
def test_each_process_that_is_killed_is_started_again_and_nothing_is_lost(up: Up) -> None:
    """Guard: a process that dies is replaced, with the same data, and takes up its work."""
    up.simulator("cards", [{"customer_uid": name} for name in ("ann", "bob")])
    up.told("plan", "add", "coffee", "--price", "9900", "--name", "Coffee", "--unit", "month", "--time", "00:00")
    up.told("customer", "add", "ann")
    up.told("subscribe", "ann", "coffee")
    assert wait_until(lambda: up.paid() == ["ann"], 45)
    for name in (*SERVERS, *WORKERS):
        before = pid_of(up, name)
        assert before is not None, (name, lines_of(up))
        os.kill(before, signal.SIGKILL)
        assert wait_until(lambda: pid_of(up, name) not in (None, before), 60), (name, up.output())  # noqa: B023
    assert up.process.poll() is None
    assert "killed by SIGKILL); it is started again in 0.5 s" in up.output()
    assert wait_until(lambda: again("status", "--healthy", cwd=up.folder).returncode == 0, 90, every=1)
    assert up.paid() == ["ann"]
    up.told("customer", "add", "bob")
    up.told("subscribe", "bob", "coffee")
    assert wait_until(lambda: up.paid() == ["ann", "bob"], 60), up.output()
    up.process.send_signal(signal.SIGINT)
    children = lines_of(up)
    assert up.process.wait(90) == 0
    # The supervisors of the servers end by themselves, when the process that they watch has ended.
    assert wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), 60)


@pytest.mark.parametrize(("name", "how"), [("beat", "killed by SIGKILL"), ("postgres", "see *postgres.log")])
def test_one_that_dies_again_and_again_ends_all_with_one_sentence(up: Up, name: str, how: str) -> None:
    """Guard: a process that cannot run is not started for ever, and nothing runs on without it."""
    children = set(lines_of(up))

    def killed() -> bool:
        children.update(lines_of(up))
        pid = pid_of(up, name)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        return up.process.poll() is not None

    assert wait_until(killed, 120, every=0.2), up.output()
    assert up.process.wait() == 1
    last = up.output().strip().splitlines()[-1]
    said = (
        f"again: {name} ended 6 times within 120 seconds ({how}). All processes are stopped; data are in *.again"
    )
    assert fnmatchcase(last, said), last
    # The supervisors of the servers end by themselves, when the process that they watch has ended.
    assert wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), 60)
