"""A month's forecast of a million subscriptions, beside a bare read of the same rows.

`make bench-forecast`, or `make bench-forecast SUBSCRIPTIONS=100000`. The shop has six plans, anchors over three
years, billing times in two zones, and two debts for each hundred subscriptions.
"""

import argparse
import json
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import psycopg

from schedules.calendar.cadence import Cron, Every, Unit
from schedules.calendar.shifts import Shift
from schedules.dunning.policies import DunningPolicy
from schedules.money.amounts import Money
from schedules.subscriptions.cursor import first_cursor
from schedules.subscriptions.plans import Plan
from tests.doubles import ScriptedGateway
from worker.cli.reporting.forecast import forecast_facts
from worker.clock import FixedClock, elapsed
from worker.config import Settings
from worker.customers import enrollment
from worker.embedded import EmbeddedServices
from worker.operations import operate
from worker.reporting import billing_forecast
from worker.reporting.billing_forecast import Asked
from worker.services import Services
from worker.store.engine import make_engine
from worker.store.operations import revisions
from worker.wiring import fingerprint_in

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ASKED = Asked(date(2026, 3, 1), date(2026, 3, 31), "Asia/Seoul")
ANCHORS = [date(2023, 3, 1) + timedelta(days=n) for n in range(1096)]
MONTHLY = Plan("monthly", 1, Money(9900, "KRW"), Every(1, Unit.MONTH), "Monthly")
PLANS = {  # percent of the subscriptions by plan
    MONTHLY: 60,
    replace(MONTHLY, code="shifted", shift=Shift.NEXT, holidays="KR"): 15,
    replace(MONTHLY, code="weekly", cadence=Every(1, Unit.WEEK), price=Money(2900, "KRW")): 10,
    replace(MONTHLY, code="yearly", cadence=Every(1, Unit.YEAR), price=Money(99_000, "KRW")): 8,
    replace(MONTHLY, code="cron", cadence=Cron("0 7 1,15 * *"), billing_time=time(7)): 4,
    replace(MONTHLY, code="york", zone="America/New_York", price=Money(1299, "USD")): 3,
}
STANDS = (
    "CREATE TEMP TABLE stands (n int PRIMARY KEY, plan bigint, anchor date, no int, day date, due timestamptz)"
)
CUSTOMERS = (
    "INSERT INTO customers (reference, created_at) SELECT 'c' || n, now() FROM generate_series(1, %s) n",
    "INSERT INTO billing_keys (customer_id, customer_uid, account, created_at) "
    "SELECT n, 'customer-' || n, 'main', now() FROM generate_series(1, %s) n",
    # Keys consist of hexadecimal digits here; the prime number spreads plans and anchors over the rows.
    "INSERT INTO subscriptions (key, customer_id, billing_key_id, plan_id, anchor, status, next_period_no, "
    "next_period_date, next_due_at, open_at, created_at, plan_code) "
    "SELECT lpad(to_hex(s), 20, '0'), s, s, plan, anchor, 'active', no, day, due, due, now(), "
    "(SELECT code FROM plans WHERE id = plan) "
    "FROM generate_series(1, %s) s JOIN stands ON n = (s::bigint * 7919) %% (SELECT count(*) FROM stands)",
    "INSERT INTO charges (key, kind, subscription_id, period_no, billing_key_id, account, amount, currency, name, "
    "policy_id, status, due_at, next_attempt_at, attempts, declines, first_declined_at, created_at) "
    "SELECT 'r' || lpad(to_hex(s * 50), 20, '0') || 'zzzzz', 'renewal', s * 50, 33554431, s * 50, 'main', 9900, "
    "'KRW', 'x', 1, 'past_due', '2026-02-25', timestamptz '2026-03-01' + s % 20 * interval '1 day', 1, 1, "
    "'2026-02-25', now() FROM generate_series(1, %s / 50) s",
)
SAME_ROWS = (
    "SELECT s.key, k.customer_uid, s.plan_id, s.anchor, s.next_period_no, s.next_period_date, s.next_due_at, "
    "s.open_at, s.ends_at FROM subscriptions s JOIN billing_keys k ON k.id = s.billing_key_id "
    "WHERE s.status = 'active' AND s.open_at < '2026-04-01 14:00Z'"
)


