"""Start programs of this repository by a fork of a process that has imported them: a start without the imports.

The imports of one command take 0.8 s of processor time, and the tests start some thousand commands. The forked
child runs the same module as `python -m MODULE`, as a process of its own: environment, folder, arguments, standard
streams, session, signals and exit status are those of this start. What Python reads before the first module is the
server's: a start that sets PYTHON…, LANG, LC_… or TZ, or other options of Python than -P, is a usual one. So is
that of a module that may replace something before the imports, and every start elsewhere than on Linux.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[1]
IMPORTED = (
    "worker.cli.every_command", "worker.cli.local.stack", "worker.tasks", "worker.beat", "worker.broker.consumer",
    "worker.listener", "simulator.api", "simulator.keeping", "uvicorn", "uvicorn.protocols.http.h11_impl",
    "celery.apps.worker", "celery.apps.beat", "celery.concurrency.thread", "celery.backends.redis",
    "celery.worker.consumer", "kombu.transport.redis", "psycopg", "sqlalchemy.dialects.postgresql.psycopg",
    "rich.table", "rich.console",
)  # fmt: skip
PROGRAMS = ("worker.cli", "simulator", "tests.crashes.process")  # those that replace nothing before the imports
READ_ONCE = ("PYTHON", "LANG", "LC_", "TZ")  # prefixes of the variables that Python reads before the first module
PID, STATUS = b"P", b"S"  # what a message on the pipe of a process tells
MESSAGE = 5  # bytes


def run(
    arguments: Sequence[str], environment: Mapping[str, str], cwd: Path | None, typed: str, timeout: float
) -> "subprocess.CompletedProcess[str]":
    """Run `python -P -m MODULE …` to its end, with a text on standard input, as `subprocess.run` does."""
    command = [sys.executable, "-P", "-m", *arguments]
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        stdin.write(typed.encode())
        stdin.seek(0)
        process = start(command, env=environment, cwd=cwd, stdin=stdin.fileno(), stdout=stdout, stderr=stderr)
        try:
            status = process.wait(timeout)
        except BaseException:
            process.kill()
            process.wait()
            raise
        texts = [_text(stdout), _text(stderr)]
    return subprocess.CompletedProcess(command, status, *texts)


def start(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: IO[bytes] | int | None = None,
    stderr: IO[bytes] | int | None = None,
    start_new_session: bool = False,
) -> "subprocess.Popen[bytes]":
    """Start a program as `subprocess.Popen` does, by a fork where that is the same."""
    words = [str(word) for word in command]
    if not _can_fork(words, env):
        return subprocess.Popen(
            words, env=env, cwd=cwd, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=start_new_session
        )
    with open(os.devnull, "r+b") as nothing:
        streams = [
            nothing if each == subprocess.DEVNULL else standard if each is None else each
            for standard, each in enumerate((stdin, stdout, stderr))
        ]
        asked = {
            "command": words, "env": dict(env), "cwd": str(cwd or Path.cwd()), "new_session": start_new_session
        }  # fmt: skip
        descriptors = [each if isinstance(each, int) else each.fileno() for each in streams]
        return Forked(words, *_server().fork(asked, descriptors))


def _can_fork(words: Sequence[str], env: Mapping[str, str]) -> bool:
    if sys.platform != "linux" or words[0] != sys.executable or "-m" not in words:
        return False
    options, module = set(words[1 : words.index("-m")]), words[words.index("-m") + 1]
    changed = [name for name in {*env, *os.environ} if env.get(name) != os.environ.get(name)]
    paths = {str(ROOT), os.environ.get("PYTHONPATH"), None}
    return (
        module in PROGRAMS
        and options <= {"-P"}
        and env.get("PYTHONPATH") in paths
        and not [name for name in changed if name.startswith(READ_ONCE) and name != "PYTHONPATH"]
    )


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode().replace("\r\n", "\n")


class Forked(subprocess.Popen[bytes]):
    """A process that the server forked, and reaps: its status comes through a pipe."""

    def __init__(self, command: Sequence[str], pid: int, status: int) -> None:
        self.args, self.pid, self._status = command, pid, status
        self.stdin = self.stdout = self.stderr = None
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status, as Popen's; None while it runs."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return the exit status."""
        status = self._ended(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return status

    def send_signal(self, sig: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, sig)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            self.returncode = _told(self._status, STATUS)
        return self.returncode

    def __del__(self, *_: object) -> None:
        """Close the pipe."""
        os.close(self._status)


class _Server:
    """The process that forks, for this process; it ends with it."""

    def __init__(self) -> None:
        self._door, its_door = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its_door:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(its_door.fileno())], pass_fds=[its_door.fileno()],
                env=dict(os.environ) | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )  # fmt: skip

        atexit.register(self._stop)

    def _stop(self) -> None:
        self._door.close()  # which ends it
        self._process.wait()

    def fork(self, asked: Mapping[str, Any], streams: Sequence[int]) -> tuple[int, int]:
        """Let it fork a process; its id, and the pipe from which its status is read."""
        status, told = os.pipe()
        with tempfile.TemporaryFile() as request, os.fdopen(told, "wb"):
            request.write(json.dumps(asked).encode())
            request.flush()
            socket.send_fds(self._door, [b"!"], [*streams, request.fileno(), told])
        return _told(status, PID), status


