"""Each start of a real process is a row, with how it ended; one that dies again and again is a crash loop."""

from pathlib import Path

from sqlalchemy import text

from schedules.operations.health import CauseCode, ProcessSeen
from schedules.operations.queues import QUEUES
from tests.working import Worker, working
from worker.embedded import EmbeddedServices
from worker.store.charging import kill_switch
from worker.store.operations import processes


def starts(worker: Worker) -> list[ProcessSeen]:
    with worker.services.engine.begin() as db:
        return processes.seen(db)


def test_a_worker_that_is_told_to_stop_is_recorded_as_such_and_one_that_is_killed_is_a_crash(
    embedded: EmbeddedServices, migrated_template: str, tmp_path: Path
) -> None:
    with working(embedded, migrated_template, embedded.broker_url, tmp_path) as worker:
        (first,) = starts(worker)
        assert (first.kind, tuple(first.queues), first.is_alive, first.obstacle) == ("worker", QUEUES, True, None)
        assert abs(first.clock_ahead) < 5
        assert worker.stop() == 0
        assert [each.ended for each in starts(worker)] == [True]
        for _ in range(3):
            worker.start_again()
            worker.kill()
        assert [each.ended for each in starts(worker)] == [True, False, False, False]
        # A minute without heartbeats.
        with worker.services.engine.begin() as db:
            db.execute(text("UPDATE processes SET seen_at = seen_at - interval '61 seconds'"))
        codes = [cause["code"] for cause in worker.told_json("status")["causes"]]
        assert CauseCode.CRASH_LOOP in codes


def test_a_worker_in_another_environments_database_is_recorded_with_what_keeps_it_from_work(
    embedded: EmbeddedServices, migrated_template: str, tmp_path: Path
) -> None:
    with working(embedded, migrated_template, embedded.broker_url, tmp_path) as worker:
        assert worker.stop() == 0
        with worker.services.engine.begin() as db:
            kill_switch.bind(db, "0" * 32, "prod", "tester", worker.services.clock.now())
        worker.start_again()
        (_, second) = starts(worker)
        assert second.is_alive
        assert "another environment" in (second.obstacle or "")
        assert worker.stop() == 0
