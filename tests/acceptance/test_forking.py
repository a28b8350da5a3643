"""What tests start by a fork is what an installed `again` is, but for the time of the imports."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import forking
from tests.acceptance.again import AGAIN, again, plain_environment

SIMULATOR = (sys.executable, "-m", "simulator", "--port", "0")


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        (["--version"], {}),
        (["--help"], {"COLUMNS": "60"}),
        (["nope"], {}),
        (["plan", "list", "--json"], {"AGAIN_RATE": "many"}),
        (["status"], {"AGAIN_ENVIRONMENT": "test"}),
    ],
)
def test_a_forked_command_does_what_the_installed_one_does(
    words: list[str], settings: dict[str, str], tmp_path: Path
) -> None:
    real = subprocess.run(
        [AGAIN, *words], env=plain_environment(settings), capture_output=True, text=True, check=False, timeout=90,
        cwd=tmp_path, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    forked = again(*words, settings=settings, cwd=tmp_path)
    assert (forked.returncode, forked.stdout, forked.stderr) == (real.returncode, real.stdout, real.stderr)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_it_is_ended_by_a_signal_as_any_process(number: signal.Signals) -> None:
    process = forking.start(SIMULATOR, env=os.environ, stdout=subprocess.DEVNULL)
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.send_signal(number)
    assert process.wait(20) == -number
    assert process.poll() == -number


def test_its_session_and_folder_are_its_own(tmp_path: Path) -> None:
    process = forking.start(
        SIMULATOR, env=os.environ, cwd=tmp_path, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        assert os.getsid(process.pid) == process.pid
        assert Path(f"/proc/{process.pid}/cwd").readlink() == tmp_path
    finally:
        process.kill()
        process.wait()
