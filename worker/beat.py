"""Beat: sends a message for each plan at its billing time, and for each chore. The rows decide what is done."""

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
from schedules.operations.queues import EVENTS, OPS, RECONCILE
from worker import tasks
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
# Each by itself: without a worker for one of them, the chores of the others are still sent.
QUEUES_OF_CHORES = (OPS, RECONCILE, EVENTS)
MOST_CHORES = 5000  # messages that may wait in a queue of chores: about 5 MB, half an hour of chores
LEAD_SECONDS = 15.0  # another beat leads at most this and one tick after the leader has ended
UNASKED_TICKS = 60  # a chore without work is sent every so many ticks all the same
SHORTEST_TICK = 0.05  # seconds; plans with closer billing times are sent together
HEARTBEAT_TICKS = 5  # a heartbeat and the lead are renewed every so many ticks

# Each chore, and every how many ticks it is sent. A tick is AGAIN_BEAT_INTERVAL, by default a second.
CHORES: tuple[tuple[Any, int], ...] = (
    (tasks.dispatch, 1),
    (tasks.ask_due, 2),
    (tasks.sweep, 10),
    (tasks.set_aside_unsendable, 60),
    (tasks.open_missed, 5),
    (tasks.detect_restore, 5),
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
class BillingTime:
    """A plan's next billing time."""

    at: datetime
    plan_id: int
    following: Callable[[datetime], datetime]


def next_billing_time(plan: StoredPlan, now: datetime) -> datetime:
    """The first billing time of a plan after `now`, as an instant in UTC."""
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

    Celery's handler closes the scheduler within the tick that it interrupts. There `close` would wait for the row
    of the lead, which the transaction of the tick has locked, and a SystemExit raised there may be lost.
    """

    def stop(*_: object) -> None:
        stop_signal.begin()

    platforms.signals.update(SIGTERM=stop, SIGINT=stop)


class PlanScheduler(Scheduler):
    """A Celery scheduler of plans in SQL. Several may run; two that lead at the same time do no harm."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._billing_times: list[BillingTime] = []
        self._revision = -1
        self._leads = False
        self._clock_was_wrong = False
        self._unfit: str | None = None  # why this process may not act on the database
        self._heartbeats: Heartbeats | None = None
        self._next_heartbeat = 0.0
        self._chores_due = [0.0] * len(CHORES)
        self._sent_at = [0.0] * len(CHORES)
        super().__init__(*args, **kwargs)

    def setup_schedule(self) -> None:
        """Do nothing: the plans are read from SQL in the first tick."""

    def tick(self, *_: Any, **__: Any) -> float:
        """Send what is due; return the seconds until the next tick. Outages of database and broker are logged."""
        if stop_signal.is_told():
            raise SystemExit
        alive.round_begins()
        interval = float(self.max_interval or 1)
        try:
            made = services()
            self._beat(made, interval)
            failures.outage.succeeded()
            if self._leads:
                self._send_plans(made)
                self._send_chores(made, interval)
                outages.broker.succeeded()
                return self._until_next_billing_time(made, interval)
        except failures.DATABASE_ERRORS as error:
            failures.outage.failed(str(getattr(error, "orig", None) or error).partition("\n")[0])
        except self._broker_errors() as error:
            outages.broker.failed(str(error))
            if not isinstance(error, rabbitmq.Blocked):
                self._connect_anew()
        return interval

    def close(self) -> None:
        """Resign the lead, so that another beat takes over at once."""
        try:
            with services().engine.begin() as db:
                leads.resign(db, self.name)
        except failures.DATABASE_ERRORS:
            log.warning("the lead could not be given back; it runs out in %g s", LEAD_SECONDS)
        if self._heartbeats is not None:
            # Celery calls this also after a tick that raised.
            self._heartbeats.stop(in_order=not isinstance(sys.exc_info()[1], Exception))
        super().close()

    def _connect_anew(self) -> None:
        """Drop the connection, so that the next message opens a new one. Celery keeps a broken one to RabbitMQ."""
        kept = vars(self)
        kept.pop("producer", None)
        if (lost := kept.pop("connection", None)) is not None:
            lost.release()

    def _ensure_connected(self) -> Any:
        # Celery's own version waits until the broker answers, without heartbeats in the meantime.
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
            self._heartbeats.write(db, leads=self._leads, plans=len(self._billing_times))
            processes.forget(db)
        if self._leads != led:
            log.info("beat %s %s", self.name, "leads" if self._leads else "leads no more")
        self._next_heartbeat = elapsed() + HEARTBEAT_TICKS * interval
        self._read_plans(made)

    def _may_lead(self, made: Services, db: Connection) -> bool:
        """Whether the clock is right and this process may act; otherwise another beat gets the lead.

        With a wrong clock it would send at the wrong times, and workers would discard its chores as expired.
        During a hold it leads, because chores end the hold.
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
            # The billing times were computed with the wrong clock.
            self._clock_was_wrong, self._billing_times, self._revision = False, [], -1
        return True

    def _read_plans(self, made: Services) -> None:
        """Read the plans again if their revision has changed."""
        with made.engine.begin() as db:
            revision = plan_rows.revision(db)
            if revision == self._revision:
                return
            # Archived plans too: they are off sale, but their subscriptions continue.
            readable, broken = plan_rows.readable(db)
        for plan_id, error in broken.items():
            log.error("plan %d is not rung for, no rule allows it: %s", plan_id, error)
        now = made.clock.now()
        known = {each.plan_id: each for each in self._billing_times}
        self._billing_times = [known.get(plan.id) or _billing_time_of(plan, now) for plan in readable.values()]
        heapq.heapify(self._billing_times)
        self._revision = revision
        log.info("beat %s has %d plans", self.name, len(self._billing_times))

    def _send_plans(self, made: Services) -> None:
        now = made.clock.now()
        while self._billing_times and self._billing_times[0].at <= now:
            first = self._billing_times[0]
            tasks.open_due.apply_async((first.plan_id,), producer=self.producer)
            heapq.heapreplace(
                self._billing_times, BillingTime(first.following(now), first.plan_id, first.following)
            )

    def _until_next_billing_time(self, made: Services, interval: float) -> float:
        """Seconds until the next billing time, at most `interval`."""
        if not self._billing_times:
            return interval
        seconds = (self._billing_times[0].at - made.clock.now()).total_seconds()
        return min(interval, max(SHORTEST_TICK, seconds))

    def _send_chores(self, made: Services, interval: float) -> None:
        ready = [place for place in range(len(CHORES)) if elapsed() >= self._chores_due[place]]
        wanted = self._wanted(made, ready, interval)
        for queue in QUEUES_OF_CHORES:
            due = [place for place in wanted if CHORES[place][0].queue == queue]
            if not due or tasks.messages_in(queue) > MOST_CHORES:
                continue  # no worker takes them, and enough messages wait
            for place in due:
                task, ticks = CHORES[place]
                task.apply_async(producer=self.producer, expires=tasks.CHORE_EXPIRES)
                self._chores_due[place] = elapsed() + ticks * interval
                self._sent_at[place] = elapsed()

    def _wanted(self, made: Services, ready: Sequence[int], interval: float) -> list[int]:
        """The due chores that have work, and those that were not sent for UNASKED_TICKS.

        The latter bound the delay of work that the queries for due work miss.
        """
        names = {place: CHORES[place][0].name.removeprefix("again.") for place in ready}
        always = [
            place for place in ready if names[place] not in due_work.ASKED or self._is_long_ago(place, interval)
        ]
        if len(always) == len(ready):
            return always
        with made.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
            wanted = due_work.wanted(db, made.account_names, made.clock.now())
        return [place for place in ready if place in always or names[place] in wanted]

    def _is_long_ago(self, place: int, interval: float) -> bool:
        return elapsed() - self._sent_at[place] >= UNASKED_TICKS * interval

    def _broker_errors(self) -> tuple[type[BaseException], ...]:
        connection = self.app.connection_for_write()
        return (OperationalError, *connection.connection_errors, *connection.channel_errors)

    @property
    def info(self) -> str:
        """The line of this scheduler in beat's banner."""
        return f"    . plans -> from SQL, as {self.name}"


def _billing_time_of(plan: StoredPlan, now: datetime) -> BillingTime:
    return BillingTime(next_billing_time(plan, now), plan.id, lambda after: next_billing_time(plan, after))
