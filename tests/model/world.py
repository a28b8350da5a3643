"""A shop on a simulated clock: its books, its broker, its gateway, and the processes that work for it."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Protocol

from sqlalchemy.exc import IntegrityError

from schedules.calendar.cadence import Every, Unit
from schedules.charging.identity import subject_of_request
from schedules.dunning.policies import DunningPolicy, FinalAction
from schedules.money.amounts import Money
from schedules.subscriptions.plans import Plan
from tests.model.gateway import ModelGateway
from tests.model.invariants import Broken, Judge, no_payment_without_a_debt
from tests.model.memory import Refusal, Row
from tests.model.stage import Choose, Process, Stage, straight_on
from worker.clock import FixedClock
from worker.failpoints import Failpoint
from worker.renewals.enqueue import Queued
from worker.services import Services

WEEKLY = Plan(
    code="weekly", version=1, price=Money(9900, "KRW"), cadence=Every(1, Unit.WEEK), statement_name="주간 구독",
    catch_up_cap=100,
)  # fmt: skip
LADDER = DunningPolicy(ladder=(timedelta(days=1), timedelta(days=3)), final=FinalAction.WRITE_OFF)
ACTOR = "model"
BEGIN = datetime(2026, 2, 1, tzinfo=UTC)
LATEST = timedelta(days=30)  # whatever the gateway turns paid late has turned by then


class Books(Protocol):
    """The rows, whatever holds them, for whoever looks from outside of the processes."""

    def charges(self) -> list[Row]:
        """All charges, by key."""

    def attempts(self) -> dict[int, list[Row]]:
        """All attempts by their charge's row id, each by number."""

    def touched(self) -> Iterable[tuple[Row, Sequence[Row]]]:
        """The charges that may have changed since the last such look, with their attempts."""

    def next_times(self) -> list[datetime]:
        """When something is to be done: attempts, asks, leases, openings."""

    def findings(self) -> list[Row]:
        """What the reconciler has found."""

    def is_on_hold(self) -> bool:
        """Whether nothing is sent, because a backup was restored."""

    def backup(self) -> object:
        """A copy of everything."""

    def restore(self, backup: object) -> None:
        """Put everything back to what a backup holds."""


@dataclass(frozen=True, slots=True)
class Message:
    """What the broker carries: a charge's row id, or an attempt's to be asked about."""

    verb: str  # charge or ask
    row_id: int


