"""`python -m tests.chaos`: kill and freeze the processes of a working shop, then compare its records."""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.chaos.asking import Asker
from tests.chaos.blows import Striker
from tests.chaos.picture import draw
from tests.chaos.shop import PRICE, Shop
from tests.chaos.verdict import Verdict, judge
from worker import wiring
from worker.cli.local.stack import Standing
from worker.cli.local.witness import SimulatorWitness
from worker.clock import MovedClock, elapsed
from worker.config import load_settings

SETTINGS = {
    "AGAIN_ENVIRONMENT": "chao",
    "AGAIN_READ_TIMEOUT": "1",
    "AGAIN_CALL_DEADLINE": "2.5",
    "AGAIN_LEASE": "6",
    "AGAIN_VISIBILITY_TIMEOUT": "40",
    "AGAIN_QUIET_TIME": "60",
    "AGAIN_QUEUE_PATIENCE": "6",
    "AGAIN_RATE": "0",
    "AGAIN_RECONCILE_RATE": "1000",
    "AGAIN_BEAT_INTERVAL": "0.2",
    "AGAIN_REFUND_DOUBLES": "at_once",
    "AGAIN_LOG_LEVEL": "WARNING",
}
LISTS = ("double", "lost", "ghost", "amount", "loose", "open")
EVERY = 10.0  # seconds between two lines where nobody watches


class Told:
    """How far a run is, on a terminal as one line, elsewhere as a line now and then."""

    def __init__(self, console: Console, charges: int) -> None:
        self.console, self.charges = console, charges
        self.settled: list[tuple[float, int]] = []
        self._began = elapsed()
        self._next = 0.0

    def __call__(self, at: datetime, closed: int, blows: int) -> None:
        """Say where it is."""
        seconds = elapsed() - self._began
        self.settled.append((seconds, closed))
        if elapsed() >= self._next:
            self._next = elapsed() + (1 if self.console.is_terminal else EVERY)
            words = f"{at:%Y-%m-%d %H:%M}Z  {closed:,} of {self.charges:,} charges ended, {blows} blows"
            self.console.print(words, end="\r" if self.console.is_terminal else "\n")


