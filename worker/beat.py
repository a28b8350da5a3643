"""Beat: a doorbell. It rings for each plan at its billing time and for the chores; the rows decide the rest."""

import heapq
import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from celery import platforms
from celery.beat import Scheduler
from celery.signals import beat_init
from kombu.exceptions import OperationalError
from sqlalchemy import Connection

from schedules.calendar.zones import local_date, wall_to_utc, zone
from schedules.operations.health import ProcessKind
from worker import tasks
from worker.app import EVENTS, OPS, RECONCILE
from worker.broker import rabbitmq
from worker.clock import elapsed
from worker.operations.heartbeats import Heartbeats
from worker.runtime import alive, outages, stop_signal
from worker.services import Services, clock_is_right
from worker.store import failures
from worker.store.charging import kill_switch
from worker.store.customers import plans as plan_rows
from worker.store.customers.plans import StoredPlan
from worker.store.operations import due_work, leads, processes
from worker.wiring import services

log = logging.getLogger("again.beat")
# Events by themselves: where no worker takes their queue, the bells for everything else go on.
QUEUES_OF_CHORES = ((OPS, RECONCILE), (EVENTS,))
MOST_CHORES = 5000  # chores and questions that may wait in the broker at once: some 5 MB, half an hour of bells
LEAD_SECONDS = 15.0  # a beat that is gone is replaced within this and one look
UNASKED_TICKS = 60  # a chore is rung for after so many ticks, though there seems to be nothing to do
SHORTEST_TICK = 0.05  # seconds; plans whose billing times are closer together are rung for together
HEARTBEAT_TICKS = 5  # a heartbeat and the lead are renewed every so many ticks

# Every chore, and after how many ticks it is rung for again; a tick is AGAIN_BEAT_INTERVAL, a second by default.
CHORES: tuple[tuple[Any, int], ...] = (
    (tasks.dispatch, 1),
    (tasks.ask_due, 2),
    (tasks.sweep, 10),
    (tasks.set_aside_unsendable, 60),
    (tasks.open_missed, 5),
    (tasks.mark, 5),
    (tasks.chase, 5),
    (tasks.look_at_cards, 60),
    (tasks.announce, 10),
    (tasks.lift_hold, 5),
    (tasks.refund, 10),
    (tasks.run_batches, 5),
    (tasks.take_over, 60),
    (tasks.reconcile, 20),
    (tasks.deliver, 2),
)


@dataclass(order=True, slots=True)
class PlanBell:
    """When a plan's billing time comes next."""

    at: datetime
    plan_id: int
    rings_next: Callable[[datetime], datetime]


def next_billing_time(plan: StoredPlan, now: datetime) -> datetime:
    """The first instant after now at which the plan's billing time strikes in its zone."""
    tz = zone(plan.plan.zone)
    day = local_date(now, tz)
    while True:
        at = wall_to_utc(day, plan.plan.billing_time, tz)
        if at > now:
            return at
        day += timedelta(days=1)


@beat_init.connect
def _only_note_stop_signals(**_: object) -> None:
    """Let SIGTERM and SIGINT end this beat at its next tick.

    Celery's handler closes the scheduler in the middle of the tick that it interrupts. There it would wait
    for the row of the lead, which the tick's transaction has locked. A SystemExit raised there may be lost.
    """

    def stop(*_: object) -> None:
        stop_signal.begin()

    platforms.signals.update(SIGTERM=stop, SIGINT=stop)


