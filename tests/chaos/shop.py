"""The shop that is beaten: daily charges, cards good and bad, a gateway that goes wrong, and time that passes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TypeVar

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import DBAPIError

from schedules.calendar.cadence import Every, Unit
from schedules.calendar.zones import wall_to_utc, zone
from schedules.dunning.policies import DunningPolicy
from schedules.money.amounts import Money
from schedules.subscriptions.plans import Plan
from tests.chaos.asking import Asker
from worker.cli.local.witness import SimulatorWitness
from worker.clock import MovedClock, elapsed, wait
from worker.customers import enrollment
from worker.operations import operate
from worker.services import Services
from worker.store.charging import kill_switch, tallies
from worker.store.tables import charges

A = TypeVar("A")
SEOUL = zone("Asia/Seoul")
BEGIN = date(2026, 3, 1)
PRICE = 9900
LADDER = DunningPolicy(ladder=(timedelta(hours=5), timedelta(hours=20)))
ASKED_OF = 240  # one customer of so many is charged by hand at each moment: some five in a hundred charges
STEP = timedelta(hours=2)  # what happens within one is lived through at once, at its end
QUIET_LOOKS = 3  # that many looks in a row that find nothing to do, before the clock moves
LOOK, LONG_LOOK, MANY = 0.05, 0.3, 200  # seconds between two looks at the work; counting much of it takes its time
AT_ONCE = 4  # customers who subscribe at once
STUCK_SECONDS = 90.0  # real time without any change while there is work: something is broken
HALF_AN_HOUR, LONG = 1800, 100_000  # seconds of the moved clock; the second is past the whole ladder
FAULTS: list[dict[str, object]] = [
    {"fault": "wrong_amount", "rate": 0.0004},
    {"fault": "late_paid", "rate": 0.0003, "seconds": LONG},
    {"fault": "late_paid", "rate": 0.002, "seconds": HALF_AN_HOUR},
    {"fault": "timeout_after", "rate": 0.002, "seconds": 3},
    {"fault": "timeout_before", "rate": 0.002, "seconds": 3},
    {"fault": "reset_after", "rate": 0.008},
    {"fault": "reset_before", "rate": 0.008},
    {"fault": "reset_in_body", "rate": 0.004},
    {"fault": "http_500_after", "rate": 0.006},
    {"fault": "http_502_before", "rate": 0.006},
    {"fault": "http_502_after", "rate": 0.004},
    {"fault": "garbage", "rate": 0.004},
    {"fault": "truncated", "rate": 0.004},
    {"fault": "http_429", "rate": 0.008},
    {"fault": "late_shown", "rate": 0.003, "seconds": 240},
    {"fault": "slow", "rate": 0.002, "seconds": 0.7},
    {"fault": "token_expired", "rate": 0.001},
    {"call": "find", "fault": "http_500_before", "rate": 0.05},
    {"call": "find", "fault": "reset_before", "rate": 0.02},
]
BAD_CARDS: tuple[dict[str, object], ...] = (
    {"card": "approve_on_try", "k": 2},
    {"card": "approve_on_try", "k": 3, "pg": "nice", "shape": "B"},
    {"card": "no_money", "shape": "B"},
    {"card": "line_fault"},
    {"card": "line_fault_paid", "k": 600},
    {"card": "lost", "pg": "html5_inicis"},
)


@dataclass
class Shop:
    """So many customers, each charged daily for so many days."""

    services: Services
    clock: MovedClock
    witness: SimulatorWitness
    customers: int
    days: int
    seed: int
    asker: Asker
    resumed: int = 0  # how often the breaker was let go on, as an operator would
    _asked_from: int = 0

    def open(self, tell: Callable[[int], None]) -> None:
        """Put the plan on sale and the customers on it; their first charge is due on the first day."""
        self._move(wall_to_utc(BEGIN, time(0), SEOUL) - timedelta(hours=1))
        plan = Plan(
            code="daily", version=1, price=Money(PRICE, "KRW"), cadence=Every(1, Unit.DAY), statement_name="매일",
            billing_time=time(9),
        )  # fmt: skip
        enrollment.add_plan(self.services, plan, LADDER, "chaos")
        cards = [{"customer_uid": self._uid(n), **self._card(n)} for n in range(self.customers)]
        for begin in range(0, len(cards), 5000):
            self.witness.post("cards", cards[begin : begin + 5000])
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for number, _ in enumerate(pool.map(self._enroll, range(self.customers)), start=1):
                tell(number)
        self.witness.post("faults", {"seed": self.seed, "rules": FAULTS})

    def _enroll(self, number: int) -> None:
        enrollment.add_customer(self.services, self._uid(number), None, None, None, "chaos")
        enrollment.subscribe(self.services, self._uid(number), "daily", "chaos", BEGIN)

    def live(self, look: Callable[[], None], tell: Callable[[datetime, int], None]) -> None:
        """Let time pass, from moment to moment, until the last day's charges have been tried once."""
        last = wall_to_utc(BEGIN + timedelta(days=self.days), time(0), SEOUL)
        while self.clock.now() < last:
            self.asker.ask([self._uid(n) for n in range(self._asked_from, self.customers, ASKED_OF)])
            self._asked_from = (self._asked_from + 1) % ASKED_OF
            self._wait_until_quiet(look, tell)
            following = self._next_moment()
            self._move(min(last, following) if following is not None else last)

    def wind_down(self, look: Callable[[], None], tell: Callable[[datetime, int], None]) -> None:
        """End the subscriptions, and let time pass until every charge has come to its end."""
        with self.services.engine.begin() as db:
            keys = tallies.active_subscriptions(db)
        self.asker.insist()
        for key in keys:
            enrollment.unsubscribe(self.services, key, "chaos", "the run ends", at_period_end=True)
        while True:
            self._wait_until_quiet(look, tell)
            following = self._next_moment()
            if following is None:
                break
            self._move(following)
        self.witness.post("faults", {})

    def pass_time(self, by: timedelta) -> None:
        """Let time pass for our processes and the gateway."""
        self._move(self.clock.now() + by)

    def _next_moment(self) -> datetime | None:
        following = self._asked(tallies.next_moment)
        if following is None:
            return None
        step = STEP.total_seconds()
        return max(self.clock.now(), datetime.fromtimestamp(-(-following.timestamp() // step) * step, UTC))

    def _move(self, to: datetime) -> None:
        self.clock.move_to(to)  # the simulator's too, which reads the same file

    def _wait_until_quiet(self, look: Callable[[], None], tell: Callable[[datetime, int], None]) -> None:
        quiet, before, changed_at, told_at = 0, None, elapsed(), 0.0
        while quiet < QUIET_LOOKS:
            look()
            wait(LOOK if before is None or sum(before.values()) < MANY else LONG_LOOK)
            work = self._asked(lambda db: tallies.work_left(db, self.clock.now()))
            self._resume()
            quiet = quiet + 1 if not any(work.values()) else 0
            if work != before:
                before, changed_at = work, elapsed()
            if elapsed() - changed_at > STUCK_SECONDS:
                raise TimeoutError(f"nothing has moved for {STUCK_SECONDS:g} seconds though there is work: {work}")
            if elapsed() - told_at > 1:
                told_at = elapsed()
                tell(self.clock.now(), self._asked(_closed))

    def _resume(self) -> None:
        """Do what an operator does after a double: look, and let the account go on."""

        def is_broken(db: Connection) -> bool:
            return any(stop.actor == "again" for stop in kill_switch.stopped(db))

        if self._asked(is_broken):
            operate.resume_charging(self.services, "chaos", "looked at", "main")
            self.resumed += 1

    def _asked(self, question: Callable[[Connection], A]) -> A:
        """Ask the database; one that has just been killed is asked again."""
        for _ in range(100):
            try:
                with self.services.engine.begin() as db:
                    return question(db)
            except DBAPIError:
                self.services.engine.dispose()
                wait(0.2)
        raise TimeoutError("the database does not come back")

    def _uid(self, number: int) -> str:
        return f"customer-{number:06d}"

    def _card(self, number: int) -> dict[str, object]:
        """Nineteen in twenty approve."""
        return BAD_CARDS[number // 20 % len(BAD_CARDS)] if number % 20 == 19 else {}


def _closed(db: Connection) -> int:
    return int(db.execute(select(func.count()).where(charges.c.closed_at.is_not(None))).scalar_one())
