"""`again`, which dies or freezes at a named point, once, if an order for that lies in a folder.

`python -m tests.crashes.process worker …` is `again worker …`. CRASH_FOLDER names the folder. An order is a file
with a point's name that holds `kill` or `stop`, and then, if it is not for everybody, what the subject at that
point must contain. Whoever obeys adds its pid to the file's name before, so that an order is obeyed once.
"""

import os
import signal
import threading
from pathlib import Path

from worker import failpoints
from worker.cli import main
from worker.failpoints import Failpoint

FOLDER = "CRASH_FOLDER"
KILL, STOP = "kill", "stop"
SIGNALS = {KILL: signal.SIGKILL, STOP: signal.SIGSTOP}


def write_order(folder: Path, point: Failpoint, how: str, whose: str = "") -> None:
    """Have the next process that reaches the point killed or stopped there."""
    unfinished = folder / f"{point}.unfinished"
    unfinished.write_text(f"{how} {whose}".strip())
    unfinished.rename(folder / point)


def obeyed_by(folder: Path, point: Failpoint) -> int | None:
    """The pid of the process that has obeyed the order for a point; None while nobody has."""
    pids = [path.suffix[1:] for path in folder.glob(f"{point}.*")]
    return next((int(pid) for pid in pids if pid.isdigit()), None)


def obey(folder: Path, point: Failpoint, subject: str) -> None:
    """Die or freeze if that is ordered for this point; nothing is ordered where nothing is worked on."""
    order = folder / point
    if not subject or not order.exists():
        return
    try:
        how, _, whose = order.read_text().partition(" ")
        if whose not in subject:
            return
        order.rename(folder / f"{point}.{os.getpid()}")
    except FileNotFoundError:
        return  # another one was faster
    # This thread itself is signalled: one that is sent to the process may reach another thread first.
    signal.pthread_kill(threading.get_ident(), SIGNALS[how])


if __name__ == "__main__":
    orders = Path(os.environ[FOLDER])
    failpoints.on_hit(lambda point, subject: obey(orders, point, subject))
    main()
