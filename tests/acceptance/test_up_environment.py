"""The environment of a running `again up`: commands in its folder use it, and a planted file is refused."""

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance.again import AGAIN as PROGRAM
from tests.acceptance.again import again, plain_environment, refused
from worker.cli.local.stack import AGAIN
from worker.runtime import up_environment
from worker.runtime.up_environment import Found, Written

VALUES = {"AGAIN_ENVIRONMENT": "demo", "AGAIN_PORTONE_SECRET": 'it\'s $HOME "quoted" and `more`'}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as `again up` makes it."""
    (tmp_path / ".again").mkdir()
    return tmp_path / ".again"


@pytest.fixture
def written(folder: Path) -> Iterator[Written]:
    """What a running `again up` has written."""
    written = Written(folder, VALUES)
    yield written
    written.remove()


def why_not(folder: Path, environment: dict[str, str] | None = None) -> str:
    """The reason why the file is not used."""
    found = up_environment.read(environment or {}, folder)
    assert found.values == {}
    assert found.why_not is not None
    return found.why_not


def test_the_file_of_a_running_one_is_used_as_it_was_written(folder: Path, written: Written) -> None:
    assert up_environment.read({"AGAIN_LOG_LEVEL": "DEBUG"}, folder) == Found(VALUES)
    assert (folder / "env").stat().st_mode & 0o777 == 0o600


def test_no_file_is_no_reason(folder: Path) -> None:
    assert up_environment.read({}, folder) == Found()


def test_a_file_that_no_running_one_holds_is_not_used(folder: Path) -> None:
    """Guard: a file that was planted, or left behind by a kill, is not believed."""
    written = Written(folder, VALUES)
    text = (folder / "env").read_text()
    written.remove()
    (folder / "env").write_text(text)
    (folder / "env").chmod(0o600)
    assert "no `again up` runs with the data in" in why_not(folder)


@pytest.mark.parametrize("name", up_environment.NAMING)
def test_an_environment_that_names_an_installation_never_opens_the_file(
    folder: Path, written: Written, name: str
) -> None:
    """Guard: production credentials are never completed from a file in the working directory."""
    assert f"because {name} is set" in why_not(folder, {name.lower(): "x"})


def chmod_file(folder: Path) -> None:
    """Let a group read the file."""
    (folder / "env").chmod(0o640)


def chmod_folder(folder: Path) -> None:
    """Let others write to the folder."""
    folder.chmod(0o757)


def link_file(folder: Path) -> None:
    """Put a link in the file's place."""
    (folder / "env").rename(folder / "elsewhere")
    (folder / "env").symlink_to(folder / "elsewhere")


def link_folder(folder: Path) -> None:
    """Put a link in the folder's place."""
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to(folder.with_name("elsewhere"))


def pipe(folder: Path) -> None:
    """Put a pipe in the file's place."""
    (folder / "env").unlink()
    os.mkfifo(folder / "env", 0o600)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (chmod_file, "its mode is 0640, not 0600"),
        (chmod_folder, "others may write to"),
        (link_file, "it cannot be opened as a file"),
        (link_folder, "cannot be opened as a folder"),
        (pipe, "it is no regular file"),
    ],
)
def test_a_file_that_others_may_have_written_is_not_used(
    folder: Path, written: Written, spoil: Callable[[Path], None], reason: str
) -> None:
    """Guard: only a private regular file, in a folder that others cannot write to, is believed."""
    spoil(folder)
    assert reason in why_not(folder)


def test_the_file_of_another_user_is_not_used(folder: Path, written: Written) -> None:
    """Guard: whoever owns the working directory does not choose where credentials go."""
    found = up_environment.read({}, folder, uid=os.geteuid() + 1)
    assert found.values == {}
    assert f"belongs to user {os.geteuid()}, and you are user {os.geteuid() + 1}" in str(found.why_not)


def test_a_folder_that_a_group_may_write_to_is_closed_by_who_writes_the_file(folder: Path) -> None:
    folder.chmod(0o775)
    written = Written(folder, VALUES)
    assert up_environment.read({}, folder).values == VALUES
    written.remove()


def test_a_command_sends_nothing_to_where_a_planted_file_points(folder: Path) -> None:
    """Guard: the account's key and secret do not go to a host that a planted file names."""
    with closing(socket.create_server(("127.0.0.1", 0))) as there:
        there.settimeout(0.2)
        host = f"127.0.0.1:{there.getsockname()[1]}"
        (folder / "env").write_text(
            f"AGAIN_ENVIRONMENT=demo\nAGAIN_PORTONE_URL=http://{host}\nAGAIN_PORTONE_KEY=k\nAGAIN_PORTONE_SECRET=s\n"
            f"AGAIN_DATABASE_URL=postgresql://a@{host}/b\nAGAIN_BROKER_URL=redis://{host}/0\n"
        )
        (folder / "env").chmod(0o644)
        done = again("status", cwd=folder.parent)
        assert done.returncode == 1
        assert "AGAIN_DATABASE_URL: is not set" in done.stderr
        assert ".again/env is not used: others may use it: its mode is 0644, not 0600" in done.stderr
        with pytest.raises(TimeoutError):
            there.accept()


def test_a_planted_gateway_is_not_used_beside_production_credentials(folder: Path, database: str) -> None:
    (folder / "env").write_text("AGAIN_PORTONE_URL=http://203.0.113.9\n")
    (folder / "env").chmod(0o600)
    production = {
        "AGAIN_ENVIRONMENT": "prod", "AGAIN_DATABASE_URL": database, "AGAIN_BROKER_URL": "redis://127.0.0.1:1/0",
        "AGAIN_PORTONE_KEY": "k", "AGAIN_PORTONE_SECRET": "s",
    }  # fmt: skip
    done = again("accounts", settings=production, cwd=folder.parent)
    assert "203.0.113.9" not in done.stdout + done.stderr
    assert "api.iamport.kr" in done.stdout


def test_the_refusal_names_what_is_set(folder: Path, written: Written) -> None:
    words = refused("status", settings={"AGAIN_PORTONE_KEY": "k"})
    assert "AGAIN_DATABASE_URL: is not set" in words
    done = again("status", settings={"AGAIN_PORTONE_KEY": "k"}, cwd=folder.parent)
    assert ".again/env is not used, because AGAIN_PORTONE_KEY is set: set the others too" in done.stderr


def test_a_module_in_the_working_directory_is_not_run(tmp_path: Path) -> None:
    """Guard: `again up` and `again simulator` start their own code, whatever lies in the folder."""
    for name in ("worker", "simulator", "typer"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('planted')")
    for command in ([*AGAIN, "--help"], [str(PROGRAM), "simulator", "--help"]):
        done = subprocess.run(
            command, cwd=tmp_path, env=plain_environment(), capture_output=True, text=True, check=False
        )
        assert "planted" not in done.stdout + done.stderr
        assert done.returncode == 0, done.stderr
