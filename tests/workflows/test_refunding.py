"""Refunding: a second payment is given back once, whatever dies or is lost on the way."""

from dataclasses import replace
from datetime import timedelta

import pytest

from schedules.charging.charges import AttemptState
from schedules.charging.outcomes import Declined, GatewayPayment, PaymentState, Refused, Unknown
from schedules.errors import Code
from schedules.money.amounts import Money
from schedules.operations.findings import Discrepancy, FindingKind, FindingState
from tests.doubles import ScriptedGateway
from tests.factories import attempt_rows, charge_rows, collect_due, move, opened
from tests.workflows.test_reconciling import cancelled_there, found, only, paid_twice, reconciled
from worker.charging import attempt_charge, resolve_unknown
from worker.gateway.port import CancelAnswer, Cancellation, Found, NoAnswer
from worker.operations.operate import CannotOperate
from worker.reconciliation import resolve_finding
from worker.reconciliation.resolve_finding import Verdict
from worker.refunds import duplicates
from worker.services import Services
from worker.store.charging import attempts
from worker.store.reconciliation import findings


@pytest.fixture
def double(services: Services, gateway: ScriptedGateway) -> int:
    """The number of an open finding: a debt that was paid twice."""
    paid_twice(services, gateway)
    reconciled(services)
    return only(services).id


def test_an_approved_refund_gives_the_second_payment_back_guarded_by_its_balance(
    services: Services, gateway: ScriptedGateway, double: int
) -> None:
    duplicates.approve(services, double, "kim", "a late payment")
    duplicates.refund_due(services)
    (order,) = gateway.cancellations
    assert (order.imp_uid, order.money.amount, order.balance) == ("imps_late", 9900, 9900)
    finding = only(services)
    assert (finding.state, finding.balance) == (FindingState.REFUNDED, 0)
    assert charge_rows(services)[0]["status"] == "paid"


def test_the_only_payment_that_is_left_is_not_given_back(
    services: Services, gateway: ScriptedGateway, double: int
) -> None:
    """Somebody has given the other one back in the gateway's console meanwhile."""
    paid_uid = gateway.sent[1].merchant_uid
    (payment,) = gateway.records[paid_uid]
    gateway.records[paid_uid] = [replace(payment, state=PaymentState.CANCELLED, cancelled_amount=9900)]
    duplicates.approve(services, double, "kim", "a late payment")
    duplicates.refund_due(services)
    assert gateway.cancellations == []
    assert "the only payment of the debt that is left" in only(services).words
    assert only(services).state is FindingState.OPEN


def test_a_copy_of_the_database_gives_nothing_back(
    services: Services, gateway: ScriptedGateway, double: int
) -> None:
    duplicates.approve(services, double, "kim", "a late payment")
    duplicates.refund_due(replace(services, fingerprint_in=lambda _: "of a copy"))
    assert gateway.cancellations == []
    assert only(services).state is FindingState.APPROVED


def test_what_was_approved_is_not_changed_by_a_later_look(
    services: Services, gateway: ScriptedGateway, double: int
) -> None:
    duplicates.approve(services, double, "kim", "a late payment")
    uid = gateway.sent[0].merchant_uid
    (payment,) = gateway.records[uid]
    gateway.records[uid] = [replace(payment, state=PaymentState.CANCELLED, cancelled_amount=900)]
    move(services, hours=1)
    reconciled(services)
    assert only(services).balance == 9900
    duplicates.refund_due(services)
    assert gateway.cancellations == []


def test_nothing_is_given_back_without_approval(services: Services, gateway: ScriptedGateway, double: int) -> None:
    duplicates.refund_due(services)
    assert gateway.cancellations == []


def test_the_policy_gives_back_at_once(services: Services, gateway: ScriptedGateway) -> None:
    at_once = replace(services, settings=services.settings.model_copy(update={"refund_doubles": "at_once"}))
    paid_twice(at_once, gateway)
    reconciled(at_once)
    duplicates.refund_due(at_once)
    assert only(at_once).state is FindingState.REFUNDED
    assert len(gateway.cancellations) == 1


