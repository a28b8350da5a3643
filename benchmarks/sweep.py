"""A run of the reconciler over 90 days with a million payments: bounded memory, interrupted and continued.

`make sweep`, or `make sweep PAYMENTS=100000`. The gateway's list is generated page by page, and the database is a
real PostgreSQL. One payment in 100,000 is missing in the database, and one in the list.
"""

import argparse
import resource
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console
from rich.progress import Progress

from schedules.charging.charges import ChargeKind
from schedules.charging.identity import charge_key, merchant_uid, subject_of_entropy
from schedules.charging.outcomes import GatewayPayment, PaymentState
from schedules.operations.findings import FindingKind
from tests.doubles import ScriptedGateway
from worker.clock import FixedClock, elapsed
from worker.config import Settings
from worker.embedded import EmbeddedServices
from worker.gateway.port import Found, NoAnswer, PaymentPage
from worker.operations import operate
from worker.reconciliation import reconciler
from worker.services import Services
from worker.store.engine import make_engine
from worker.store.operations import revisions
from worker.store.reconciliation import findings
from worker.store.reconciliation.reconciliations import Run
from worker.wiring import fingerprint_in

UNTIL = datetime(2026, 4, 1, tzinfo=UTC)
SPAN = timedelta(days=90)
AMOUNT = 9900
ODD = 100_000  # one payment in so many is missing on one side


