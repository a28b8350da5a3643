"""Beat: what a look costs with many plans, how late it rings, and what everything costs when nothing is due."""

import argparse
import json
import os
import statistics
import subprocess
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks.place import PYTHON, Place, cpu_of_all, placed
from worker.clock import wait

PLANS = """
    INSERT INTO plans (code, version, price, currency, every, unit, zone, billing_time, trial_days, statement_name,
        catch_up, catch_up_cap, shift, allow_short_months, policy, created_at)
    SELECT 'plan-' || n, 1, price, currency, every, unit, zone,
        (TIME '00:00' + mod(n, 1440) * interval '1 minute')::time, trial_days,
        statement_name, catch_up, catch_up_cap, shift, allow_short_months, policy, created_at
    FROM plans, generate_series(1, %(many)s::int) n WHERE plans.code = 'monthly'
"""
TICKS = 40
MEASURED = 50  # plans whose billing time comes during the measurement


def ticks(plans: int) -> dict[str, Any]:
    """The cost of a tick with nothing due, and the delay of the billing times of some plans."""
    with placed("http://127.0.0.1:1") as place:
        _fill(place, plans)
        command = [PYTHON, "-m", "benchmarks.beating", "--beat"]
        done = subprocess.run(
            command, env=os.environ | place.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        return {"plans": plans, **json.loads(done.stdout.splitlines()[-1])}


def idle(seconds: float = 30.0) -> dict[str, Any]:
    """The CPU of a beat, a worker and their servers while nothing is due, in percent of one core."""
    with placed("http://127.0.0.1:1") as place:
        _fill(place, 100)
        programs = [place.start("worker"), place.start("beat")]
        wait(15)
        pids = [program.pid for program in programs]
        servers = [pid for pid in (place.embedded.postgres.pid, place.embedded.valkey.pid) if pid]
        own, of_servers, began = cpu_of_all(pids), cpu_of_all(servers), time.monotonic()
        wait(seconds)
        lasted = time.monotonic() - began
        return {
            "seconds": lasted,
            "ours_percent": (cpu_of_all(pids) - own) / lasted * 100,
            "servers_percent": (cpu_of_all(servers) - of_servers) / lasted * 100,
        }


def _fill(place: Place, plans: int) -> None:
    from benchmarks import shop

    shop.on_sale(place)
    place.execute(PLANS, many=plans)
    place.execute("UPDATE plan_revision SET revision = revision + 1")


def beat() -> None:
    """Tick with many plans, in a separate process; print the figures."""
    from worker import tasks
    from worker.app import app
    from worker.beat import PlanScheduler
    from worker.wiring import services

    scheduler = PlanScheduler(app=app, max_interval=1)
    scheduler.tick()
    costs = []
    for _ in range(TICKS):
        before = time.process_time()
        pause = scheduler.tick()
        costs.append((time.process_time() - before) * 1e3)
        time.sleep(pause)  # as beat does, so that rare chores are included
    lags: list[float] = []
    now = datetime.now(UTC)
    due = {}
    for place, each in enumerate(scheduler._billing_times[:MEASURED]):
        each.at = now + timedelta(seconds=2 + place / 10)
        due[each.plan_id] = each.at
    scheduler._billing_times.sort()
    publish = tasks.open_due.apply_async

    def record(arguments: tuple[int], **options: Any) -> Any:
        sent = publish(arguments, **options)
        lags.append((datetime.now(UTC) - due[arguments[0]]).total_seconds())
        return sent

    vars(tasks.open_due)["apply_async"] = record  # replaced as in a test double
    until = time.monotonic() + 2 + MEASURED / 10 + 3
    while time.monotonic() < until and len(lags) < MEASURED:
        time.sleep(scheduler.tick())
    if len(lags) < MEASURED:
        raise SystemExit(f"only {len(lags)} of {MEASURED} plans were rung for")
    services().engine.dispose()
    lags.sort()
    print(json.dumps({
        "tick_cpu_ms": statistics.mean(costs), "tick_cpu_ms_most": max(costs), "rung": len(lags),
        "lag_p50_s": lags[len(lags) // 2], "lag_p99_s": lags[int(len(lags) * 0.99)],
    }))  # fmt: skip


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--beat", action="store_true")
    parser.add_argument("--plans", type=int, default=10_000)
    asked = parser.parse_args()
    if asked.beat:
        beat()
        return
    print(json.dumps({"ticks": ticks(asked.plans), "idle": idle()}, indent=2))


if __name__ == "__main__":
    main()
