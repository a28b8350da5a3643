"""The cost of a tick with one entry per subscription, in RedBeat and in sqlalchemy-celery-beat.

`python -m benchmarks.baselines.schedulers --broker-url … --database-url … --entries 10000`

Compared: `tick()` of each, called as Celery's beat calls it, on entries that are not due for weeks and are stored
in the ways of the libraries; and the delay after its due time with which each of 50 entries among all others is
published. Both send to a queue without a consumer.

Not compared: the work of the tasks, which is none; how two beats share the work; an outage of the broker; the CPU
of Redis and PostgreSQL. Again is not measured here, because it has one entry per plan and none per subscription.

RedBeat reads only due entries from Redis. sqlalchemy-celery-beat keeps all entries in memory, compares all of them
in each tick, and sends one per tick. It reads the whole table again after a change; the change is made early
enough to be no part of its delay, and `reload_s` is its duration.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import Celery
from celery.beat import Scheduler
from celery.schedules import schedule
from celery.signals import after_task_publish
from redbeat import RedBeatScheduler
from redbeat.schedulers import RedBeatSchedulerEntry, acquire_distributed_beat_lock, get_redis
from sqlalchemy import create_engine, text, update
from sqlalchemy.orm import Session

from benchmarks.baselines.measuring import Failed, end_cleanly, forget_queue
from worker.clock import elapsed

try:
    from sqlalchemy_celery_beat.models import IntervalSchedule, Period, PeriodicTask, PeriodicTaskChanged
    from sqlalchemy_celery_beat.schedulers import DatabaseScheduler
    from sqlalchemy_celery_beat.session import ModelBase
except ModuleNotFoundError as absent:
    raise SystemExit(
        f"{absent.name} is not installed: from Python 3.15 on it is not among the dependencies; "
        "run this part on an older one"
    ) from absent

QUEUE = "baseline-schedulers"
PREFIX = "baseline-redbeat:"
SCHEMA = "baseline_celery_beat"
TASK = "baseline.nothing"
FAR = timedelta(days=30)
DUE = 50
SOON = timedelta(seconds=1)
TICKS = 20
LAG_TIME = 600.0  # seconds to wait for the last entry


class OwnRedBeat:
    """RedBeat with a separate prefix."""

    name = "redbeat"

    def __init__(self, broker_url: str) -> None:
        self.app = _app(
            broker_url, redbeat_redis_url=broker_url, redbeat_key_prefix=PREFIX, redbeat_redis_options={}
        )
        self.clean()

    def fill(self, entries: int) -> None:
        """Save each entry as in RedBeat's documentation."""
        far = schedule(FAR, app=self.app)
        for number in range(entries):
            RedBeatSchedulerEntry(_name(number), TASK, far, args=[number], app=self.app).save()

    def scheduler(self) -> Scheduler:
        """The scheduler with its lock, as in beat."""
        made: Scheduler = RedBeatScheduler(self.app)
        acquire_distributed_beat_lock(sender=argparse.Namespace(scheduler=made))
        return made

    def make_due(self, due: int, at: datetime) -> None:
        """Make so many entries due at this time."""
        for number in range(due):
            key = RedBeatSchedulerEntry.generate_key(self.app, _name(number))
            RedBeatSchedulerEntry.from_key(key, app=self.app).reschedule(last_run_at=at - FAR)

    def clean(self) -> None:
        """Remove its keys and its messages."""
        client = get_redis(self.app)
        for key in client.scan_iter(match=f"{PREFIX}*", count=1000):
            client.delete(key)
        forget_queue(self.app, QUEUE)