def test_a_refund_whose_answer_was_lost_is_looked_at_and_not_made_again(
    services: Services, gateway: ScriptedGateway, double: int
) -> None:
    duplicates.approve(services, double, "kim", "a late payment")
    gateway.cancel_answers.append(Unknown("ReadTimeout"))
    duplicates.refund_due(services)
    assert only(services).state is FindingState.REFUNDING
    duplicates.refund_due(services)
    assert len(gateway.cancellations) == 1
    move(services, minutes=11)
    duplicates.refund_due(services)
    assert only(services).state is FindingState.REFUNDED
    assert len(gateway.cancellations) == 1


def test_two_processes_make_one_refund(services: Services, gateway: ScriptedGateway, double: int) -> None:
    """The fence: both have read the finding as approved, one claims it."""
    duplicates.approve(services, double, "kim", "a late payment")
    approved = only(services)
    duplicates.refund(services, approved)
    assert duplicates.refund(services, approved) is None
    assert len(gateway.cancellations) == 1


def test_a_balance_that_has_changed_since_is_for_a_person_again(
    services: Services, gateway: ScriptedGateway, double: int
) -> None:
    duplicates.approve(services, double, "kim", "a late payment")
    (payment,) = gateway.records[gateway.sent[0].merchant_uid]
    part = replace(payment, state=PaymentState.CANCELLED, cancelled_amount=900)
    gateway.records[gateway.sent[0].merchant_uid] = [part]
    duplicates.refund_due(services)
    assert only(services).state is FindingState.OPEN
    assert "9,000 KRW are left, not 9,900 KRW" in only(services).words
    assert gateway.cancellations == []


def test_a_refund_that_the_gateway_refuses_is_for_a_person_again(
    services: Services, gateway: ScriptedGateway, double: int
) -> None:
    duplicates.approve(services, double, "kim", "a late payment")
    gateway.cancel_answers.append(Refused("no contract for refunds"))
    duplicates.refund_due(services)
    assert only(services).state is FindingState.OPEN
    assert "no contract for refunds" in only(services).words


def test_only_a_double_can_be_refunded_and_only_once(services: Services, double: int) -> None:
    with pytest.raises(CannotOperate, match="there is no finding 999"):
        duplicates.approve(services, 999, "kim", "x")
    duplicates.approve(services, double, "kim", "x")
    with pytest.raises(CannotOperate, match="is approved; nothing to approve") as refused:
        duplicates.approve(services, double, "kim", "x")
    assert refused.value.code is Code.ALREADY_DONE


def test_a_refund_of_a_finding_that_ended_without_one_is_no_refund_that_was_made(
    services: Services, double: int
) -> None:
    resolve_finding.resolve(services, double, Verdict.NOTED, "kim", "the customer wants to keep both")
    with pytest.raises(CannotOperate, match="is resolved; nothing to approve") as refused:
        resolve_finding.refund(services, double, "kim", "x")
    assert refused.value.code is Code.CONFLICT


