"""The file of `--alive-file`, and what `again alive` says of it without a database and a broker."""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.again import again, plain_environment
from worker.clock import wait_until

# A process that records in a file, and nothing else of Again's.
RECORDS = """
import sys
from pathlib import Path
from worker.runtime import alive
alive.begin(Path(sys.argv[1]), "worker")
print("begun", flush=True)
sys.stdin.read()
"""

# The command itself, and then the modules that it has imported.
IMPORTS = """
import sys
from worker.cli import main
try:
    main()
except SystemExit as ended:
    print("status", ended.code or 0)
print("imported", *sys.modules)
"""
SLOW = ("celery", "kombu", "sqlalchemy", "psycopg", "httpx", "worker.config", "worker.store", "worker.task_api")


def recorder(file: Path) -> "subprocess.Popen[str]":
    """Start it, and wait until it records."""
    process = subprocess.Popen(
        [sys.executable, "-c", RECORDS, str(file)], env=plain_environment(), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    return process


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A path for the record."""
    return tmp_path / "alive"


@pytest.fixture
def running(file: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that records in the file."""
    process = recorder(file)
    yield process
    process.kill()
    process.communicate()


def said(file: Path) -> tuple[int, str]:
    """The exit status of `again alive`, and its one line."""
    done = again("alive", str(file))
    text = done.stdout + done.stderr
    assert text.count("\n") == 1, text
    return done.returncode, text


def test_a_process_that_runs_is_alive_and_one_that_was_killed_is_not(
    file: Path, running: "subprocess.Popen[str]"
) -> None:
    status, text = said(file)
    assert (status, f"worker (process {running.pid}) runs" in text) == (0, True)
    running.kill()
    running.wait()
    assert said(file) == (
        1,
        f"again: worker (process {running.pid}), which recorded in {file}, has ended; start it again\n",
    )


@pytest.mark.parametrize("made", ["nothing", "text", "folder", "link", "pipe"])
def test_a_path_without_a_record_is_refused_as_the_caller_s_mistake(made: str, file: Path) -> None:
    """Guard: a wrong path is no fault of Again, and the sentence says what to do."""
    match made:
        case "text":
            file.write_text("something else")
        case "folder":
            file.mkdir()
        case "link":
            file.symlink_to(file.with_name("elsewhere"))
        case "pipe":
            os.mkfifo(file)
        case _:
            pass
    status, text = said(file)
    assert (status, str(file) in text, "give the path that" in text) == (1, True, True)
    code = json.loads(again("alive", str(file), "--json").stderr)["error"]["code"]
    assert code == ("not_found" if made == "nothing" else "invalid")


def test_a_process_that_cannot_write_its_first_record_is_not_alive(file: Path) -> None:
    """Guard: on a full disk from the start, the sentence names space, and no wrong path."""
    with file.open("w") as empty:
        fcntl.flock(empty, fcntl.LOCK_EX)
        status, text = said(file)
    assert (status, f"its record cannot be written; free space at {file}" in text) == (1, True)


def test_a_second_process_does_not_take_the_file(file: Path, running: "subprocess.Popen[str]") -> None:
    """Guard: a check of one process must not be answered by another."""
    _, errors = recorder(file).communicate()
    assert "in use by another process" in errors
    status, text = said(file)
    assert (status, str(running.pid) in text) == (0, True)


def test_a_record_of_a_process_that_was_killed_is_taken_over(file: Path, running: "subprocess.Popen[str]") -> None:
    running.kill()
    running.wait()
    second = recorder(file)
    assert said(file)[0] == 0
    second.communicate("")


@pytest.mark.parametrize("made", ["folder", "link", "missing folder"])
def test_a_path_that_cannot_hold_a_record_is_refused(made: str, tmp_path: Path) -> None:
    file = tmp_path / "alive"
    match made:
        case "folder":
            file.mkdir()
        case "link":
            file.symlink_to(tmp_path / "elsewhere")
        case _:
            file = tmp_path / "nowhere" / "alive"
    _, errors = recorder(file).communicate()
    assert "cannot be written" in errors
    assert not (tmp_path / "elsewhere").exists()


def test_it_records_again_and_again_and_others_cannot_read_it(
    file: Path, running: "subprocess.Popen[str]"
) -> None:
    first = json.loads(file.read_bytes())["written_at"]
    assert wait_until(lambda: json.loads(file.read_bytes())["written_at"] > first, 30)
    assert os.stat(file).st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "arguments", [["alive"], ["--json", "alive"], ["status", "--self"], ["status", "--healthy", "--self"]]
)
def test_a_check_of_one_process_imports_neither_the_task_api_nor_a_driver(
    arguments: list[str], file: Path, running: "subprocess.Popen[str]"
) -> None:
    """Guard: supervisors run it every few seconds for each process, and those imports take a second."""
    command = [sys.executable, "-c", IMPORTS, *arguments, str(file)]
    done = subprocess.run(command, env=plain_environment(), text=True, capture_output=True, check=True)
    said_first, _, imported = done.stdout.partition("imported ")
    assert f"worker (process {running.pid}) runs" in said_first
    assert said_first.endswith("status 0\n")
    assert "worker.cli.status" in imported.split()
    assert not {*SLOW} & {*imported.split()}


def test_the_status_of_one_process_is_the_answer_of_alive(file: Path, running: "subprocess.Popen[str]") -> None:
    running.kill()
    running.wait()
    done = again("status", "--self", str(file))
    assert (done.returncode, done.stdout + done.stderr) == said(file)
