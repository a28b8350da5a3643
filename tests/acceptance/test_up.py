"""`again up` and `again demo`: everything in one command, and nothing left behind, however it ends."""

import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.again import AGAIN, again, plain_environment
from tests.acceptance.up import processes_of
from tests.starting import wait_until_up
from worker.clock import wait_until
from worker.embedded import free_port


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that PostgreSQL's own user may walk to."""
    with tempfile.TemporaryDirectory(prefix="again-up-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture
def up(folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """`again up` in a folder, killed at the end if it is still there."""
    output = folder / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [AGAIN, "up", "--port", str(free_port())], cwd=folder, env=plain_environment(),
            stdin=subprocess.DEVNULL, stdout=file, stderr=file,
        )  # fmt: skip
    try:
        wait_until_up(process, lambda: b"stop with Ctrl-C" in output.read_bytes(), output.read_bytes)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_it_runs_everything_and_commands_in_the_folder_find_it(
    up: "subprocess.Popen[bytes]", folder: Path
) -> None:
    wait_until_up(
        up,
        lambda: again("status", "--healthy", cwd=folder).returncode == 0,
        (folder / "output").read_bytes,
    )
    assert (folder / ".again/env").stat().st_mode & 0o077 == 0
    up.send_signal(signal.SIGINT)
    assert up.wait(90) == 0
    assert processes_of(folder) == []
    assert not (folder / ".again/env").exists()
    words = again("status", cwd=folder)
    assert words.returncode == 1
    assert "AGAIN_DATABASE_URL: is not set" in words.stderr


def test_two_signals_at_once_stop_it_in_good_order(up: "subprocess.Popen[bytes]", folder: Path) -> None:
    up.send_signal(signal.SIGTERM)
    up.send_signal(signal.SIGINT)
    assert up.wait(90) in (0, 130)  # 130 where the second came before the first was taken in
    assert processes_of(folder) == []


def test_nothing_is_left_when_it_is_killed(up: "subprocess.Popen[bytes]", folder: Path) -> None:
    up.kill()
    up.wait()
    assert wait_until(lambda: processes_of(folder) == [], 60), processes_of(folder)


def test_a_second_one_in_the_folder_is_refused(up: "subprocess.Popen[bytes]", folder: Path) -> None:
    second = again("up", "--port", str(free_port()), cwd=folder)
    assert second.returncode == 1
    assert "in use by another" in second.stderr
    assert (folder / ".again/env").exists()
    assert up.poll() is None
    up.send_signal(signal.SIGINT)
    up.wait(90)


def test_a_folder_that_cannot_be_made_is_refused_in_a_sentence(folder: Path) -> None:
    (folder / "file").write_text("")
    done = again("up", "--data", str(folder / "file" / "data"), "--port", str(free_port()), cwd=folder)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert f"{folder}/file/data cannot be written" in done.stderr
    assert "--data" in done.stderr


def test_a_port_that_is_taken_is_named(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = again("up", "--port", port, cwd=folder)
    assert done.returncode == 1
    assert f"port {port} cannot be used" in done.stderr
    assert processes_of(folder) == []


def test_a_small_demo_ends_with_books_that_agree() -> None:
    done = again("demo", "--customers", "8", "--days", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the database and the simulator's ledger agree" in done.stdout
