"""Bells: a chore is rung for when there is something to do, and the question finds each kind of it."""

import pytest
from sqlalchemy import text

from schedules.charging.outcomes import Unknown
from tests.doubles import ScriptedGateway
from tests.factories import move, on_sale, opened, subscribed
from worker.charging import attempt_charge
from worker.renewals import open_charges
from worker.services import Services
from worker.store.operations import due_work


def wanted(services: Services) -> set[str]:
    """What there is to do now."""
    with services.engine.begin() as db:
        return due_work.wanted(db, services.gateways, services.clock.now())


def test_nothing_is_wanted_where_nothing_is_due(services: Services) -> None:
    assert wanted(services) == set()


def test_a_subscription_that_is_due_is_opened_and_its_charge_dispatched(services: Services) -> None:
    on_sale(services)
    subscribed(services)
    assert "open_missed" in wanted(services)
    open_charges.open_due(services)
    assert wanted(services) & {"open_missed", "dispatch"} == {"dispatch"}


def test_a_charge_of_an_account_that_is_not_known_here_is_not_dispatched(services: Services) -> None:
    opened(services)
    with services.engine.begin() as db:
        db.execute(text("UPDATE charges SET account = 'elsewhere'"))
    assert "dispatch" not in wanted(services)


def test_an_unclear_attempt_is_asked_about_and_a_notice_is_delivered(
    services: Services, gateway: ScriptedGateway
) -> None:
    charge = opened(services)
    gateway.answers.append(Unknown("ReadTimeout"))
    attempt_charge.attempt(services, charge)
    assert "ask_due" not in wanted(services)
    move(services, hours=1)
    assert "ask_due" in wanted(services)


def test_a_paid_charge_is_told_of(services: Services, gateway: ScriptedGateway) -> None:
    attempt_charge.attempt(services, opened(services))
    assert "deliver" in wanted(services)


@pytest.mark.parametrize(
    ("chore", "statement"),
    [
        ("chase", "UPDATE charges SET look_at = '2026-01-01'"),
        ("lift_hold", "UPDATE installation SET hold_since = now(), hold_from = now(), hold_cursor = 0"),
        ("announce", "UPDATE subscriptions SET tell_at = '2026-01-01'"),
        ("announce", "UPDATE billing_keys SET tell_expiry_at = '2026-01-01'"),
    ],
)
def test_each_of_the_others_is_seen(services: Services, chore: str, statement: str) -> None:
    opened(services)
    assert chore not in wanted(services)
    with services.engine.begin() as db:
        db.execute(text(statement))
    assert chore in wanted(services)
