"""Charges of a gateway account that is not configured are set aside with an event, and released when it is."""

from dataclasses import replace

import pytest

from tests.doubles import ScriptedGateway
from tests.factories import charge_rows, held_events, many_opened, move, opened, write
from worker.charging import attempt_charge
from worker.charging.unsendable import set_aside_unsendable
from worker.operations import operate
from worker.services import Services

MOVE_TO_SECOND = "UPDATE charges SET account = 'second' WHERE id = :charge"


def test_a_charge_of_an_account_that_is_not_configured_is_set_aside_with_an_event(
    services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    write(services, MOVE_TO_SECOND, opened(services))
    move(services, minutes=59)
    assert set_aside_unsendable(services) == 0
    move(services, minutes=2)
    assert set_aside_unsendable(services) == 1
    assert set_aside_unsendable(services) == 0
    row = charge_rows(services)[0]
    assert row["held_why"].startswith("gateway account 'second' is not configured")
    assert held_events(services) == [row["key"]]
    assert f"charge {row['key']} is set aside" in caplog.text


def test_it_is_charged_once_the_account_is_configured_and_the_charge_released(
    services: Services, gateway: ScriptedGateway
) -> None:
    charge = opened(services)
    write(services, MOVE_TO_SECOND, charge)
    move(services, hours=2)
    set_aside_unsendable(services)
    main = services.settings.main_account
    configured = replace(
        services,
        gateways={"main": gateway, "second": gateway},
        accounts={"main": main, "second": replace(main, name="second")},
    )
    assert set_aside_unsendable(configured) == 0
    operate.release(configured, charge_rows(services)[0]["key"], "kim", "the account is back")
    attempt_charge.attempt(configured, charge)
    assert charge_rows(services)[0]["status"] == "paid"


def test_charges_of_configured_accounts_are_left_alone(services: Services) -> None:
    first, *_ = many_opened(services, 3)
    write(services, MOVE_TO_SECOND, first)
    move(services, hours=2)
    assert set_aside_unsendable(services) == 1
    held = [row["id"] for row in charge_rows(services) if row["held_why"] is not None]
    assert held == [first]
