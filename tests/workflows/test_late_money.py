"""Money that comes for a debt that had ended is a finding, until a person has decided to refund or to keep it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from schedules.charging.outcomes import Declined, Outcome, PaymentState, Unknown
from schedules.money.amounts import Money
from schedules.operations.findings import FindingKind, FindingState
from schedules.requests.refunds import RefundRequest
from tests.doubles import ScriptedGateway
from tests.factories import LADDER, START, attempt_rows, charge_rows, collect_due, move, on_sale, subscribed
from tests.scenarios.living import live_until, notices
from tests.workflows.test_reconciling import found, reconciled
from worker.customers import enrollment
from worker.gateway.port import ChargeOrder
from worker.operations import operate
from worker.operations.operate import CannotOperate
from worker.reconciliation import resolve_finding
from worker.reconciliation.resolve_finding import Verdict
from worker.refunds import duplicates, refund_payment
from worker.services import Services
from worker.store.reconciliation.findings import Finding

WHO = ("kim", "he left")


def late(services: Services) -> Finding:
    """The one finding of a payment after the end."""
    (finding,) = [each for each in found(services) if each.kind is FindingKind.PAID_AFTER_END]
    return finding


@pytest.fixture
def key(services: Services, gateway: ScriptedGateway) -> str:
    """A subscription that was canceled while the outcome of its first call was unknown, and the call had paid."""

    def lost(order: ChargeOrder) -> Outcome:
        gateway.remember(order, "paid", "imps_late", at=services.clock.now())
        return Unknown("ReadTimeout")

    on_sale(services, policy=LADDER)
    subscription = subscribed(services)
    gateway.answers.append(lost)
    collect_due(services)
    enrollment.unsubscribe(services, subscription, *WHO, at_period_end=False)
    live_until(services, START + timedelta(hours=2))
    return subscription


def charge_key(services: Services) -> str:
    """The key of the one charge."""
    (row,) = charge_rows(services)
    return str(row["key"])


def test_a_payment_after_a_cancellation_is_a_finding_with_its_event(services: Services, key: str) -> None:
    """Guard: an event alone is gone once it is delivered; a finding waits for a person."""
    finding = late(services)
    assert (finding.state, finding.charge_key) == (FindingState.OPEN, charge_key(services))
    assert (finding.imp_uid, finding.amount, finding.balance, finding.currency) == ("imps_late", 9900, 9900, "KRW")
    assert "its subscription was canceled" in finding.words
    told = notices(services)
    assert [told.count(kind) for kind in ("charge.paid_after_end", "finding.paid_after_end")] == [1, 1]


def test_a_payment_whose_answer_comes_after_the_end_is_a_finding(
    services: Services, gateway: ScriptedGateway
) -> None:
    on_sale(services)
    subscription = subscribed(services)

    def leave_meanwhile(order: ChargeOrder) -> Outcome:
        enrollment.unsubscribe(services, subscription, *WHO, at_period_end=False)
        return gateway.approve(order)

    gateway.answers.append(leave_meanwhile)
    collect_due(services)
    assert late(services).state is FindingState.OPEN


def test_a_failed_payment_that_turns_paid_after_its_debt_was_waived_is_a_finding(
    services: Services, gateway: ScriptedGateway
) -> None:
    on_sale(services)
    subscribed(services)
    gateway.answers.append(Declined("은행 점검 중입니다"))
    collect_due(services)
    operate.waive(services, charge_key(services), *WHO)
    gateway.approve(gateway.sent[0])
    reconciled(services)
    assert late(services).state is FindingState.OPEN
    assert "it was waived" in late(services).words
    assert [each.kind for each in found(services) if not each.state.is_over] == [FindingKind.PAID_AFTER_END]


def test_a_debt_that_is_paid_elsewhere_has_no_payment_to_refund(
    services: Services, gateway: ScriptedGateway
) -> None:
    on_sale(services)
    subscribed(services)
    gateway.answers.append(Declined("은행 점검 중입니다"))
    collect_due(services)
    operate.paid_elsewhere(services, charge_key(services), *WHO)
    assert found(services) == []


def test_the_reconciler_does_not_end_it(services: Services, key: str) -> None:
    """Guard: the database agrees with the gateway's records, and yet a person has to decide."""
    reconciled(services)
    reconciled(services)
    assert late(services).state is FindingState.OPEN