def main() -> int:
    """Run it; 0 when the promise was kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--charges", type=int, default=20_000, help="about how many; 20,000 unless given")
    parser.add_argument("--days", type=int, default=5, help="so many days; a charge a day for each customer")
    parser.add_argument("--seed", type=int, default=1, help="decides the blows and what goes wrong")
    parser.add_argument("--pause", type=float, default=1.0, help="so many times longer between two blows")
    parser.add_argument("--json", type=Path, help="write the report into this file too")
    parser.add_argument("--plot", type=Path, help="draw the run into this SVG file")
    parser.add_argument("--logs", type=Path, help="keep the processes' logs in this folder")
    wishes = parser.parse_args()
    customers = max(1, wishes.charges // wishes.days)
    console = Console()
    with tempfile.TemporaryDirectory(prefix="again-chaos-", ignore_cleanup_errors=True) as folder:
        data = Path(folder)
        data.chmod(0o711)
        clock = MovedClock(data / "clock")
        clock.move_by(0.0)
        settings = SETTINGS | {"AGAIN_CLOCK_FILE": str(clock.path)}
        with Standing(
            data / "services", settings=settings, beats=2, charge_workers=2, durable=False,
            logs=wishes.logs or data / "logs", named_services=False,
        ) as standing:  # fmt: skip
            services = wiring.connect(load_settings(standing.environment))
            witness = SimulatorWitness(standing.environment["AGAIN_PORTONE_URL"])
            asker = Asker(standing.environment["AGAIN_BROKER_URL"], services, PRICE)
            shop = Shop(services, clock, witness, customers, wishes.days, wishes.seed, asker)
            try:
                report = beaten(console, standing, shop, wishes.pause)
            finally:
                services.engine.dispose()
    show(console, report)
    if wishes.json:
        wishes.json.write_text(json.dumps(report, indent=2, ensure_ascii=False))
    if wishes.plot:
        draw(wishes.plot, report)
    return 0 if report["good"] else 1


def beaten(console: Console, standing: Standing, shop: Shop, pause: float) -> dict[str, Any]:
    """Open the shop, beat it for its days, let it come to rest, and judge."""
    console.print(f"{standing.describe()}; seed {shop.seed}; {shop.customers:,} customers, {shop.days} days")
    began = elapsed()
    shop.open(_counted(console, shop.customers))
    opened = elapsed()
    since = shop.clock.now() - timedelta(hours=1)
    striker = Striker(standing, shop.services, shop.seed, pause)
    told = Told(console, shop.customers * shop.days)

    def tell(at: datetime, closed: int) -> None:
        told(at, closed, striker.dealt.total())

    shop.live(striker.look, tell)
    striker.rest()
    shop.wind_down(striker.look, tell)
    shop.pass_time(timedelta(minutes=10))
    verdict: Verdict = judge(shop.services, since, shop.witness.movements(), PRICE)
    summary = shop.witness.summary()
    return verdict.as_json() | {
        "seed": shop.seed, "customers": shop.customers, "days": shop.days, "payments": summary["charges"],
        "blows": {blow.value: count for blow, count in sorted(striker.dealt.items())},
        "fell": striker.fell, "resumed": shop.resumed, "asked_for": shop.asker.count, "calls": summary["calls"],
        "unanswered": summary["unanswered"], "late": summary["late"],
        "max_in_flight_same_uid": summary["max_in_flight_same_uid"],
        "seconds_to_open": round(opened - began), "seconds": round(elapsed() - opened),
        "settled": told.settled, "struck": [(at, blow.value) for at, blow in striker.when],
    }  # fmt: skip


def _counted(console: Console, customers: int) -> Callable[[int], None]:
    def tell(number: int) -> None:
        if number % 1000 == 0 or number == customers:
            console.print(f"{number:,} of {customers:,} customers subscribed")

    return tell


def show(console: Console, report: dict[str, Any]) -> None:
    """Print what came of it."""
    table = Table("what", "count", title=f"chaos, seed {report['seed']}", title_justify="left")
    for name, count in report["blows"].items():
        table.add_row(name, f"{count:,}")
    table.add_section()
    table.add_row("charges asked for by another backend", f"{report['asked_for']:,}")
    table.add_row("calls for money", f"{report['calls'].get('again', 0):,}")
    table.add_row("payments whose answer was lost or unreadable", f"{report['unanswered']:,}")
    table.add_row("failures that turned paid later", f"{report['late']:,}")
    table.add_row("most calls with one uid at the same moment", str(report["max_in_flight_same_uid"]))
    table.add_section()
    for name, count in report["charges"].items():
        table.add_row(name, f"{count:,}")
    table.add_section()
    for kind, states in report["found"].items():
        table.add_row(f"finding: {kind}", ", ".join(f"{count:,} {state}" for state, count in states.items()))
    table.add_row("debts that the gateway itself took twice, all found", f"{report['doubles_by_late_payment']:,}")
    table.add_section()
    for name in LISTS:
        style = "bold red" if report[name] else "bold green"
        table.add_row(name, f"{len(report[name]):,}", style=style)
    table.add_row("new findings in a second look", str(report["new_after"]))
    console.print(table)
    for name in LISTS:
        for key in report[name][:10]:
            console.print(f"  {name}: {key}")
    for words in report["fell"]:
        console.print(f"  {words}")
    word = "the promise was kept" if report["good"] else "THE PROMISE WAS BROKEN"
    console.print(f"{word}; {report['seconds_to_open']} s to open the shop, {report['seconds']} s of chaos")


if __name__ == "__main__":
    sys.exit(main())
