"""Waiting for a process that was started."""

import subprocess
from collections.abc import Callable

from worker.clock import wait


def wait_until_up(
    process: "subprocess.Popen[bytes]", is_up: Callable[[], bool], log: Callable[[], str | bytes]
) -> None:
    """Wait until a process is up; fails with its log when it ends instead.

    How long a start takes depends on the machine alone, and no test is about it: pytest's time-out ends a hang.
    """
    while not is_up():
        assert process.poll() is None, f"ended with status {process.returncode}: {log()!r}"
        wait(0.05)
