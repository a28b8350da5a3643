"""The HTTP client of the worker alone: CPU time per call, and calls that miss a send slot of a given width.

`python -m benchmarks.http_client --calls 3000 --at-once 64 --width 0.08`. Without a width, calls are sent at once.
"""

import argparse
import json
import threading
import time
from collections import Counter
from functools import partial

from benchmarks.place import LightGateway
from worker.clock import elapsed
from worker.gateway.port import AT_ONCE, Missed, Slot
from worker.gateway.timeouts import Timeouts
from worker.gateway.transport import Call, Came, HttpClient

AHEAD = 0.01  # seconds before a slot opens


def main() -> None:
    """Make the calls, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=3000)
    parser.add_argument("--at-once", type=int, default=64)
    parser.add_argument("--width", type=float, help="seconds of a slot")
    arguments = parser.parse_args()
    answers: Counter[str] = Counter()
    room, done = threading.Semaphore(arguments.at_once), threading.Semaphore(0)
    headers = {"Authorization": "Bearer " + "t" * 40, "Content-Type": "application/json"}
    client = HttpClient(Timeouts())

    def begin(call: Call) -> None:
        opens = elapsed() + AHEAD
        slot = AT_ONCE if arguments.width is None else Slot(opens, opens + arguments.width)
        client.begin(call, elapsed() + Timeouts().deadline, slot, partial(then, call))

    def then(call: Call, answer: Came) -> None:
        answers[type(answer).__name__] += 1
        if isinstance(answer, Missed):
            begin(call)
        else:
            room.release()
            done.release()

    with LightGateway() as gateway:
        began, cpu = time.monotonic(), time.process_time()
        for number in range(arguments.calls):
            room.acquire()
            order = {"customer_uid": f"c{number}", "merchant_uid": f"uid{number}", "amount": 9900, "name": "x"}
            url = f"{gateway.url}/subscribe/payments/again"
            begin(Call("POST", url, headers, json.dumps(order).encode()))
        for _ in range(arguments.calls):
            done.acquire()
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    client.close()
    rate, each = arguments.calls / seconds, cpu / arguments.calls * 1e3
    print(f"{rate:.0f} calls a second, {each:.3f} ms of processor time each, {dict(answers)}")


if __name__ == "__main__":
    main()