class World:
    """Everything that a run moves. Verbs are processes; people's acts and the clock are not."""

    def __init__(
        self, services: Services, books: Books, verbs: SimpleNamespace, gateway: ModelGateway, stage: Stage
    ) -> None:
        self.services = services
        self.books = books
        self.verbs = verbs
        self.gateway = gateway
        self.stage = stage
        self.judge = Judge(gateway)
        self.broker: list[Message] = []
        self.subscriptions: list[str] = []
        assert isinstance(services.clock, FixedClock)
        self.clock = services.clock
        self.reconciler_failures = 0
        self.holds_after_restore = True  # the guard of crash row 14
        stage.passed = self._passed

    def arrange(self, names: Sequence[str], anchors: Sequence[date]) -> None:
        """One plan, and a customer with a subscription for each name."""
        self.verbs.enrollment.add_plan(self.services, WEEKLY, LADDER, ACTOR)
        for name, anchor in zip(names, anchors, strict=True):
            self.verbs.enrollment.add_customer(self.services, name, None, None, None, ACTOR)
            made = self.verbs.enrollment.subscribe(
                self.services, name, WEEKLY.code, ACTOR, anchor, lambda name=name: subject_of_request(name)
            )
            self.subscriptions.append(made.key)

    def open_due(self, choose: Choose = straight_on, *, parks: bool = False) -> Process:
        """A beat rings: what is due becomes charges."""
        return self._process("open", lambda: self.verbs.open_charges.open_due(self.services), choose, parks)

    def top_up(self, choose: Choose = straight_on, *, parks: bool = False) -> Process:
        """Charges that are due become messages."""
        return self._process(
            "dispatch", lambda: self.verbs.enqueue.top_up(self.services, self._publish), choose, parks
        )

    def sweep(self, choose: Choose = straight_on, *, parks: bool = False) -> Process:
        """Lapsed leases become unknown outcomes."""
        return self._process("sweep", lambda: self.verbs.resolve_unknown.sweep(self.services), choose, parks)

    def chase(self, choose: Choose = straight_on, *, parks: bool = False) -> Process:
        """The passing of time brings what it brings to debts that were declined."""
        return self._process("chase", lambda: self.verbs.overdue.look_due(self.services), choose, parks)

    def ask_due(self, choose: Choose = straight_on, *, parks: bool = False) -> Process:
        """Unknown outcomes whose time has come become messages."""
        return self._process("ask_due", self._ask_due, choose, parks)

    def reconcile(self, choose: Choose = straight_on, *, parks: bool = False) -> Process:
        """The hourly and the daily run, when they are due, go on."""
        return self._process("reconcile", self._reconcile, choose, parks)

    def lift_hold(self) -> None:
        """The hold goes on with what it waits for."""
        self.verbs.restore.lift_when_known(self.services)

    def deliver(self, message: Message, choose: Choose = straight_on, *, parks: bool = False) -> Process:
        """A worker takes a message, which is in its hands and no longer in the broker's."""
        verb = self.verbs.attempt_charge.attempt if message.verb == "charge" else self.verbs.resolve_unknown.ask
        return self._process(message.verb, lambda: verb(self.services, message.row_id), choose, parks)

    def cancel(self, subscription: str) -> None:
        """The customer leaves, now."""
        with suppress(self.verbs.admit.CannotAdjust):  # gone already
            self.verbs.enrollment.unsubscribe(self.services, subscription, ACTOR, "enough", at_period_end=False)

    def stop_charging(self) -> None:
        """The kill switch."""
        self.verbs.operate.stop_charging(self.services, ACTOR, "a fire")

    def resume_charging(self) -> None:
        """Charges leave again, whoever stopped them: a person, or the breaker."""
        for account in ("*", self.services.settings.account):
            # It may not be stopped.
            with suppress(self.verbs.operate.CannotOperate):
                self.verbs.operate.resume_charging(self.services, ACTOR, "the fire is out", account)

    def restore(self, backup: object) -> None:
        """The database is put back: every process that used it is dead; it is held until all is known."""
        self.stage.kill_all()
        self.books.restore(backup)
        self.judge.fences.clear()
        if self.holds_after_restore:
            self.verbs.restore.begin_hold(self.services, ACTOR, "a backup was restored")

    def move(self, by: timedelta) -> None:
        """Let time pass."""
        self.clock.at += by

    def look(self) -> None:
        """Judge what has changed."""
        now = self.clock.now()
        for charge, attempts in self.books.touched():
            self.judge.look(charge, attempts, now)

    def settle_down(self, rounds: int = 500) -> None:
        """Let everything go on, without any fault, until nothing is left to do; opening is over."""
        for process in tuple(self.stage.parked):
            while not process.ended:
                self.stage.go_on(process)
        self.look()
        for nth in range(rounds):
            self.work_off()
            if nth > 50:
                # Beat looks again before the bigger step: a further try that gave way has left its card's place in
                # the queue to the older debt, and is due again when the step is over.
                self.work_off()
            now = self.clock.now()
            times = self.books.next_times()
            later = [at for at in times if at > now]
            if self.books.is_on_hold():
                self.clock.at += timedelta(hours=1)
            elif later:
                # Whoever is queued minute after minute, until an older attempt is clear, gets bigger steps.
                self.clock.at = max(
                    min(later) + timedelta(seconds=1), now + timedelta(seconds=max(0, nth - 50) * 60)
                )
            elif not self.broker and not times:  # of a card's due charges one is queued in each round
                return
        left = [(row["key"], row["held_why"]) for row in self.books.charges() if row["closed_at"] is None]
        raise Broken(f"no rest after {rounds} rounds: {left}")

    def work_off(self) -> None:
        """One quiet round of beat and workers, with every message delivered once."""
        self.resume_charging()
        self.lift_hold()
        self.sweep()
        self.chase()
        self.top_up()
        self.ask_due()
        messages, self.broker = self.broker, []
        for message in messages:
            self.deliver(message)
        self.look()

    def end(self) -> dict[str, int]:
        """Let all come to rest, reconcile it all, and judge; answers how many charges have each finding."""
        self.settle_down()
        self.move(LATEST)
        account = self.services.settings.account
        run = self.verbs.reconciler.begin_asked(self.services, account, BEGIN, self.clock.now())
        while run is not None and run.ended_at is None:
            try:
                run = self.verbs.reconciler.work(self.services, run.id)
            except (Refusal, IntegrityError):
                self.reconciler_failures += 1
                self.move(timedelta(hours=1))  # past its lease
        self.settle_down()
        now = self.clock.now()
        counts: dict[str, int] = {}
        attempts = self.books.attempts()
        charges = self.books.charges()
        found = {row["imp_uid"]: row["kind"] for row in self.books.findings() if row["ended_at"] is None}
        for charge in charges:
            for finding in self.judge.look_at_the_end(charge, attempts.get(charge["id"], []), found, now):
                counts[finding] = counts.get(finding, 0) + 1
        counts["repaired"] = sum(row["state"] == "repaired" for row in self.books.findings())
        no_payment_without_a_debt(self.gateway, {charge["key"] for charge in charges}, found, now)
        return counts

    def _process(self, name: str, verb: object, choose: Choose, parks: bool) -> Process:
        assert callable(verb)
        return self.stage.begin(name, verb, choose, parks=parks)

    def _publish(self, queued: Sequence[Queued]) -> None:
        self.broker += [Message("charge", row_id) for row_id, *_ in sorted(queued)]

    def _reconcile(self) -> None:
        account = self.services.settings.account
        self.verbs.reconciler.begin_due(self.services, account)
        try:
            self.verbs.reconciler.go_on(self.services, account)
        except (Refusal, IntegrityError):
            self.reconciler_failures += 1  # it goes on after its lease; test_found shows the shortest such case

    def _ask_due(self) -> None:
        self.broker += [
            Message("ask", row_id) for row_id in sorted(self.verbs.resolve_unknown.due_asks(self.services))
        ]

    def _passed(self, process: Process, stop: str) -> None:
        if stop == Failpoint.CHARGING_CLAIMED:
            process.lease_until = self.clock.now() + self.services.settings.lease_time
        elif stop == Failpoint.CHARGING_LOOKED:
            process.looked_at = self.clock.now()