class OwnDatabase:
    """sqlalchemy-celery-beat in a separate schema."""

    name = "sqlalchemy_celery_beat"

    def __init__(self, broker_url: str, database_url: str) -> None:
        self.app = _app(broker_url, beat_dburi=database_url, beat_schema=SCHEMA)
        self.engine = create_engine(database_url).execution_options(schema_translate_map={"celery_schema": SCHEMA})
        self.clean()

    def fill(self, entries: int) -> None:
        """Write a row for each entry through the library's models, in one transaction."""
        with self.engine.begin() as db:
            db.execute(text(f"CREATE SCHEMA {SCHEMA}"))
            ModelBase.metadata.create_all(db)
        with Session(self.engine) as session:
            far = IntervalSchedule(every=FAR.days, period=Period.DAYS)
            session.add(far)
            session.flush()
            session.add_all(
                PeriodicTask(
                    name=_name(number), task=TASK, args=json.dumps([number]), schedule_model=far,
                    last_run_at=datetime.now(UTC),
                )
                for number in range(entries)
            )  # fmt: skip
            session.commit()

    def scheduler(self) -> Scheduler:
        """The scheduler, which reads all rows when it is created."""
        made: Scheduler = DatabaseScheduler(app=self.app)
        return made

    def make_due(self, due: int, at: datetime) -> None:
        """Make so many entries due at this time, and mark the table as changed."""
        with Session(self.engine) as session:
            named = PeriodicTask.name.in_([_name(number) for number in range(due)])
            session.execute(update(PeriodicTask).where(named).values(last_run_at=at - FAR))
            PeriodicTaskChanged.update_from_session(session, commit=False)
            session.commit()

    def clean(self) -> None:
        """Drop its tables, and remove its messages."""
        with self.engine.begin() as db:
            ModelBase.metadata.drop_all(db)
            db.execute(text(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE"))
        self.engine.dispose()
        forget_queue(self.app, QUEUE)


def measure(kept: OwnRedBeat | OwnDatabase, entries: int) -> dict[str, float]:
    """Fill, tick with nothing due, and measure the delay of due entries; always clean up."""
    try:
        fill_s = _seconds(lambda: kept.fill(entries))
        began = elapsed()
        scheduler = kept.scheduler()
        try:
            scheduler.tick()
            start_s = elapsed() - began
            scheduler.tick()
            wall, cpu = elapsed(), time.process_time()
            for _ in range(TICKS):
                scheduler.tick()
            wall, cpu = elapsed() - wall, time.process_time() - cpu
            reload_s, late = _lags(kept, scheduler, min(DUE, entries), start_s)
        finally:
            scheduler.close()
    finally:
        kept.clean()
    return {
        "tick_cpu_ms": round(cpu * 1000 / TICKS, 3),
        "tick_wall_ms": round(wall * 1000 / TICKS, 3),
        "lag_p50_s": round(late[(len(late) - 1) // 2], 3),
        "lag_p99_s": round(late[-1 - len(late) // 100], 3),  # the latest of 50
        "fill_s": round(fill_s, 3),
        "start_s": round(start_s, 3),
        "reload_s": round(reload_s, 3),
    }


def _lags(
    kept: OwnRedBeat | OwnDatabase, scheduler: Scheduler, due: int, start_s: float
) -> tuple[float, list[float]]:
    """Seconds of the tick that reads the change, and the delays from due to published, sorted."""
    at = datetime.now(UTC) + SOON + timedelta(seconds=3 * start_s)
    with _published() as sent:
        kept.make_due(due, at)
        reload_s = _seconds(scheduler.tick)
        until = elapsed() + LAG_TIME
        while len(sent) < due:
            if elapsed() > until:
                raise Failed(f"{kept.name} sent {len(sent)} of {due} entries in {LAG_TIME:.0f} s")
            _pause(scheduler.tick())
            if scheduler.should_sync():  # as beat does between ticks
                scheduler._do_sync()  # type: ignore[attr-defined]  # missing in celery-types
    return reload_s, sorted((moment - at).total_seconds() for moment in sent.values())


def _pause(seconds: float | None) -> None:
    if seconds and seconds > 0:
        time.sleep(min(seconds, 5.0))


@contextmanager
def _published() -> Iterator[dict[int, datetime]]:
    """When the message of each entry was published."""
    sent: dict[int, datetime] = {}

    def note(body: Any = None, **_: object) -> None:
        sent.setdefault(body[0][0], datetime.now(UTC))

    after_task_publish.connect(note, sender=TASK)
    try:
        yield sent
    finally:
        after_task_publish.disconnect(note, sender=TASK)


def _app(broker_url: str, **settings: object) -> Celery:
    app = Celery("baseline", broker=broker_url, set_as_current=False)
    # Without results, Celery adds no entry that removes them.
    app.conf.update(task_default_queue=QUEUE, task_ignore_result=True, result_expires=None, **settings)
    return app


def _name(number: int) -> str:
    return f"subscription-{number}"


def _seconds(work: Callable[[], object]) -> float:
    began = elapsed()
    work()
    return elapsed() - began


def main() -> None:
    """Measure both, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker-url", required=True, help="redis://…")
    parser.add_argument("--database-url", required=True, help="postgresql+psycopg://…")
    parser.add_argument("--entries", type=int, default=10_000)
    arguments = parser.parse_args()
    if arguments.entries < 1:
        parser.error("--entries is at least 1")

    def compare() -> None:
        figures: dict[str, object] = {"entries": arguments.entries}
        figures["redbeat"] = measure(OwnRedBeat(arguments.broker_url), arguments.entries)
        database = OwnDatabase(arguments.broker_url, arguments.database_url)
        figures["sqlalchemy_celery_beat"] = measure(database, arguments.entries)
        print(json.dumps(figures), flush=True)

    end_cleanly(compare)


if __name__ == "__main__":
    main()
