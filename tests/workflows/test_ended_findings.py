"""A finding of a payment that our books lacked, ended once they have it, whatever way it came into them."""

from dataclasses import replace

import pytest

from schedules.charging.outcomes import Declined, GatewayPayment, NotSent, PaymentState
from schedules.operations.findings import Discrepancy, FindingKind, FindingState
from tests.doubles import ScriptedGateway
from tests.factories import charge_rows, held_events, move, opened
from worker.charging import attempt_charge, match_payments, overdue
from worker.operations import operate
from worker.reconciliation import reconciler
from worker.services import Services
from worker.store.reconciliation import findings
from worker.store.reconciliation.findings import Finding


def listed(services: Services) -> list[Finding]:
    """Every finding, ended or not."""
    with services.engine.begin() as db:
        return list(findings.listed(db, ended=True))


@pytest.fixture
def paid(services: Services, gateway: ScriptedGateway) -> GatewayPayment:
    """The payment of a charge that the books call paid."""
    attempt_charge.attempt(services, opened(services))
    (order,) = gateway.sent
    (found,) = gateway.records[order.merchant_uid]
    return found


def found_lost(services: Services, payment: GatewayPayment, **changes: object) -> None:
    """A finding as it was written while the standby's books had no such charge."""
    lost = Discrepancy(FindingKind.LOST, "the books have no such charge")
    seen = replace(payment, **changes)  # type: ignore[arg-type]  # any field
    with services.engine.begin() as db:
        findings.note(db, "main", seen, payment.merchant_uid[:26], lost, services.clock.now())


def test_a_lost_finding_ends_once_its_charge_is_paid_by_that_payment(
    services: Services, paid: GatewayPayment
) -> None:
    found_lost(services, paid)
    match_payments.end_paid(services, "main")
    (finding,) = listed(services)
    assert finding.state is FindingState.REPAIRED
    assert finding.ended_why


@pytest.mark.parametrize(
    "changes",
    [{"imp_uid": "imps_another"}, {"amount": 1}, {"currency": "USD"}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_lost_finding_about_another_payment_stays_open(
    services: Services, paid: GatewayPayment, changes: dict[str, object]
) -> None:
    """Guard: the very payment. Another one under the same uid is a second payment for one debt."""
    found_lost(services, paid, **changes)
    match_payments.end_paid(services, "main")
    assert [finding.state for finding in listed(services)] == [FindingState.OPEN]


def test_the_reconciler_ends_it_although_no_run_lists_the_payment_any_more(
    services: Services, paid: GatewayPayment, gateway: ScriptedGateway
) -> None:
    found_lost(services, paid)
    gateway.records.clear()
    reconciler.begin_due(services, "main")
    assert [finding.state for finding in listed(services)] == [FindingState.REPAIRED]


def test_a_lost_finding_whose_charge_is_open_stays_open(services: Services, paid: GatewayPayment) -> None:
    other = replace(paid, merchant_uid=paid.merchant_uid[:-1] + "9", imp_uid="imps_9")
    found_lost(services, other)
    match_payments.end_paid(services, "main")
    assert [finding.state for finding in listed(services)] == [FindingState.OPEN]


def test_a_hold_passes_from_an_ended_finding_to_a_person_after_the_patience_of_a_debt_that_waits(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Guard: such a debt is looked at no more while it is held, so that no moment may be without a hold."""
    gateway.answers.append(Declined("도난 카드", None, None, "kcp"))
    attempt_charge.attempt(services, opened(services))
    gateway.approve(gateway.sent[0])
    (payment,) = gateway.records[gateway.sent[0].merchant_uid]
    gateway.ask_answer = NotSent("ConnectError")
    match_payments.compare(services, "main", [payment])
    gateway.ask_answer = None
    move(services, days=20)
    overdue.look_due(services)
    (row,) = charge_rows(services)
    assert (row["waits"], row["look_at"], row["held_why"] is None) == ("card", None, False)
    match_payments.compare(
        services, "main", [replace(payment, state=PaymentState.CANCELLED, cancelled_amount=payment.amount)]
    )
    assert [finding.state for finding in listed(services)] == [FindingState.REPAIRED]
    assert "finding 1 has ended" in charge_rows(services)[0]["held_why"]
    assert held_events(services) == [row["key"], row["key"]]
    operate.release(services, row["key"], "kim", "the customer shall pay it")
    assert charge_rows(services)[0]["next_attempt_at"] is not None
