"""A request that was carried out after the backup is sent again after the restore, under the same request key."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from schedules.money import Money
from schedules.refunds import RefundRequest, RefundState
from tests.doubles import ScriptedGateway
from tests.factories import charge_rows, collect_due, move, on_sale, subscribed
from tests.model.postgres import PostgresBooks
from tests.workflows.test_reconciling import found, reconciled
from worker import answering, requests
from worker.workflows import resolving, restoring, returning
from worker.workflows.operating import CannotOperate
from worker.workflows.resolving import Verdict
from worker.workflows.services import Services

WHO = {"actor": "shop", "reason": "ticket 4711"}


def restored(services: Services, backup: object) -> None:
    """Put the database back to a backup, and wait until the hold after it has ended."""
    PostgresBooks(services).restore(backup)
    restoring.begin_hold(services, "kim", "restored last night's backup")
    move(services, seconds=services.settings.quiet_time)
    assert restoring.lift_when_known(services) is None


def sent(services: Services, asked: Callable[..., dict[str, Any]], key: str, **fields: Any) -> dict[str, Any]:
    """The answer to a task that is sent with a request key."""
    return answering.answer(requests.Desk(services, lambda queued: None), asked, (), fields | {"request_key": key})


def paid_charge(services: Services) -> str:
    """The key of a renewal of 9,900 won that is paid."""
    on_sale(services)
    subscribed(services)
    collect_due(services)
    return str(charge_rows(services)[0]["key"])


def part_of(charge: str, key: str = "back-1") -> RefundRequest:
    """A request to give 3,000 won back."""
    return RefundRequest(charge=charge, money=Money(3000, "KRW"), request_key=key, reason="he sent it back")


def part_given_back_before_a_restore(services: Services) -> str:
    """3,000 won of a charge were given back after the backup, and a person has accepted that; the charge's key."""
    charge = paid_charge(services)
    backup = PostgresBooks(services).backup()
    returning.ask(services, part_of(charge), "kim")
    returning.make_due(services)
    restored(services, backup)
    reconciled(services)
    (finding,) = (each for each in found(services) if not each.state.is_over)
    resolving.resolve(services, finding.id, Verdict.ACCEPTED, "kim", "the console shows it")
    assert charge_rows(services)[0]["refunded"] == 3000
    return charge


def test_a_part_that_was_given_back_after_the_backup_is_not_given_back_again(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Guard: what was given back without a refund known here may be the refund of this very key."""
    charge = part_given_back_before_a_restore(services)
    with pytest.raises(
        CannotOperate, match=r"3,000 KRW of charge \w+ were given back without a refund known here"
    ):
        returning.ask(services, part_of(charge), "kim")
    answer = sent(services, requests.refund_charge, "back-1", charge=charge, amount=3000, currency="KRW", **WHO)
    assert answer["error"] == "refused"
    returning.make_due(services)
    assert len(gateway.cancellations) == 1


def test_another_part_is_given_back_when_a_person_says_that_it_is_another(
    services: Services, gateway: ScriptedGateway
) -> None:
    charge = part_given_back_before_a_restore(services)
    returning.ask(services, replace(part_of(charge, "back-2"), another=True), "kim")
    returning.make_due(services)
    assert returning.status(services, "back-2").state is RefundState.MADE
    assert not returning.ask(services, part_of(charge, "back-2"), "kim")[1], "sent again, it is the same refund"
    answer = sent(
        services, requests.refund_charge, "back-3", charge=charge, amount=900, currency="KRW", another=True, **WHO
    )
    assert answer["ok"]
    returning.make_due(services)
    assert [order.money.amount for order in gateway.cancellations] == [3000, 3000, 900]
    with services.engine.begin() as db:
        written = db.execute(text("SELECT details ->> 'another' FROM audit WHERE verb = 'refund' ORDER BY id"))
        assert list(written.scalars()) == ["true", "true"]