class PlanScheduler(Scheduler):
    """Rings for plans read from SQL; several may run, and two that lead at once do no harm."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._bells: list[PlanBell] = []
        self._revision = -1
        self._leads = False
        self._clock_was_wrong = False
        self._unfit: str | None = None  # why this process may not act on the database
        self._heartbeats: Heartbeats | None = None
        self._next_heartbeat = 0.0
        self._chores_due = [0.0] * len(CHORES)
        self._rung_at = [0.0] * len(CHORES)
        super().__init__(*args, **kwargs)

    def setup_schedule(self) -> None:
        """Nothing stands in a file: plans come from SQL with the first tick."""

    def tick(self, *_: Any, **__: Any) -> float:
        """Look once; answers the seconds until the next look. A database or broker that is away is waited for."""
        if stop_signal.is_told():
            raise SystemExit
        alive.round_begins()
        interval = float(self.max_interval or 1)
        try:
            made = services()
            self._beat(made, interval)
            failures.outage.succeeded()
            if self._leads:
                self._ring_plans(made)
                self._ring_chores(made, interval)
                outages.broker.succeeded()
                return self._until_next_bell(made, interval)
        except failures.DATABASE_ERRORS as error:
            failures.outage.failed(str(getattr(error, "orig", None) or error).partition("\n")[0])
        except self._broker_errors() as error:
            outages.broker.failed(str(error))
            if not isinstance(error, rabbitmq.Blocked):
                self._connect_anew()
        return interval

    def close(self) -> None:
        """Give the lead back, so that another beat takes over at once."""
        try:
            with services().engine.begin() as db:
                leads.resign(db, self.name)
        except failures.DATABASE_ERRORS:
            log.warning("the lead could not be given back; it runs out in %g s", LEAD_SECONDS)
        if self._heartbeats is not None:
            # Celery closes us too when a tick raised.
            self._heartbeats.stop(in_order=not isinstance(sys.exc_info()[1], Exception))
        super().close()

    def _connect_anew(self) -> None:
        """Let the next ring go over a new connection: Celery keeps the first, and one to RabbitMQ stays lost."""
        kept = vars(self)
        kept.pop("producer", None)
        if (lost := kept.pop("connection", None)) is not None:
            lost.release()

    def _ensure_connected(self) -> Any:
        # Celery would wait here until the broker is back, and nobody would hear of this beat meanwhile.
        return self.connection.ensure_connection(max_retries=1, timeout=5, interval_start=0)

    def _beat(self, made: Services, interval: float) -> None:
        if elapsed() < self._next_heartbeat:
            self._read_plans(made)
            return
        self._heartbeats = self._heartbeats or Heartbeats(made, ProcessKind.BEAT)
        with made.engine.begin() as db:
            led = self._leads
            self._leads = self._may_lead(made, db) and leads.lead(
                db, self.name, max(LEAD_SECONDS, 3 * HEARTBEAT_TICKS * interval)
            )
            self._heartbeats.progressed()
            self._heartbeats.write(db, leads=self._leads, plans=len(self._bells))
            processes.forget(db)
        if self._leads != led:
            log.info("beat %s %s", self.name, "leads" if self._leads else "leads no more")
        self._next_heartbeat = elapsed() + HEARTBEAT_TICKS * interval
        self._read_plans(made)

    def _may_lead(self, made: Services, db: Connection) -> bool:
        """Whether this machine's clock is right and this process may act; if not, another beat gets the lead.

        With a wrong clock its rings would come at the wrong times, and workers would discard its chores as
        expired. In a hold it leads: the chores end the hold.
        """
        if not clock_is_right(made, db):
            self._clock_was_wrong = True
            leads.resign(db, self.name)
            return False
        unfit = kill_switch.permission(db, kill_switch.ALL_ACCOUNTS).unfit(made.identity, made.clock)
        if unfit is not None:
            if unfit != self._unfit:
                log.error("beat %s does not lead: %s", self.name, unfit)
            self._unfit = unfit
            leads.resign(db, self.name)
            return False
        self._unfit = None
        if self._clock_was_wrong:
            # The times of the bells were computed with the wrong clock.
            self._clock_was_wrong, self._bells, self._revision = False, [], -1
        return True

    def _read_plans(self, made: Services) -> None:
        """Read the plans again if any has come or gone: seen within one tick."""
        with made.engine.begin() as db:
            revision = plan_rows.revision(db)
            if revision == self._revision:
                return
            # Archived plans too: they are off sale, but whoever is on one still pays.
            readable, broken = plan_rows.all_readable(db)
        for plan_id, error in broken.items():
            log.error("plan %d is not rung for, no rule allows it: %s", plan_id, error)
        now = made.clock.now()
        known = {bell.plan_id: bell for bell in self._bells}
        self._bells = [known.get(plan.id) or _bell(plan, now) for plan in readable.values()]
        heapq.heapify(self._bells)
        self._revision = revision
        log.info("beat %s has %d plans", self.name, len(self._bells))

    def _ring_plans(self, made: Services) -> None:
        now = made.clock.now()
        while self._bells and self._bells[0].at <= now:
            bell = self._bells[0]
            tasks.open_due.apply_async((bell.plan_id,), producer=self.producer)
            heapq.heapreplace(self._bells, PlanBell(bell.rings_next(now), bell.plan_id, bell.rings_next))

    def _until_next_bell(self, made: Services, interval: float) -> float:
        """Seconds until the next plan's billing time, when that comes before the next look."""
        if not self._bells:
            return interval
        seconds = (self._bells[0].at - made.clock.now()).total_seconds()
        return min(interval, max(SHORTEST_TICK, seconds))

    def _ring_chores(self, made: Services, interval: float) -> None:
        come = [place for place in range(len(CHORES)) if elapsed() >= self._chores_due[place]]
        wanted = self._wanted(made, come, interval)
        for queues in QUEUES_OF_CHORES:
            due = [place for place in wanted if CHORES[place][0].queue in queues]
            if not due or tasks.messages_in(*queues) > MOST_CHORES:
                continue  # nobody takes them: what waits is enough for when somebody does
            for place in due:
                task, ticks = CHORES[place]
                task.apply_async(producer=self.producer, expires=tasks.CHORE_EXPIRES)
                self._chores_due[place] = elapsed() + ticks * interval
                self._rung_at[place] = elapsed()

    def _wanted(self, made: Services, come: Sequence[int], interval: float) -> list[int]:
        """Those of the chores whose time has come that there is something to do for.

        Every so often each is rung for whatever the rows say: what is overlooked here waits no longer than that.
        """
        names = {place: CHORES[place][0].name.removeprefix("again.") for place in come}
        always = [
            place for place in come if names[place] not in due_work.ASKED or self._is_long_ago(place, interval)
        ]
        if len(always) == len(come):
            return always
        with made.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
            wanted = due_work.wanted(db, made.account_names, made.clock.now())
        return [place for place in come if place in always or names[place] in wanted]

    def _is_long_ago(self, place: int, interval: float) -> bool:
        return elapsed() - self._rung_at[place] >= UNASKED_TICKS * interval

    def _broker_errors(self) -> tuple[type[BaseException], ...]:
        connection = self.app.connection_for_write()
        return (OperationalError, *connection.connection_errors, *connection.channel_errors)

    @property
    def info(self) -> str:
        """What beat's banner says of us."""
        return f"    . plans -> from SQL, as {self.name}"


def _bell(plan: StoredPlan, now: datetime) -> PlanBell:
    return PlanBell(next_billing_time(plan, now), plan.id, lambda after: next_billing_time(plan, after))
