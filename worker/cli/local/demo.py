"""`again demo`: three months of a sample shop with real processes and faults, compared with the ledger."""

import tempfile
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from schedules.calendar.cadence import Cadence, Cron, Every, Unit
from schedules.calendar.zones import wall_to_utc, zone
from schedules.dunning.policies import DunningPolicy
from schedules.money.amounts import Money
from schedules.subscriptions.plans import Plan
from worker import wiring
from worker.cli.local.pass_time import Passing
from worker.cli.local.stack import Standing
from worker.cli.local.witness import SimulatorWitness, compare
from worker.cli.terminal.output import make_console
from worker.clock import MovedClock, elapsed
from worker.config import load_settings
from worker.customers import enrollment
from worker.services import Services
from worker.store.charging import tallies

SEOUL = zone("Asia/Seoul")
BEGIN = date(2026, 1, 31)  # the 31st, to show the rule for shorter months
LADDER = DunningPolicy(ladder=tuple(timedelta(days=d) for d in (1, 3, 7)))
WIND_DOWN = timedelta(days=9)  # after the last period: the longest ladder, and time for look-ups
STEP = timedelta(hours=12)  # work that is due within a step is done at its end
SETTINGS = {
    "AGAIN_ENVIRONMENT": "demo",
    "AGAIN_READ_TIMEOUT": "0.5",  # seconds; the simulator hangs on purpose
    "AGAIN_CALL_DEADLINE": "2",
    "AGAIN_LEASE": "30",
    "AGAIN_RATE": "0",
    "AGAIN_BEAT_INTERVAL": "0.06",  # seconds; a real second is hours of simulated time
    "AGAIN_QUEUE_PATIENCE": "20",
    "AGAIN_LOG_LEVEL": "INFO",
}
PLANS: tuple[tuple[str, int, Cadence, str], ...] = (
    ("monthly", 9900, Every(1, Unit.MONTH), "월간 구독"),
    ("weekly", 2900, Every(1, Unit.WEEK), "주간 꽃 배달"),
    ("twice", 4900, Cron("0 9 1,15 * *"), "격주 커피"),
)


def run(customers: int, days: int, seed: int, *, keep: bool) -> bool:
    """Run the demo; return whether database and ledger agree."""
    console = make_console()
    with tempfile.TemporaryDirectory(prefix="again-demo-", ignore_cleanup_errors=True) as folder:
        data = Path(folder)
        data.chmod(0o711)  # as root, PostgreSQL runs as another user and must reach its folder
        clock = MovedClock(data / "clock")
        clock.move_to(wall_to_utc(BEGIN, time(8, 50), SEOUL))
        settings = SETTINGS | {"AGAIN_CLOCK_FILE": str(clock.path)}
        began = elapsed()
        with Standing(
            data / "services", settings=settings, beats=2, charge_workers=2, durable=False, logs=data / "logs",
            named_services=False,
        ) as standing:  # fmt: skip
            console.print(f"{standing.describe()}; two beats, three workers, the simulator with faults on")
            services = wiring.connect(load_settings(standing.environment))
            shop = Shop(services, clock, SimulatorWitness(standing.environment["AGAIN_PORTONE_URL"]), standing)
            shop.open(customers, seed)
            shop.live(BEGIN + timedelta(days=days), console)
            agree = shop.report(console, elapsed() - began)
            if keep:
                standing.print_summary()
                standing.watch()
            services.engine.dispose()
    return agree


