"""What breaks an invariant is set aside and told of; the others go on."""

import pytest
from sqlalchemy import text

from schedules.charging.charges import AttemptState
from tests.doubles import ScriptedGateway
from tests.factories import attempt_rows, charge_rows, on_sale, opened, subscribed
from worker.charging import attempt_charge
from worker.operations import operate
from worker.operations.operate import CannotOperate
from worker.renewals import open_charges
from worker.services import Services
from worker.store.customers import subscriptions


def spoil(services: Services, statement: str, **values: object) -> None:
    """Write what no rule allows, past the guards, as a bug or a hand in the database would."""
    with services.engine.begin() as db:
        db.execute(text("SET LOCAL session_replication_role = replica"))
        db.execute(text(statement), values)


def notices(services: Services) -> list[tuple[str, str]]:
    """What the outside is told: kind and subject."""
    with services.engine.begin() as db:
        return [(row[0], row[1]) for row in db.execute(text("SELECT kind, subject FROM outbox ORDER BY id"))]


def test_a_subscription_that_opening_cannot_work_on_is_set_aside_and_the_others_go_on(services: Services) -> None:
    on_sale(services)
    on_sale(services, code="broken")
    poisoned = subscribed(services, "poisoned", "broken")
    subscribed(services, "ann")
    spoil(services, "UPDATE plans SET zone = 'Mars/Olympus' WHERE code = 'broken'")
    open_charges.open_due(services)
    assert [row["status"] for row in charge_rows(services)] == ["open"]
    with services.engine.begin() as db:
        (aside,) = subscriptions.held(db, 10)
    assert aside.key == poisoned
    assert "Mars/Olympus" in aside.held_why
    assert ("subscription.held", poisoned) in notices(services)
    assert open_charges.open_due(services) == 0


def test_a_subscription_that_was_set_aside_is_looked_at_again_when_released(services: Services) -> None:
    on_sale(services)
    key = subscribed(services)
    spoil(services, "UPDATE plans SET zone = 'Mars/Olympus'")
    open_charges.open_due(services)
    with pytest.raises(CannotOperate, match="is not known"):
        operate.release_subscription(services, "0" * 20, "kim", "x")
    spoil(services, "UPDATE plans SET zone = 'Asia/Seoul'")
    operate.release_subscription(services, key, "kim", "the zone is mended")
    assert open_charges.open_due(services) == 1
    with pytest.raises(CannotOperate, match="not set aside"):
        operate.release_subscription(services, key, "kim", "again")


def test_a_charge_whose_row_breaks_a_rule_is_set_aside_and_not_tried_each_minute(
    services: Services, gateway: ScriptedGateway
) -> None:
    charge = opened(services)
    spoil(services, "UPDATE charges SET currency = 'XXX'")
    assert attempt_charge.attempt(services, charge) is None
    row = charge_rows(services)[0]
    assert "its row breaks a rule" in row["held_why"]
    assert gateway.sent == []
    assert ("charge.held", row["key"]) in notices(services)


def test_an_owed_charge_with_a_paid_attempt_is_never_sent(services: Services, gateway: ScriptedGateway) -> None:
    """The guard: has_paid in the claim. Without it the next attempt would charge a second time."""
    charge = opened(services)
    attempt_charge.attempt(services, charge)
    now = services.clock.now()
    spoil(services, "UPDATE charges SET status = 'open', closed_at = NULL, next_attempt_at = :now", now=now)
    assert attempt_charge.attempt(services, charge) is None
    assert len(gateway.sent) == 1
    assert [row["state"] for row in attempt_rows(services)] == [AttemptState.PAID]
    assert "an attempt at it is paid" in charge_rows(services)[0]["held_why"]
