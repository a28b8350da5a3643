"""The HTTP client of the worker alone: processor time of a call, and calls that miss a slot of some width.

`python -m benchmarks.http_client --calls 3000 --at-once 64 --width 0.08`. Without a width a call is sent at once.
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
from worker.gateway.settings import Timeouts
from worker.gateway.transport import Call, Came, HttpClient

AHEAD = 0.01  # seconds from now to the beginning of a slot


def main() -> None:
    """Call, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=3000)
    parser.add_argument("--at-once", type=int, default=64)
    parser.add_argument("--width", type=float, help="seconds of a slot")
    asked = parser.parse_args()
    came: Counter[str] = Counter()
    room, done = threading.Semaphore(asked.at_once), threading.Semaphore(0)
    headers = {"Authorization": "Bearer " + "t" * 40, "Content-Type": "application/json"}
    client = HttpClient(Timeouts())

    def begin(call: Call) -> None:
        opens = elapsed() + AHEAD
        slot = AT_ONCE if asked.width is None else Slot(opens, opens + asked.width)
        client.begin(call, elapsed() + Timeouts().deadline, slot, partial(then, call))

    def then(call: Call, answer: Came) -> None:
        came[type(answer).__name__] += 1
        if isinstance(answer, Missed):
            begin(call)
        else:
            room.release()
            done.release()

    with LightGateway() as gateway:
        began, cpu = time.monotonic(), time.process_time()
        for number in range(asked.calls):
            room.acquire()
            order = {"customer_uid": f"c{number}", "merchant_uid": f"uid{number}", "amount": 9900, "name": "x"}
            url = f"{gateway.url}/subscribe/payments/again"
            begin(Call("POST", url, headers, json.dumps(order).encode()))
        for _ in range(asked.calls):
            done.acquire()
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    client.close()
    rate, each = asked.calls / seconds, cpu / asked.calls * 1e3
    print(f"{rate:.0f} calls a second, {each:.3f} ms of processor time each, {dict(came)}")


if __name__ == "__main__":
    main()
