"""What a heartbeat says of its process: its clock, and why it does nothing."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from schedules.operations.health import ProcessKind, ProcessSeen
from tests.factories import START
from worker.clock import FixedClock
from worker.operations import heartbeats
from worker.operations.heartbeats import Heartbeats
from worker.runtime import alive
from worker.services import Services
from worker.store.operations import processes


def beat_once(services: Services, takes_nothing: Callable[[], str | None] = lambda: None) -> ProcessSeen:
    """The row of a worker that reports once."""
    its = Heartbeats(services, ProcessKind.WORKER, ("charges",), takes_nothing=takes_nothing)
    with services.engine.begin() as db:
        its.write(db)
    with services.engine.begin() as db:
        return processes.seen(db)[-1]


def test_a_worker_where_all_is_well_has_no_obstacle(services: Services) -> None:
    seen = beat_once(services)
    assert (seen.kind, list(seen.queues), seen.obstacle, seen.ended) == ("worker", ["charges"], None, False)


def test_a_wrong_clock_is_reported_with_its_seconds(services: Services) -> None:
    seen = beat_once(replace(services, clock=FixedClock(START, ahead=timedelta(hours=-2))))
    assert -7201 < seen.clock_ahead < -7199
    assert seen.obstacle is not None


def test_a_database_of_another_environment_is_an_obstacle_and_a_hold_is_none(services: Services) -> None:
    with services.engine.begin() as db:
        db.execute(text("UPDATE installation SET hold_since = now(), hold_from = now(), hold_cursor = 0"))
    assert beat_once(services).obstacle is None
    with services.engine.begin() as db:
        db.execute(text("UPDATE installation SET fingerprint = 'another'"))
    assert "belongs to another environment" in str(beat_once(services).obstacle)


def test_what_keeps_a_worker_from_taking_charges_is_an_obstacle(services: Services) -> None:
    why = "10 charges in a row could not leave from here"
    assert beat_once(services, takes_nothing=lambda: why).obstacle == why


def idle_of(services: Services, monkeypatch: pytest.MonkeyPatch, *, has_work: bool) -> float:
    """For how long a worker counts as without progress that has finished nothing for a minute."""
    now = 1000.0
    monkeypatch.setattr(heartbeats, "elapsed", lambda: now)
    its = Heartbeats(services, ProcessKind.WORKER, ("charges",), lambda: has_work)
    now += heartbeats.IDLE_AFTER
    its.look_for_work()
    with services.engine.begin() as db:
        its.write(db)
        return processes.seen(db)[-1].progress_ago


def test_a_worker_that_had_nothing_to_do_is_not_without_progress(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its queue may fill the moment after, as it does at midnight."""
    assert idle_of(services, monkeypatch, has_work=False) < heartbeats.IDLE_AFTER
    assert idle_of(services, monkeypatch, has_work=True) >= heartbeats.IDLE_AFTER


@pytest.mark.parametrize(("queues", "expected"), [((), 0.0), (("charges",), 400.0)])
def test_a_listener_takes_no_messages_and_is_never_idle_beside_work(
    services: Services, monkeypatch: pytest.MonkeyPatch, queues: tuple[str, ...], expected: float
) -> None:
    """Guard: a listener that runs for minutes is not unhealthy for messages that it never takes."""
    now = 1000.0
    noted: list[float] = []
    monkeypatch.setattr(heartbeats, "elapsed", lambda: now)
    monkeypatch.setattr(alive, "note_idle", noted.append)
    its = Heartbeats(services, ProcessKind.WORKER if queues else ProcessKind.LISTENER, queues)
    now += 400
    its.look_for_work()
    assert noted == [expected]