@cache
def _server() -> _Server:
    return _Server()


def _serve(door: socket.socket) -> list[str]:
    """Fork for each request; returns only in a child, with the command that it has to become."""
    running: dict[int, tuple[int, int]] = {}  # the process and the pipe for its status, by pidfd
    while True:
        waiting = select.poll()
        for descriptor in (door.fileno(), *running):
            waiting.register(descriptor, select.POLLIN)
        for descriptor, _ in waiting.poll():
            if descriptor in running:
                pid, status = running.pop(descriptor)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                _tell(status, STATUS, code)
                os.close(status)
                os.close(descriptor)
                continue
            word, descriptors, _, _ = socket.recv_fds(door, 1, 5)
            if not word:
                os._exit(0)  # the caller has ended
            pid = os.fork()
            if pid == 0:
                door.detach()
                return _become(descriptors)
            running[os.pidfd_open(pid)] = pid, descriptors[-1]
            for each in descriptors[:-1]:
                os.close(each)


def _tell(pipe: int, what: bytes, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # the caller no longer reads
        os.write(pipe, what + number.to_bytes(MESSAGE - 1, signed=True))


def _told(pipe: int, what: bytes) -> int:
    message = os.read(pipe, MESSAGE)
    assert message.startswith(what), "the process or the server of forks did not start, or has ended"
    return int.from_bytes(message[1:], signed=True)


def _become(descriptors: Sequence[int]) -> list[str]:
    """In the child: take the streams, the environment and the folder of this start."""
    os.lseek(descriptors[3], 0, os.SEEK_SET)
    with os.fdopen(descriptors[3], "rb") as request:
        asked = json.load(request)
    if asked["new_session"]:
        os.setsid()
    os.chdir(asked["cwd"])
    _tell(descriptors[-1], PID, os.getpid())
    for standard, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, standard)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(asked["env"])
    time.tzset()
    command: list[str] = asked["command"]
    return command


def _main() -> None:
    with socket.socket(fileno=int(sys.argv[1])) as door:
        os.set_inheritable(door.fileno(), False)
        for module in IMPORTED:
            importlib.import_module(module)
        gc.collect()
        gc.freeze()  # a child copies no page for the collector's marks
        command = _serve(door)
    start = command.index("-m") + 1
    sys.orig_argv[:] = command
    sys.argv[:] = ["-m", *command[start + 1 :]]
    sys.path[0:0] = [] if "-P" in command[1:start] else [str(Path.cwd())]
    runpy.run_module(command[start], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