def test_a_second_payment_that_came_by_asking_ends_when_it_is_given_back(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Its attempt would otherwise be asked about for ever."""
    charge = paid_twice(services, gateway)
    first = attempt_rows(services)[0]
    with services.engine.begin() as db:  # as if the first answer had been unclear, and came last
        attempts.take(db, first["id"], AttemptState.DECLINED, services.clock.now())
        db.exec_driver_sql(
            "UPDATE attempts SET state = 'unknown', unknown_since = %s, next_ask_at = %s, settled_at = NULL "
            "WHERE id = %s", (services.clock.now(), services.clock.now(), first["id"]),
        )  # fmt: skip
    resolve_unknown.ask(services, first["id"])
    assert [finding.kind for finding in found(services)] == [FindingKind.DOUBLE]
    duplicates.approve(services, only(services).id, "kim", "x")
    duplicates.refund_due(services)
    states = [row["state"] for row in attempt_rows(services)]
    assert states == ["declined", "paid"]
    row = next(row for row in charge_rows(services) if row["id"] == charge)
    assert (row["status"], row["held_why"]) == ("paid", None)


def test_a_person_may_only_note_a_finding(services: Services, double: int) -> None:
    resolve_finding.resolve(services, double, Verdict.NOTED, "kim", "the customer wants to keep both")
    assert (only(services).state, only(services).ended_by) == (FindingState.RESOLVED, "kim")
    with pytest.raises(CannotOperate, match="is resolved since"):
        resolve_finding.resolve(services, double, Verdict.NOTED, "kim", "again")
    move(services, hours=1)
    assert reconciled(services).findings == 0


def test_a_finding_that_was_ended_comes_back_when_its_payment_changes(
    services: Services, gateway: ScriptedGateway, double: int
) -> None:
    resolve_finding.resolve(services, double, Verdict.NOTED, "kim", "x")
    uid = gateway.sent[0].merchant_uid
    (payment,) = gateway.records[uid]
    gateway.records[uid] = [replace(payment, state=PaymentState.CANCELLED, cancelled_amount=900)]
    move(services, hours=1)
    reconciled(services)
    assert (only(services).state, only(services).balance) == (FindingState.OPEN, 9000)


def wrong_amount(services: Services, gateway: ScriptedGateway) -> int:
    """A debt that was paid with another amount, found by the reconciler; its number."""

    charge = opened(services)
    gateway.answers.append(Declined("은행 점검 중입니다"))
    attempt_charge.attempt(services, charge)
    gateway.remember(gateway.sent[0], "paid", "imps_more", money=Money(10_000, "KRW"))
    reconciled(services)
    return only(services).id


def test_an_accepted_amount_pays_the_debt(services: Services, gateway: ScriptedGateway) -> None:
    number = wrong_amount(services, gateway)
    resolve_finding.resolve(services, number, Verdict.ACCEPTED, "kim", "100 won more is fine")
    row = charge_rows(services)[0]
    assert (row["status"], row["held_why"], row["next_attempt_at"]) == ("paid", None, None)
    move(services, hours=1)
    assert reconciled(services).findings == 0


@pytest.mark.parametrize("state", [PaymentState.READY, PaymentState.OTHER])
def test_a_debt_with_a_payment_that_is_not_finished_is_not_called_unpaid(
    services: Services, gateway: ScriptedGateway, state: PaymentState
) -> None:
    """Guard: such a payment may still be paid, and a new uid would be paid beside it."""
    number = wrong_amount(services, gateway)
    uid = gateway.sent[0].merchant_uid
    (payment,) = gateway.records[uid]
    gateway.records[uid] = [replace(payment, state=state, cancelled_amount=10_000)]
    with pytest.raises(CannotOperate, match="neither paid nor failed"):
        resolve_finding.resolve(services, number, Verdict.UNPAID, "kim", "x")


def test_a_debt_whose_money_is_back_is_tried_again_under_a_new_uid(
    services: Services, gateway: ScriptedGateway
) -> None:
    number = wrong_amount(services, gateway)
    with pytest.raises(CannotOperate, match="are still paid; refund them first"):
        resolve_finding.resolve(services, number, Verdict.UNPAID, "kim", "x")
    uid = gateway.sent[0].merchant_uid
    (payment,) = gateway.records[uid]
    gateway.records[uid] = [replace(payment, state=PaymentState.CANCELLED, cancelled_amount=10_000)]
    resolve_finding.resolve(services, number, Verdict.UNPAID, "kim", "given back in the console")
    move(services, seconds=1)

    attempt_charge.attempt(services, charge_rows(services)[0]["id"])
    assert charge_rows(services)[0]["status"] == "paid"
    assert len({order.merchant_uid for order in gateway.sent}) == 2


def test_an_accepted_refund_is_written_into_the_books(services: Services, gateway: ScriptedGateway) -> None:

    attempt_charge.attempt(services, opened(services))
    cancelled_there(gateway, 9900)
    reconciled(services)
    resolve_finding.resolve(services, only(services).id, Verdict.ACCEPTED, "kim", "refunded in the console")
    row = charge_rows(services)[0]
    assert (row["status"], row["refunded"]) == ("refunded", 9900)
    move(services, hours=1)
    assert reconciled(services).findings == 0


def test_a_finding_with_a_refund_under_way_is_not_ended(
    services: Services, gateway: ScriptedGateway, double: int
) -> None:
    duplicates.approve(services, double, "kim", "x")
    gateway.cancel_answers.append(Unknown("ReadTimeout"))
    duplicates.refund_due(services)
    with pytest.raises(CannotOperate, match="has a refund under way"):
        resolve_finding.resolve(services, double, Verdict.NOTED, "kim", "x")


def test_a_refund_whose_process_died_is_gone_on_with(
    services: Services, gateway: ScriptedGateway, double: int
) -> None:
    duplicates.approve(services, double, "kim", "x")
    with services.engine.begin() as db:
        lease_until = services.clock.now() + timedelta(minutes=10)
        findings.change(db, only(services), FindingState.REFUNDING, lease_until=lease_until)
    duplicates.refund_due(services)
    assert gateway.cancellations == []
    move(services, minutes=10)
    duplicates.refund_due(services)
    assert only(services).state is FindingState.REFUNDED


def test_a_list_that_was_read_before_the_refund_brings_no_finding_back(
    services: Services, gateway: ScriptedGateway, double: int
) -> None:
    """The guard: what is left of a payment only falls, so that a list that shows more is an older one."""
    before = {uid: list(payments) for uid, payments in gateway.records.items()}
    duplicates.approve(services, double, "kim", "a late payment")
    duplicates.refund_due(services)
    gateway.records = before
    move(services, hours=1)
    reconciled(services)
    assert only(services).state is FindingState.REFUNDED


def test_a_refund_whose_lease_has_ended_is_taken_up_by_one_process(services: Services) -> None:
    """The fence alone: the finding is in the same state before and after it is taken up."""
    now = services.clock.now()
    payment = GatewayPayment(
        imp_uid="imps_late", merchant_uid="x", state=PaymentState.PAID, amount=9900, cancelled_amount=0,
        currency="KRW", started_at=now, paid_at=now, failed_at=None, cancelled_at=None, fail_reason=None,
        pg_provider=None, pg_tid=None, receipt_url=None, customer_uid="ann",
    )  # fmt: skip
    with services.engine.begin() as db:
        finding, _ = findings.note(db, "main", payment, None, Discrepancy(FindingKind.DOUBLE, "x"), now)
        lapsed = findings.change(db, finding, FindingState.REFUNDING, lease_until=now)
        assert lapsed is not None
        assert findings.change(db, lapsed, FindingState.REFUNDING, lease_until=now) is not None
        assert findings.change(db, lapsed, FindingState.REFUNDING, lease_until=now) is None


def test_two_refunds_of_one_debt_leave_the_last_payment(services: Services, gateway: ScriptedGateway) -> None:
    """Guard: one refund of a debt at a time."""
    opened(services)
    collect_due(services)
    (order,) = gateway.sent
    for imp_uid in ("imps_second", "imps_third"):
        gateway.remember(order, "paid", imp_uid, at=services.clock.now())
    reconciled(services)
    doubles = found(services)
    assert [finding.kind for finding in doubles] == [FindingKind.DOUBLE] * 2
    for finding in doubles:
        duplicates.approve(services, finding.id, "kim", "paid three times")
    ours, *others = gateway.records[order.merchant_uid]
    gateway.records[order.merchant_uid] = [
        replace(ours, state=PaymentState.CANCELLED, cancelled_amount=9900),
        *others,
    ]
    first, second = found(services)

    class Meanwhile(ScriptedGateway):
        """Carries the other refund out between the first one's last look and its answer."""

        looks = 0

        def find_all(self, merchant_uid: str) -> Found | NoAnswer:
            answer = gateway.find_all(merchant_uid)
            self.looks += 1
            if self.looks == 2:
                duplicates.refund(shop, second)
            return answer

        def cancel(self, cancellation: Cancellation) -> CancelAnswer:
            return gateway.cancel(cancellation)

    shop = replace(services, gateways={"main": Meanwhile()})
    duplicates.refund(shop, first)
    duplicates.refund_due(services)
    assert len(gateway.cancellations) == 1
    assert {finding.state for finding in found(services)} == {FindingState.REFUNDED, FindingState.OPEN}
