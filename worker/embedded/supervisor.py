"""The supervisor's program: run a server, and stop it when the pipe to the parent closes. Needs only Python."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading

PATIENCE = 20.0  # seconds for a stop in good order, and for each sterner signal after it
PR_SET_PDEATHSIG = 1  # linux/prctl.h
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _main() -> int:
    pipe, uid, gid = (int(argument) for argument in sys.argv[1:4])
    stop_signals = [int(number) for number in sys.argv[4].split(",")]
    # Only the pipe stops the server: a Ctrl-C or a SIGTERM to the group must not come before our parent's word.
    for ignored in IGNORED:
        signal.signal(ignored, signal.SIG_IGN)
    child = subprocess.Popen(
        sys.argv[5:], stdin=subprocess.DEVNULL, stdout=sys.stderr,
        preexec_fn=lambda: _before_exec(stop_signals[0]),
        user=uid if uid >= 0 else None, group=gid if gid >= 0 else None, extra_groups=[] if uid >= 0 else None,
    )  # fmt: skip
    print(child.pid, flush=True)
    threading.Thread(target=_stop_after_parent, args=(pipe, child, stop_signals), daemon=True).start()
    return child.wait()


def _before_exec(stop_signal: int) -> None:
    for ignored in IGNORED:
        signal.signal(ignored, signal.SIG_DFL)
    if sys.platform == "linux":
        # Should the supervisor itself be killed. Runs after the change of user, which would clear it again.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, stop_signal)


def _stop_after_parent(pipe: int, child: "subprocess.Popen[bytes]", stop_signals: list[int]) -> None:
    with contextlib.suppress(OSError):
        os.read(pipe, 1)  # nothing is ever written: this returns when the parent's end is closed
    for number in (*stop_signals, signal.SIGKILL):
        child.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(PATIENCE)
            return


if __name__ == "__main__":
    sys.exit(min(255, abs(_main())))
