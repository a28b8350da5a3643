"""The rate cap, the order of calls, the delay of requests by people, and the memory of the broker."""

import argparse
import json
import time
from itertools import pairwise
from typing import Any

import psycopg
import redis
from celery import Celery

from benchmarks import shop
from benchmarks.charging import ready
from benchmarks.place import LightGateway, Place, Seen, placed
from schedules.charging.charges import ChargeKind
from schedules.charging.identity import charge_key, merchant_uid, subject_of_request
from worker.clock import wait, wait_until

CAPS = {"main": 120.0, "second": 40.0}
SECONDS = 25  # seconds of work for each account
PEOPLE = 60  # requests for a charge while the backlog waits
FLUSH_REPAIRED = 150.0  # seconds until all messages lost in a flush are sent again


def caps() -> dict[str, Any]:
    """Two accounts with a cap and work each: the most calls per second, the used share of the cap, the order."""
    with (
        LightGateway() as gateway,
        placed(gateway.url, AGAIN_RATE=str(CAPS["main"]), AGAIN_CONCURRENCY="64") as place,
    ):
        file = place.logs / "accounts.toml"
        file.write_text(f"[accounts.second]\nportone_url = {gateway.url!r}\nkey = 'k'\nsecret = 's'\n"
                        f"rate = {CAPS['second']}\n")  # fmt: skip
        file.chmod(0o600)
        place.environment["AGAIN_ACCOUNTS_FILE"] = str(file)
        shop.on_sale(place)
        first = 1
        whose: dict[str, str] = {}
        for account, rate in CAPS.items():
            many = int(rate * SECONDS)
            shop.charges_due(place, many, account, first)
            whose |= {f"customer-{number}": account for number in range(first, first + many)}
            first += many
        for number in range(2):
            place.start("worker", "--name", f"w{number}@here")
        ready(place)
        place.start("beat")
        place.wait_for("SELECT count(*) FROM charges WHERE status <> 'paid'", 0, 4 * SECONDS + 60)
        seen = gateway.seen()
    figures = {}
    for account, rate in CAPS.items():
        mine = Seen([each for each in seen.arrivals if whose[each[1]] == account], 0)
        numbers = [int(each[1].partition("-")[2]) for each in mine.arrivals]
        figures[account] = {
            "cap": rate, "calls": len(numbers), "most_in_a_second": mine.most_in_a_second(),
            "used": _steady(mine) / rate, "furthest_out_of_turn": _out_of_turn(numbers),
            "by_moment": _by_moment(mine),
        }  # fmt: skip
    return figures


def _steady(seen: Seen) -> float:
    """Calls per second while there was work: without the first two seconds and the last one."""
    begin, end = seen.arrivals[0][0] + 2, seen.arrivals[-1][0] - 1
    return sum(begin <= at < end for at, _, _ in seen.arrivals) / (end - begin)


def _by_moment(seen: Seen) -> list[tuple[float, int]]:
    """Calls in the second before each quarter of a second, from the first call on."""
    times = [at - seen.arrivals[0][0] for at, _, _ in seen.arrivals]
    moments = [quarter / 4 for quarter in range(4, int(times[-1] * 4))]
    return [(moment, sum(moment - 1 < at <= moment for at in times)) for moment in moments]


def _out_of_turn(numbers: list[int]) -> int:
    """The largest number of places by which a call was out of order."""
    return max(abs(place - turn) for place, turn in zip(sorted(numbers), numbers, strict=True))


