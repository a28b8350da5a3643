"""Which beat leads: one that may not act on the database leaves the lead to another."""

import logging
from dataclasses import replace

import pytest
from celery import Celery
from sqlalchemy import text

from worker import beat
from worker.beat import PlanScheduler
from worker.services import Services


def beat_once(made: Services, its: PlanScheduler) -> bool:
    """Let it write a heartbeat; whether it leads after that."""
    its._next_heartbeat = 0.0
    its._beat(made, 1.0)
    return its._leads


def named(name: str) -> PlanScheduler:
    """A beat that has not started."""
    its = PlanScheduler(app=Celery("test", set_as_current=False), lazy=True)
    its.name = name
    return its


def test_a_beat_of_another_environment_gives_up_the_lead_to_one_that_may_act(
    services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = named("first"), named("second")
    assert beat_once(services, first)
    assert not beat_once(services, second)
    foreign = replace(services, fingerprint_in=lambda _: "another")
    assert not beat_once(foreign, first)
    assert not beat_once(foreign, first)
    said = [each for each in caplog.records if each.name == beat.log.name and each.levelno == logging.ERROR]
    assert len(said) == 1
    assert "another environment" in said[0].getMessage()
    assert beat_once(services, second)
    assert not beat_once(services, first)  # it may act again, and the other one leads


def test_a_beat_of_another_schema_revision_does_not_lead(services: Services) -> None:
    its = named("older")
    assert not beat_once(replace(services, revision="0000"), its)
    assert beat_once(services, its)


def test_a_beat_leads_in_a_hold(services: Services) -> None:
    """Its chores are what ends the hold."""
    with services.engine.begin() as db:
        db.execute(text("UPDATE installation SET hold_since = now(), hold_from = now(), hold_cursor = 0"))
    assert beat_once(services, named("first"))