def test_a_person_keeps_the_payment(services: Services, key: str) -> None:
    resolve_finding.resolve(services, late(services).id, Verdict.NOTED, "kim", "he wants the month")
    reconciled(services)
    assert (late(services).state, late(services).ended_why) == (FindingState.RESOLVED, "he wants the month")
    assert charge_rows(services)[0]["status"] == "paid"


@pytest.mark.parametrize("verdict", [Verdict.ACCEPTED, Verdict.UNPAID])
def test_it_has_nothing_to_accept_or_to_call_unpaid(services: Services, key: str, verdict: Verdict) -> None:
    with pytest.raises(CannotOperate):
        resolve_finding.resolve(services, late(services).id, verdict, "kim", "a slip")
    assert late(services).state is FindingState.OPEN


def test_a_person_refunds_the_payment_once(services: Services, gateway: ScriptedGateway, key: str) -> None:
    """The finding waits until the money is back, and saying it again asks for no second refund."""
    finding = late(services)
    resolve_finding.refund(services, finding.id, "kim", "he left in time")
    assert late(services).state is FindingState.OPEN
    with pytest.raises(CannotOperate, match="which is asked"):
        resolve_finding.refund(services, finding.id, "kim", "he left in time")
    duplicates.refund_due(services)
    refund_payment.make_due(services)
    (order,) = gateway.cancellations
    assert (order.imp_uid, order.money, order.balance) == ("imps_late", Money(9900, "KRW"), 9900)
    assert (late(services).state, late(services).balance) == (FindingState.REFUNDED, 0)
    assert charge_rows(services)[0]["status"] == "refunded"
    with pytest.raises(CannotOperate, match="nothing to refund"):
        resolve_finding.refund(services, finding.id, "kim", "he left in time")


def test_a_refund_that_is_refused_leaves_it_to_the_person(
    services: Services, gateway: ScriptedGateway, key: str
) -> None:
    gateway.records[attempt_rows(services)[0]["merchant_uid"]].clear()
    resolve_finding.refund(services, late(services).id, "kim", "he left in time")
    refund_payment.make_due(services)
    assert late(services).state is FindingState.OPEN
    assert "charge.refund_refused" in notices(services)


@pytest.mark.parametrize(("amount", "state"), [(None, FindingState.REFUNDED), (900, FindingState.OPEN)])
def test_a_refund_by_its_charge_ends_it_when_all_is_back(
    services: Services, gateway: ScriptedGateway, key: str, amount: int | None, state: FindingState
) -> None:
    money = None if amount is None else Money(amount, "KRW")
    request = RefundRequest(charge=charge_key(services), money=money, request_key="back-1", reason="he left")
    refund_payment.ask(services, request, "kim")
    refund_payment.make_due(services)
    assert late(services).state is state


def test_a_refund_in_the_console_ends_it_when_it_is_accepted(
    services: Services, gateway: ScriptedGateway, key: str
) -> None:
    uid = attempt_rows(services)[0]["merchant_uid"]
    (payment,) = gateway.records[uid]
    gateway.records[uid] = [replace(payment, state=PaymentState.CANCELLED, cancelled_amount=9900)]
    reconciled(services)
    (drift,) = [each for each in found(services) if each.kind is FindingKind.REFUND_DRIFT]
    resolve_finding.resolve(services, drift.id, Verdict.ACCEPTED, "kim", "refunded in the console")
    assert late(services).state is FindingState.REFUNDED


def test_a_double_is_refunded_by_its_finding_still(services: Services, gateway: ScriptedGateway) -> None:
    on_sale(services)
    subscribed(services)
    gateway.answers.append(Declined("은행 점검 중입니다"))
    collect_due(services)
    move(services, days=1)
    collect_due(services)
    gateway.remember(gateway.sent[0], "paid", "imps_late")
    reconciled(services)
    (double,) = found(services)
    resolve_finding.refund(services, double.id, "kim", "a second payment")
    duplicates.refund_due(services)
    assert found(services)[0].state is FindingState.REFUNDED