class Shop:
    """The sample shop: plans, customers, cards, and three months of events."""

    def __init__(
        self, services: Services, clock: MovedClock, witness: SimulatorWitness, standing: Standing
    ) -> None:
        self.services, self.clock, self.witness, self.standing = services, clock, witness, standing
        self.passing = Passing(services, clock, standing.check)

    def open(self, customers: int, seed: int) -> None:
        """Put plans on sale, and add customers with many kinds of cards."""
        for code, price, cadence, name in PLANS:
            plan = Plan(code=code, version=1, price=Money(price, "KRW"), cadence=cadence, statement_name=name)
            enrollment.add_plan(self.services, plan, LADDER, "demo")
        self.witness.post("cards", [_card(number) for number in range(customers)])
        self.witness.post("faults", {"seed": seed, "rules": FAULTS})
        for number in range(customers):
            uid = _customer(number)
            enrollment.add_customer(self.services, uid, f"손님 {number}", None, None, "demo")
            enrollment.subscribe(self.services, uid, _plan_of(number), "demo", _anchor(number))

    def live(self, until: date, console: Console) -> None:
        """Move the clock step by step until every charge has ended."""
        last_period = wall_to_utc(until, time(0), SEOUL)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[work]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=console) as progress:
            begin = self.clock.now()
            bar = progress.add_task(
                f"{begin:%Y-%m-%d}", total=(last_period + WIND_DOWN - begin).total_seconds(), work=""
            )
            ended = False
            while True:
                self.passing.wait_until_quiet(lambda work: progress.update(bar, work=work))
                now = self.clock.now()
                if not ended and now >= last_period:
                    self._end_subscriptions()
                    ended = True
                    continue
                following = self._next_moment(last_period, ended=ended)
                if following is None:
                    break
                self.passing.move_to(following)
                progress.update(
                    bar, completed=(following - begin).total_seconds(), description=f"{following:%Y-%m-%d}"
                )

    def _next_moment(self, last_period: datetime, *, ended: bool) -> datetime | None:
        now = self.clock.now()
        with self.services.engine.begin() as db:
            following = tallies.next_moment(db)
        if following is None:
            return None if ended else last_period
        if not ended:
            following = min(following, last_period)
        # Whole steps from midnight UTC, which is 09:00 in Seoul, the billing time.
        return max(
            now,
            datetime.fromtimestamp(-(-following.timestamp() // STEP.total_seconds()) * STEP.total_seconds(), UTC),
        )

    def _end_subscriptions(self) -> None:
        with self.services.engine.begin() as db:
            keys = tallies.active_subscriptions(db)
        for key in keys:
            enrollment.unsubscribe(self.services, key, "demo", "the demo ends", at_period_end=True)

    def report(self, console: Console, seconds: float) -> bool:
        """Print the result; return whether database and ledger agree."""
        with self.services.engine.begin() as db:
            counts = tallies.charge_counts(db)
            paid = tallies.paid_uids(db)
        comparison = compare(self.witness.movements(), paid)
        table = Table("what", "charges", title="three months of a sample shop", title_justify="left")
        for name, count in counts.items():
            table.add_row(name, f"{count:,}")
        for name in ("double", "lost", "ghost", "amount"):
            found = getattr(comparison, name)
            table.add_row(name, f"{len(found):,}", style="bold green" if not found else "bold red")
        console.print(table)
        verdict = (
            "the database and the simulator's ledger agree" if comparison.agree else "THE RECORDS DO NOT AGREE"
        )
        console.print(f"{verdict}; {seconds:.0f} s")
        for name in ("double", "lost", "ghost", "amount"):
            for uid in getattr(comparison, name)[:5]:
                console.print(f"  {name}: {uid}")
        return comparison.agree


def _anchor(number: int) -> date | None:
    """Monthly customers begin on the 31st, the others within their first week."""
    return BEGIN if _plan_of(number) == "monthly" else BEGIN + timedelta(days=number % 7)


def _plan_of(number: int) -> str:
    """Of ten customers, six pay monthly, two weekly, two twice a month."""
    return ("monthly", "weekly", "monthly", "twice", "monthly")[number % 5]


def _card(number: int) -> dict[str, object]:
    """Seven of eight cards approve; the rest decline in different ways."""
    bad = BAD_CARDS[number // 8 % len(BAD_CARDS)] if number % 8 == 7 else {}
    return {"customer_uid": _customer(number), **bad}


def _customer(number: int) -> str:
    return f"customer-{number:05d}"


BAD_CARDS: tuple[dict[str, object], ...] = (
    {"card": "approve_on_try", "k": 2},
    {"card": "approve_on_try", "k": 3, "pg": "nice", "shape": "B"},
    {"card": "payday", "k": 10},
    {"card": "payday", "k": 25, "pg": "kicc"},
    {"card": "approve_times", "k": 3, "pg": "nice"},
    {"card": "no_money", "pg": "tosspayments", "shape": "B"},
    {"card": "monthly_limit", "shape": "B"},
    {"card": "lost", "pg": "html5_inicis"},
    {"card": "expired"},
    {"card": "line_fault"},
)
# About one call in twelve is hit by a fault.
FAULTS: list[dict[str, object]] = [
    {"fault": "timeout_after", "rate": 0.002, "seconds": 3},
    {"fault": "timeout_before", "rate": 0.002, "seconds": 3},
    {"fault": "reset_after", "rate": 0.01},
    {"fault": "reset_before", "rate": 0.01},
    {"fault": "http_500_after", "rate": 0.01},
    {"fault": "http_502_before", "rate": 0.01},
    {"fault": "garbage", "rate": 0.01},
    {"fault": "truncated", "rate": 0.01},
    {"fault": "http_429", "rate": 0.01},
    {"fault": "late_shown", "rate": 0.005, "seconds": 120},
    {"fault": "token_expired", "rate": 0.002},
    {"call": "find", "fault": "http_500_before", "rate": 0.1},
]
