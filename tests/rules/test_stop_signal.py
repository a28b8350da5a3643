"""A stop signal is safe at any line of the handler of another one, and of a thread that waits for it."""

import subprocess
import sys

import pytest

# A real process: the signal is raised at each line of what is traced, as a second SIGTERM would come.
SCRIPT = """
import signal, sys
from worker.runtime import stop_signal

signal.signal(signal.SIGTERM, lambda *_: stop_signal.begin())
files = ("stop_signal.py", "threading.py")
lines = set()

def trace(frame, event, _):
    if frame.f_code.co_filename.endswith(files):
        place = (frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and place not in lines:
            lines.add(place)
            signal.raise_signal(signal.SIGTERM)
        return trace

sys.settrace(trace)
{call}
sys.settrace(None)
assert stop_signal.is_told() and stop_signal.wait(0)
assert lines
"""


@pytest.mark.parametrize("call", ["signal.raise_signal(signal.SIGTERM)", "stop_signal.wait(5)"])
def test_a_second_signal_at_any_line_blocks_nothing(call: str) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT.replace("{call}", call)], timeout=30, capture_output=True)
    assert done.returncode == 0, done.stderr