@dataclass(frozen=True, slots=True)
class Shop:
    """Payments that are evenly spread over the span, each of a separate debt."""

    payments: int

    def at(self, number: int) -> datetime:
        """The time of a payment."""
        return UNTIL - SPAN + SPAN * ((number + 0.5) / self.payments)

    def first_at(self, at: datetime) -> int:
        """The number of the first payment made at this time or later."""
        return max(0, min(self.payments, -int(-((at - UNTIL + SPAN) / SPAN * self.payments - 0.5) // 1)))

    def is_lost(self, number: int) -> bool:
        """Whether it is missing in the database."""
        return number % ODD == ODD // 3

    def in_database(self) -> Iterator[int]:
        """Yield the numbers of the payments in the database."""
        return (number for number in range(self.payments) if not self.is_lost(number))

    def is_ghost(self, number: int) -> bool:
        """Whether it is missing at the gateway."""
        return number % ODD == ODD // 2


def key_of(number: int) -> str:
    """The key of a debt."""
    return charge_key(ChargeKind.RENEWAL, subject_of_entropy(number.to_bytes(13, "big")), 0)


def uid_of(number: int) -> str:
    """The merchant_uid that paid a debt."""
    return merchant_uid("test", key_of(number), 1)


class ListingGateway(ScriptedGateway):
    """A gateway whose list is generated on request."""

    def __init__(self, shop: Shop) -> None:
        super().__init__()
        self.shop = shop
        self.pages = 0

    def list_payments(
        self,
        state: PaymentState,
        since: datetime,
        until: datetime,
        *,
        cursor: str | None = None,
        limit: int = 1000,
    ) -> PaymentPage | NoAnswer:
        self.pages += 1
        if state is not PaymentState.PAID:
            return PaymentPage((), 0, None)
        first, last = self.shop.first_at(since), self.shop.first_at(until)
        page = int(cursor or 1)
        begin = first + (page - 1) * limit
        numbers = range(begin, min(last, begin + limit))
        rows = [self.payment(number) for number in numbers if not self.shop.is_ghost(number)]
        return PaymentPage(rows, last - first, str(page + 1) if begin + limit < last else None)

    def find_all(self, merchant_uid: str) -> Found | NoAnswer:
        self.asked.append(merchant_uid)
        return Found(())

    def payment(self, number: int) -> GatewayPayment:
        at = self.shop.at(number)
        return GatewayPayment(
            imp_uid=f"imps_{number:012d}", merchant_uid=uid_of(number), state=PaymentState.PAID, amount=AMOUNT,
            cancelled_amount=0, currency="KRW", started_at=at, paid_at=at, failed_at=None, cancelled_at=None,
            fail_reason=None, pg_provider="kcp", pg_tid=None, receipt_url=None, customer_uid="ann",
        )  # fmt: skip


def fill(url: str, shop: Shop, progress: Progress) -> None:
    """Write a paid charge and its attempt for each payment."""
    bar = progress.add_task("writing the books", total=shop.payments)
    with psycopg.connect(url.replace("+psycopg", "")) as db:
        db.execute("SET session_replication_role = replica")
        db.execute("INSERT INTO customers (reference, created_at) VALUES ('ann', now())")
        db.execute(
            "INSERT INTO billing_keys (customer_id, customer_uid, account, created_at) "
            "VALUES (1, 'ann', 'main', now())"
        )
        charges = (
            "COPY charges (key, kind, subscription_id, period_no, billing_key_id, account, amount, currency, "
            "name, policy_id, status, due_at, created_at, closed_at, attempts) FROM STDIN"
        )
        with db.cursor().copy(charges) as copy:
            for number in shop.in_database():
                at = shop.at(number)
                copy.write_row((key_of(number), "renewal", number + 1, 0, 1, "main", AMOUNT, "KRW", "x",
                                1, "paid", at, at, at, 1))  # fmt: skip
        attempts = (
            "COPY attempts (charge_id, number, merchant_uid, state, amount, currency, fence, sends, last_sent_at, "
            "imp_uid, created_at, settled_at) FROM STDIN"
        )
        with db.cursor().copy(attempts) as copy:
            for row_id, number in enumerate(shop.in_database(), start=1):
                at = shop.at(number)
                copy.write_row((row_id, 1, uid_of(number), "paid", AMOUNT, "KRW", 1, 1, at,
                                f"imps_{number:012d}", at, at))  # fmt: skip
                if row_id % 10_000 == 0:
                    progress.update(bar, completed=row_id)
        db.commit()
        db.execute("ANALYZE charges")
        db.execute("ANALYZE attempts")
    progress.update(bar, completed=shop.payments)


def sweep(services: Services, progress: Progress) -> tuple[Run, int]:
    """Run the reconciler, with one interruption in the middle; return the run, and how often it was started."""
    run = reconciler.begin_asked(services, "main", UNTIL - SPAN, UNTIL)
    bar = progress.add_task("comparing", total=SPAN.total_seconds())
    half = run.since + SPAN / 2
    done = run

    def show(run: Run) -> None:
        nonlocal done
        done = run
        progress.update(bar, completed=(run.done_until - run.since).total_seconds())

    stopped = reconciler.work(services, run.id, lambda: done.done_until < half, show)
    if stopped is None or stopped.ended_at is not None:
        raise SystemExit("the run did not stop half-way")
    ended = reconciler.work(services, run.id, told=show)
    if ended is None or ended.ended_at is None:
        raise SystemExit("the run did not go on to its end")
    return ended, ended.fence


def memory() -> float:
    """The maximum memory of this process so far, in MB."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / (1024 * 1024 if sys.platform == "darwin" else 1024)


def connected(url: str, gateway: ListingGateway) -> Iterator[Services]:
    """Services on a database, as a context manager."""
    settings = Settings(
        _env_file=None, environment="test", database_url=url, broker_url="redis://127.0.0.1:1/0",
        portone_url="http://127.0.0.1:1", portone_key="key", portone_secret="secret", reconcile_rate=1000,
    )  # fmt: skip
    engine = make_engine(settings.sqlalchemy_url, 4, "again-benchmark")
    revisions.migrate(engine)
    services = Services(settings, FixedClock(UNTIL), engine, {"main": gateway}, fingerprint_in(settings))
    operate.bind_if_new(services, "benchmark")
    yield services
    engine.dispose()


def main() -> None:
    """Fill the database, run, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--payments", type=int, default=1_000_000)
    shop = Shop(parser.parse_args().payments)
    console = Console()
    with tempfile.TemporaryDirectory(prefix="again-sweep-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        with (
            EmbeddedServices(Path(folder) / "services", durable=False) as embedded,
            Progress(console=console) as bar,
        ):
            for services in connected(embedded.database_url, ListingGateway(shop)):
                report(console, shop, services, bar)


def report(console: Console, shop: Shop, services: Services, progress: Progress) -> None:
    """Run it, and print the figures."""
    fill(services.settings.sqlalchemy_url, shop, progress)
    before = memory()
    began = elapsed()
    run, times = sweep(services, progress)
    seconds = elapsed() - began
    with services.engine.begin() as db:
        counts = findings.open_counts(db)
    expected = {
        FindingKind.LOST: sum(shop.is_lost(number) for number in range(shop.payments)),
        FindingKind.GHOST: sum(shop.is_ghost(number) for number in range(shop.payments)),
    }
    lines: list[Any] = [
        f"payments {run.payments:,}, calls {run.calls:,}, begun on {times} times",
        f"seconds {seconds:.0f}, payments a second {run.payments / seconds:,.0f}",
        f"memory before {before:.0f} MB, most during the sweep {memory():.0f} MB",
        f"findings: {', '.join(f'{kind} {count}' for kind, count in counts.items())}",
    ]
    for line in lines:
        console.print(line)
    if counts != {kind: count for kind, count in expected.items() if count}:
        raise SystemExit(f"expected {expected}")


if __name__ == "__main__":
    main()
