"""Opening with a million subscriptions, of which few or all are due, by one or two openers."""

import json
import os
import subprocess
import time
from typing import Any

import psycopg

from benchmarks import shop
from benchmarks.place import PYTHON, Place, connected, memory_of, placed
from worker.renewals import open_charges

# The minimum work for PostgreSQL: write the debts and move the cursors, in two statements.
BARE = (
    """
    INSERT INTO charges (key, kind, subscription_id, period_no, billing_key_id, account, amount, currency, name,
        policy_id, status, due_at, next_attempt_at, created_at)
    SELECT 'r' || key || '0000{period}', 'renewal', id, {period}, billing_key_id, 'main', 9900, 'KRW', 'Monthly',
        1, 'open', next_due_at, next_due_at, now() FROM subscriptions WHERE id <= {many}
    """,
    """
    UPDATE subscriptions SET next_period_no = next_period_no + 1, open_at = open_at + interval '1 month'
    WHERE id <= {many}
    """,
)


def run(subscriptions: int, due: int) -> dict[str, Any]:
    """Measure a few due subscriptions among all, and then all of them with two openers."""
    with placed("http://127.0.0.1:1") as place:
        shop.on_sale(place)
        shop.subscribed(place, subscriptions, due)
        before = time.monotonic()
        opened = open_charges.open_due(place.services)
        few = time.monotonic() - before
        if opened != due:
            raise SystemExit(f"{due} were due, and {opened} were opened")
        bare = _bare(place, due)
        place.execute("UPDATE subscriptions SET next_period_no = 2, next_period_date = CURRENT_DATE, "
                   "next_due_at = now() - interval '1 hour', open_at = now() - interval '1 hour'")  # fmt: skip
        all_seconds, memory = _by_two(place, subscriptions)
        return {
            "subscriptions": subscriptions,
            "few": {"due": due, "seconds": few, "per_second": due / few, "bare_ratio": few / bare},
            "all": {
                "due": subscriptions, "seconds": all_seconds, "per_second": subscriptions / all_seconds,
                "bare_ratio": all_seconds / (bare * subscriptions / due), "openers": 2, "memory_mb": memory,
            },
        }  # fmt: skip


def _bare(place: Place, many: int) -> float:
    with psycopg.connect(place.url) as db:
        before = time.monotonic()
        for statement in BARE:
            db.execute(statement.format(period=1, many=many))
        db.commit()
        return time.monotonic() - before


def _by_two(place: Place, due: int) -> tuple[float, list[list[float]]]:
    environment = os.environ | place.environment
    command = [PYTHON, "-m", "benchmarks.opening"]
    before = time.monotonic()
    openers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    figures = [json.loads(opener.communicate()[0].splitlines()[-1]) for opener in openers]
    seconds = time.monotonic() - before
    opened = sum(each["opened"] for each in figures)
    distinct = place.ask("SELECT count(DISTINCT subscription_id) FROM charges WHERE period_no = 2")
    if not opened == distinct == due:
        raise SystemExit(f"{due} were due, {opened} were opened, of {distinct} subscriptions")
    return seconds, [each["memory"] for each in figures]  # after the first batch, and the maximum


def open_all() -> None:
    """Run one opener, in a separate process."""
    services = connected(os.environ)
    opened = open_charges.open_due(services, going_on=iter([True, False]).__next__)
    first = memory_of(os.getpid())
    while more := open_charges.open_due(services):
        opened += more
    print(json.dumps({"opened": opened, "memory": [first, memory_of(os.getpid())]}))


if __name__ == "__main__":
    open_all()
