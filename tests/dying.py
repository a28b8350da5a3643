"""`again`, one of whose background threads fails, or cannot be started, as where memory is short.

`python -m tests.dying worker …` is `again worker …`. DYING_PART names the thread. With DYING_HOW `unstartable`
the operating system refuses to start it. With `fails` it fails, when it runs on, once the file DYING_FILE exists;
with `fails once` it does so a single time.
"""

import ctypes
import os
import threading
from pathlib import Path

from worker.clock import wait, wait_until

PART, HOW, ORDER = "DYING_PART", "DYING_HOW", "DYING_FILE"
FAILS, FAILS_ONCE, UNSTARTABLE = "fails", "fails once", "unstartable"
MAIN = "MainThread"


class RefusedThread(threading.Thread):
    """A thread, unless it is the one that the operating system refuses."""

    def start(self) -> None:
        """Start it; RuntimeError as Python raises it."""
        if self.name == os.environ[PART]:
            raise RuntimeError("can't start new thread")
        super().start()


def fail_on_order(part: str, order: Path) -> None:
    """Raise MemoryError in every thread of this name when it is ordered, each time that it runs on."""
    assert wait_until(order.exists, 600)
    order.rename(order.with_suffix(".obeyed"))
    while failing := [thread for thread in threading.enumerate() if thread.name == part]:
        for thread in failing:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident or 0), ctypes.py_object(MemoryError)
            )
        if os.environ[HOW] == FAILS_ONCE:
            return
        wait(0.5)


if __name__ == "__main__":
    if os.environ[HOW] == UNSTARTABLE:
        threading.Thread = RefusedThread  # type: ignore[misc]  # what the operating system would do
    else:
        arguments = (os.environ[PART], Path(os.environ[ORDER]))
        threading.Thread(target=fail_on_order, args=arguments, daemon=True).start()
    from worker.cli import main

    main()
