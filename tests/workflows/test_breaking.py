"""The breaker stops an account by itself; only a person lets it go on."""

from schedules.outcomes import Refused
from tests.doubles import ScriptedGateway
from tests.factories import charge_rows, move, on_sale, subscribed
from worker.store import charges as rows
from worker.store import switches
from worker.workflows import charging, opening, operating
from worker.workflows.services import Services


def many(services: Services, count: int) -> list[int]:
    """So many charges, due now; their row ids."""
    on_sale(services)
    for number in range(count):
        subscribed(services, f"customer-{number}")
    opening.open_due(services)
    return [row["id"] for row in charge_rows(services)]


def is_stopped(services: Services) -> bool:
    """Whether the account is stopped."""
    with services.engine.begin() as db:
        return switches.stopped_by(db, "main") == "again"


def refuse(services: Services, gateway: ScriptedGateway, charges: list[int]) -> None:
    """Let the gateway refuse a call for each of these."""
    for charge in charges:
        gateway.answers.append(Refused("인증에 실패하였습니다."))
        charging.attempt(services, charge)


def test_a_burst_of_refused_charges_stops_the_account(services: Services, gateway: ScriptedGateway) -> None:
    """More calls mend nothing; the others keep their first try."""
    charges = many(services, 8)
    refuse(services, gateway, charges[:4])
    assert not is_stopped(services)
    refuse(services, gateway, charges[4:5])
    assert is_stopped(services)
    gateway.answers.clear()
    charging.attempt(services, charges[6])
    assert len(gateway.sent) == 5


def test_refusals_that_are_far_apart_are_no_burst(services: Services, gateway: ScriptedGateway) -> None:
    for charge in many(services, 8):
        refuse(services, gateway, [charge])
        move(services, minutes=4)
    assert not is_stopped(services)


def test_one_charge_that_is_refused_again_and_again_is_no_burst(
    services: Services, gateway: ScriptedGateway
) -> None:
    (charge,) = many(services, 1)
    for _ in range(8):
        refuse(services, gateway, [charge])
        with services.engine.begin() as db:
            rows.change(db, charge, next_attempt_at=services.clock.now())
    assert not is_stopped(services)


def test_what_a_person_has_looked_at_is_not_counted_again(services: Services, gateway: ScriptedGateway) -> None:
    charges = many(services, 8)
    refuse(services, gateway, charges[:5])
    operating.resume_charging(services, "kim", "the key is mended", "main")
    move(services, seconds=1)
    refuse(services, gateway, charges[5:6])
    assert not is_stopped(services)


def test_who_stopped_it_and_why_is_in_the_audit(services: Services, gateway: ScriptedGateway) -> None:
    refuse(services, gateway, many(services, 5))
    with services.engine.begin() as db:
        (stop,) = switches.stopped(db)
        written = db.exec_driver_sql("SELECT actor, subject FROM audit WHERE verb = 'stop-charging'").all()
    assert stop["actor"] == "again"
    assert "5 charges were refused within 10 minutes" in stop["why"]
    assert [tuple(row) for row in written] == [("again", "main")]
