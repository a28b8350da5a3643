"""A database that was migrated under running processes: those that it does not serve send nothing, and say so."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import pytest
from sqlalchemy import text

from schedules.charging.charges import AttemptState
from tests.doubles import ScriptedGateway
from tests.factories import attempt_rows, many_opened, move, opened
from worker.charging import attempt_charge, overdue
from worker.charging.executor import Executor
from worker.renewals import enqueue
from worker.renewals.enqueue import Queued
from worker.services import Services
from worker.store.charging import kill_switch
from worker.store.operations.revisions import Schema

NEWER = "9999"


def migrated(services: Services, revision: str = NEWER) -> None:
    """Have the schema at another revision, as `again migrate` of a version that breaks this one leaves it."""
    with services.engine.begin() as db:
        db.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
        db.execute(text("UPDATE served_code SET oldest_revision = :revision"), {"revision": revision})


EXPAND = (
    "ALTER TABLE charges ADD COLUMN later text",
    "ALTER TABLE attempts ADD COLUMN later text",
    "ALTER TABLE archived_attempts ADD COLUMN later text",
    "CREATE TABLE later (id bigint PRIMARY KEY)",
    f"UPDATE alembic_version SET version_num = '{NEWER}'",
)


def test_a_process_goes_on_charging_after_a_migration_that_only_adds(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Old and new processes run side by side: the schema says that it still serves the former code."""
    first, second, *others = many_opened(services, 5)
    claimed = attempt_charge.claim(services, first)
    assert claimed is not None
    with services.engine.begin() as db:
        for statement in EXPAND:
            db.execute(text(statement))
    assert attempt_charge.carry_out(services, claimed) is AttemptState.PAID
    Executor(services).begin_many(others, "main").wait()
    assert attempt_charge.attempt(replace(services, revision=NEWER), second) is AttemptState.PAID
    assert len(gateway.sent) == 5
    assert {row["state"] for row in attempt_rows(services)} == {AttemptState.PAID}


@pytest.mark.parametrize(
    ("oldest", "revision", "code", "is_served"),
    [
        ("0001", "0001", "0001", True),
        ("0001", "0003", "0002", True),
        ("0003", "0003", "0002", False),
        ("0001", "0002", "0003", False),
        (None, "0030", "0030", False),
        ("0001", None, "0001", False),
    ],
)
def test_a_schema_serves_code_from_its_oldest_revision_to_its_own(
    oldest: str | None, revision: str | None, code: str, is_served: bool
) -> None:
    assert Schema(revision, oldest).serves(code) is is_served


def test_a_schema_without_a_revision_is_refused_in_the_same_words(services: Services) -> None:
    """`alembic_version` is empty: for a restore under way, for instance."""
    charge = opened(services)
    with services.engine.begin() as db:
        db.execute(text("DELETE FROM alembic_version"))
        obstacle = kill_switch.permission(db, "main").not_ours(services.identity)
    assert attempt_charge.attempt(services, charge) is None
    assert "at revision None" in str(obstacle)


def test_a_process_of_another_revision_claims_and_queues_nothing(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Guard: the revision, asked with every claim."""
    charge = opened(services)
    migrated(services)
    queued: list[Sequence[Queued]] = []
    assert attempt_charge.attempt(services, charge) is None
    Executor(services).begin_many([charge], "main").wait()
    assert enqueue.top_up(services, queued.append) == 0
    assert (gateway.sent, queued, attempt_rows(services)) == ([], [], [])
    assert attempt_charge.attempt(replace(services, revision=NEWER), charge) is AttemptState.PAID


@pytest.mark.parametrize("revision", ["0000", NEWER])
def test_a_claim_that_was_written_before_the_migration_is_given_back_unsent(
    services: Services, gateway: ScriptedGateway, revision: str
) -> None:
    """Guard: the revision, asked again just before the call."""
    charge = opened(services)
    claimed = attempt_charge.claim(services, charge)
    assert claimed is not None
    migrated(services, revision)
    assert attempt_charge.carry_out(services, claimed) is AttemptState.READY
    assert gateway.sent == []
    move(services, minutes=2)
    assert attempt_charge.attempt(replace(services, revision=revision), charge) is AttemptState.PAID


def test_an_answer_that_comes_after_the_migration_is_written(services: Services, gateway: ScriptedGateway) -> None:
    charge = opened(services)
    claimed = attempt_charge.claim(services, charge)
    assert claimed is not None
    answered = gateway.charge(attempt_charge.order_of(claimed), 1e9)
    migrated(services)
    assert attempt_charge.settle_call(services, claimed, answered) is AttemptState.PAID


def test_both_revisions_and_what_to_do_are_an_error(services: Services, caplog: pytest.LogCaptureFixture) -> None:
    migrated(services)
    overdue.look_due(services)
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    for words in (f"revision {NEWER}", services.revision, "start the version"):
        assert words in errors[0]
