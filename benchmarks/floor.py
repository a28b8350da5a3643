"""The lower bound: the calls alone, by plain httpx with a client for each slot, without database and broker.

`python -m benchmarks.floor --gateway http://127.0.0.1:PORT --calls 10000 --slots 64` runs one process. It waits
for a line on standard input, so that two processes start together, and prints its duration.
"""

import argparse
import json
import sys
import threading
import time

import httpx

from schedules.charging.charges import ChargeKind
from schedules.charging.identity import charge_key, merchant_uid, subject_of_entropy


def main() -> None:
    """Make the calls, and print the duration."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gateway", required=True)
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    todo = iter(range(asked.calls))
    lock = threading.Lock()
    context = httpx.create_ssl_context(trust_env=False)
    headers = {"Authorization": "Bearer " + "t" * 40, "Content-Type": "application/json"}
    url = asked.gateway + "/subscribe/payments/again"

    def slot() -> None:
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1)
        with httpx.Client(trust_env=False, limits=limits, verify=context, timeout=60) as client:
            while True:
                with lock:
                    number = next(todo, None)
                if number is None:
                    return
                subject = subject_of_entropy((asked.seed * 10**9 + number).to_bytes(13, "big"))
                uid = merchant_uid("test", charge_key(ChargeKind.RENEWAL, subject, 0), 1)
                order = {"customer_uid": f"customer-{number}", "merchant_uid": uid, "amount": 9900, "name": "x"}
                answer = client.post(url, content=json.dumps(order).encode(), headers=headers).json()
                if answer["response"]["status"] != "paid":
                    raise SystemExit(f"{uid} was not paid: {answer}")

    slots = [threading.Thread(target=slot) for _ in range(asked.slots)]
    print("ready", flush=True)
    sys.stdin.readline()
    began, cpu = time.monotonic(), time.process_time()
    for thread in slots:
        thread.start()
    for thread in slots:
        thread.join()
    seconds = time.monotonic() - began
    print(json.dumps({"calls": asked.calls, "seconds": seconds, "cpu": time.process_time() - cpu}), flush=True)


if __name__ == "__main__":
    main()