def backlog(waiting: int, cap: float) -> dict[str, Any]:
    """Requests by people during a backlog, the memory of the broker, and the repair of a flush."""
    with LightGateway() as gateway, placed(gateway.url, AGAIN_RATE=str(cap)) as place:
        shop.on_sale(place)
        shop.charges_due(place, waiting)
        for number in range(2):
            place.start("worker", "--name", f"w{number}@here")
        ready(place)
        place.start("beat")
        wait(10)
        asked_at = _ask(place)
        broker = redis.Redis.from_url(place.environment["AGAIN_BROKER_URL"])
        wait(5)
        seen = gateway.seen()
        arrived = {uid: at for at, _, uid in seen.arrivals}
        lags = sorted(arrived[uid] - at for uid, at in asked_at.items() if uid in arrived)
        info: Any = broker.info("memory")
        return {
            "waiting": waiting, "cap": cap, "asked": len(asked_at), "arrived": len(lags),
            "adhoc_p50_s": lags[len(lags) // 2], "adhoc_p99_s": lags[-1 - len(lags) // 100],
            "broker_mb": info["used_memory"] / 2**20, "broker_peak_mb": info["used_memory_peak"] / 2**20,
            **_flushed(place, gateway, broker), "doubles": gateway.seen().doubles,
        }  # fmt: skip


def _flushed(place: Place, gateway: LightGateway, broker: "redis.Redis") -> dict[str, Any]:
    """Flush the broker; measure the longest pause between calls, and when the last lost charge was sent."""
    with psycopg.connect(place.url) as db:
        queued = db.execute("SELECT key FROM charges WHERE queued_until > now() AND status = 'open'").fetchall()
    broker.flushall()
    flushed = time.monotonic()
    lost = {merchant_uid("benc", key, 1) for (key,) in queued}
    wait_until(lambda: not lost - {uid for _, _, uid in gateway.seen().arrivals}, FLUSH_REPAIRED, every=5)
    ended = time.monotonic()
    seen = gateway.seen().arrivals
    after = [at for at, _, _ in seen if at > flushed]
    left = [at for at, _, uid in seen if uid in lost]
    gaps = [b - a for a, b in pairwise([flushed, *after, ended])]
    return {
        "flushed_queued": len(lost), "flushed_mended": len(left), "flush_longest_pause_s": max(gaps),
        "flush_mended_s": max(0.0, max(left, default=flushed) - flushed),
    }  # fmt: skip


def _ask(place: Place) -> dict[str, float]:
    """Request a charge for one person after the other through the task API; the times by merchant_uid."""
    asked_at = {}
    with Celery(broker=place.environment["AGAIN_BROKER_URL"]) as client:
        for number in range(PEOPLE):
            key = f"person-{number}"
            uid = merchant_uid("benc", charge_key(ChargeKind.ADHOC, subject_of_request(key), 0), 1)
            asked_at[uid] = time.monotonic()
            client.send_task("again.charge_adhoc", queue="requests", ignore_result=True, kwargs={
                "customer_uid": f"customer-{10 + number}", "amount": 500, "currency": "KRW", "name": "Extra",
                "request_key": key, "reason": "benchmark", "actor": "benchmark",
            })  # fmt: skip
            wait(0.1)
    return asked_at


def punctuality(many: int, cap: float) -> dict[str, Any]:
    """Periods that are due at the same minute: the delay of each of their calls."""
    with LightGateway() as gateway, placed(gateway.url, AGAIN_RATE=str(cap)) as place:
        shop.on_sale(place)
        for number in range(2):
            place.start("worker", "--name", f"w{number}@here")
        shop.subscribed(place, many, 0)
        ready(place)
        place.start("beat")
        wait(5)
        place.execute("UPDATE subscriptions SET next_due_at = now() + interval '2 seconds', "
                   "open_at = now() + interval '2 seconds'")  # fmt: skip
        due = place.ask("SELECT extract(epoch FROM max(open_at) - clock_timestamp())::float8 FROM subscriptions")
        due_at = time.monotonic() + due
        place.wait_for("SELECT count(*) FROM charges WHERE status = 'paid'", many, 60 + 3 * many / cap)
        lags = sorted(at - due_at for at, _, _ in gateway.seen().arrivals)
    ideal = [place / cap for place in range(many)]
    late = sorted(lag - at for lag, at in zip(lags, ideal, strict=True))
    return {
        "due": many, "cap": cap, "first_s": lags[0], "last_s": lags[-1], "ideal_last_s": ideal[-1],
        "behind_the_cap_p99_s": late[int(len(late) * 0.99)],
    }  # fmt: skip


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waiting", type=int, default=100_000)
    parser.add_argument("--cap", type=float, default=100)
    arguments = parser.parse_args()
    print(json.dumps(caps(), indent=2), flush=True)
    print(json.dumps(backlog(arguments.waiting, arguments.cap), indent=2), flush=True)
    print(json.dumps(punctuality(1000, arguments.cap), indent=2), flush=True)


if __name__ == "__main__":
    main()