def fill(services: Services, subscriptions: int) -> None:
    """Write the shop: the anchors of each plan in turn, each with its cursor."""
    rows = [row for plan, share in PLANS.items() for row in _stands(services, plan, share)]
    with psycopg.connect(services.settings.sqlalchemy_url.replace("+psycopg", "")) as db:
        db.execute("SET session_replication_role = replica")
        db.execute(STANDS)
        with db.cursor().copy("COPY stands FROM STDIN") as copy:
            for number, row in enumerate(rows):
                copy.write_row((number, *row))
        for statement in CUSTOMERS:
            db.execute(statement.replace("%%", "%").replace("%s", str(subscriptions)))
        db.commit()
        db.autocommit = True
        db.execute("VACUUM ANALYZE")


def _stands(services: Services, plan: Plan, share: int) -> Iterator[tuple[int, date, int, date, datetime]]:
    stored = enrollment.add_plan(services, plan, DunningPolicy(ladder=(timedelta(days=3),)), "benchmark")
    for anchor in ANCHORS[: len(ANCHORS) * share // 60]:
        cursor = first_cursor(plan, anchor, NOW)
        yield stored.id, anchor, cursor.period_no, cursor.period_date, cursor.due_at


def bare(url: str) -> int:
    """Read the same rows through a plain psycopg cursor, without using them."""
    with psycopg.connect(url.replace("+psycopg", "")) as db, db.cursor("bare") as cursor:
        cursor.itersize = 5000
        cursor.execute(SAME_ROWS)
        return sum(1 for _ in cursor)


def lines(services: Services) -> int:
    """Write each charge as a line of JSON, as `again forecast --json` does, to nowhere."""
    encode = json.JSONEncoder(ensure_ascii=False).encode
    with Path("/dev/null").open("w") as nothing:
        return sum(
            1 for f in billing_forecast.foresee(services, ASKED) if nothing.write(encode(forecast_facts(f)))
        )


def added_up(services: Services) -> int:
    """Compute the sums by day."""
    return sum(day.periods + day.debts for day in billing_forecast.add_up(services, ASKED).days)


def timed(what: str, work: Callable[[], int], beside: float | None = None) -> float:
    """Run the work, and print its duration."""
    began = elapsed()
    many = work()
    seconds = elapsed() - began
    ratio = f", {seconds / beside:.2f} times the bare read" if beside else ""
    print(f"{what}: {many:,} in {seconds:.2f} s, {many / seconds:,.0f} a second{ratio}", flush=True)
    return seconds


def memory() -> float:
    """The maximum memory of this process so far, in MB."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / (1024 * 1024 if sys.platform == "darwin" else 1024)


def connected(url: str) -> Services:
    """Services with a separate database."""
    settings = Settings(
        _env_file=None, environment="test", database_url=url, broker_url="redis://127.0.0.1:1/0",
        portone_url="http://127.0.0.1:1", portone_key="key", portone_secret="secret",
    )  # fmt: skip
    engine = make_engine(settings.sqlalchemy_url, 4, "again-benchmark")
    revisions.migrate(engine)
    services = Services(settings, FixedClock(NOW), engine, {"main": ScriptedGateway()}, fingerprint_in(settings))
    operate.bind_if_new(services, "benchmark")
    return services


def main() -> None:
    """Fill the database, forecast, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subscriptions", type=int, default=1_000_000)
    subscriptions = parser.parse_args().subscriptions
    with tempfile.TemporaryDirectory(prefix="again-forecast-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        with EmbeddedServices(Path(folder) / "services", durable=False) as embedded:
            services = connected(embedded.database_url)
            fill(services, subscriptions)
            url, before = services.settings.sqlalchemy_url, memory()
            read = timed("bare read of the subscriptions", lambda: bare(url))
            timed("charges added up by day", lambda: added_up(services), read)
            timed("charges as lines of JSON", lambda: lines(services), read)
            print(f"memory before {before:.0f} MB, most {memory():.0f} MB")
            services.engine.dispose()


if __name__ == "__main__":
    main()
