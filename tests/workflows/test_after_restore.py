"""After a restore, a charge whose key may have been used since the backup is asked for before it is first sent."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from schedules.charging.charges import AttemptState, ChargeKind, ChargeStatus, KeyedIn
from schedules.charging.identity import charge_key, merchant_uid, subject_of_request
from schedules.charging.outcomes import Declined, NotSent
from schedules.money.amounts import Money
from schedules.operations.findings import FindingKind, FindingState
from schedules.requests.adhoc import ChargeRequest
from tests.doubles import ScriptedGateway, SlowToTell
from tests.factories import (
    attempt_rows,
    charge_rows,
    collect,
    collect_due,
    in_an_executor,
    move,
    move_to,
    on_sale,
    subscribed,
)
from worker.charging import account_threads, adhoc, match_payments, resolve_unknown
from worker.charging import executor as executor_module
from worker.charging.adhoc import CannotRequest
from worker.charging.executor import Executor
from worker.clock import wait_until
from worker.customers import card_entry, enrollment
from worker.gateway.port import Card, ChargeOrder
from worker.reconciliation import resolve_finding, restore
from worker.reconciliation.resolve_finding import Verdict
from worker.renewals import enqueue, open_charges
from worker.services import Services
from worker.store.reconciliation import findings
from worker.store.reconciliation.findings import Finding

FEE = ChargeRequest(
    customer_uid="ann", money=Money(9900, "KRW"), name="연체 수수료", request_key="fee-2026-01", reason="late",
    policy="once",
)  # fmt: skip
KEY = charge_key(ChargeKind.ADHOC, subject_of_request(FEE.request_key), 0)


def order(number: int, key: str = KEY) -> ChargeOrder:
    """The call of an attempt that was made after the backup."""
    return ChargeOrder("ann", merchant_uid("test", key, number), FEE.money, FEE.name)


def found(services: Services) -> list[Finding]:
    """All findings, newest first."""
    with services.engine.begin() as db:
        return list(findings.listed(db, ended=True))


def restored(services: Services) -> None:
    """A database that was put back, and whose hold is over."""
    enrollment.add_customer(services, "ann", None, None, None, "test")
    restore.begin_hold(services, "kim", "restored last night's backup")
    move(services, seconds=services.settings.quiet_time)
    assert restore.lift_when_known(services) is None
    move(services, minutes=10)


@pytest.fixture(params=["alone", "in a group"])
def worker(services: Services, request: pytest.FixtureRequest) -> Services:
    """A worker process that sends charges one by one, and one that sends them in groups."""
    return in_an_executor(services) if request.param == "in a group" else services


def test_a_request_whose_second_uid_was_paid_after_the_backup_is_found_paid(
    worker: Services, gateway: ScriptedGateway
) -> None:
    """The first uid only failed, so the gateway would accept it once more: that would be a second payment."""
    gateway.remember(order(1), "failed", "imps_1", at=worker.clock.now())
    gateway.remember(order(2), "paid", "imps_2")
    restored(worker)
    (finding,) = found(worker)
    assert (finding.kind, finding.state, finding.charge_key) == (FindingKind.LOST, FindingState.OPEN, KEY)
    adhoc.charge(worker, FEE, "shop")
    collect_due(worker)
    assert gateway.sent == []
    assert charge_rows(worker)[0]["status"] == ChargeStatus.PAID
    assert [row["imp_uid"] for row in attempt_rows(worker)] == ["imps_1", "imps_2"]
    assert {(finding.kind, finding.state) for finding in found(worker)} == {
        (FindingKind.LOST, FindingState.REPAIRED),
        (FindingKind.PAID_AFTER_END, FindingState.OPEN),  # the failure of the first uid had ended the debt
    }


def test_a_payment_that_no_list_shows_is_found_by_asking_for_the_next_uids(
    worker: Services, gateway: ScriptedGateway
) -> None:
    """The list of the hold began too late, so that there is no finding."""
    gateway.remember(order(1), "paid", "imps_1", at=worker.clock.now() - timedelta(days=30))
    restored(worker)
    assert found(worker) == []
    adhoc.charge(worker, FEE, "shop")
    collect_due(worker)
    assert gateway.sent == []
    assert charge_rows(worker)[0]["status"] == ChargeStatus.PAID


def test_a_finding_that_a_person_ended_still_keeps_its_payment_from_being_made_twice(
    worker: Services, gateway: ScriptedGateway
) -> None:
    gateway.remember(order(1), "failed", "imps_1", at=worker.clock.now())
    gateway.remember(order(2), "paid", "imps_2")
    restored(worker)
    resolve_finding.resolve(worker, found(worker)[0].id, Verdict.NOTED, "kim", "it is known")
    adhoc.charge(worker, FEE, "shop")
    collect_due(worker)
    assert gateway.sent == []
    assert charge_rows(worker)[0]["status"] == ChargeStatus.PAID


def test_a_finding_under_a_key_makes_its_charge_be_asked_for(worker: Services, gateway: ScriptedGateway) -> None:
    """A database that was adopted as complete, and was not: there was no hold, and a person ended the finding."""
    enrollment.add_customer(worker, "ann", None, None, None, "test")
    gateway.remember(order(1), "failed", "imps_1", at=worker.clock.now())
    gateway.remember(order(2), "paid", "imps_2")
    match_payments.compare(worker, "main", gateway.records[order(2).merchant_uid])
    resolve_finding.resolve(worker, found(worker)[0].id, Verdict.NOTED, "kim", "it is known")
    adhoc.charge(worker, FEE, "shop")
    collect_due(worker)
    assert gateway.sent == []
    assert charge_rows(worker)[0]["status"] == ChargeStatus.PAID


def test_a_charge_waits_while_the_gateway_does_not_answer_about_its_key(
    worker: Services, gateway: ScriptedGateway
) -> None:
    restored(worker)
    adhoc.charge(worker, FEE, "shop")
    gateway.ask_answer = NotSent("ConnectError")
    collect_due(worker)
    assert gateway.sent == []
    assert charge_rows(worker)[0]["next_attempt_at"] > worker.clock.now()
    gateway.ask_answer = None
    move(worker, minutes=1)
    collect_due(worker)
    assert [sent.merchant_uid for sent in gateway.sent] == [order(1).merchant_uid]
    assert charge_rows(worker)[0]["status"] == ChargeStatus.PAID


def test_a_charge_whose_earlier_attempt_is_not_finished_is_asked_about_and_not_queued_again(
    worker: Services, gateway: ScriptedGateway
) -> None:
    """Guard: the attempt's next question is the next action, so that no message comes for the charge meanwhile."""
    gateway.remember(order(1), "ready", "imps_1", at=worker.clock.now())
    restored(worker)
    adhoc.charge(worker, FEE, "shop")
    queued: list[enqueue.Queued] = []
    assert enqueue.top_up(worker, queued.extend) == 1
    collect_due(worker)
    (row,), (attempt,) = charge_rows(worker), attempt_rows(worker)
    assert (row["next_attempt_at"], row["queued_until"], row["held_why"]) == (None, None, None)
    assert attempt["state"] == AttemptState.UNKNOWN
    move_to(worker, attempt["next_ask_at"])
    assert enqueue.top_up(worker, queued.extend) == 0
    gateway.records[attempt["merchant_uid"]] = []
    gateway.remember(order(1), "paid", "imps_1")
    assert resolve_unknown.ask(worker, attempt["id"]) is AttemptState.PAID
    assert gateway.sent == []


def _asked_for_by_another(services: Services, number: int) -> int:
    """A charge for a customer of its own: of one card, one call leaves at a time."""
    uid = f"customer-{number}"
    enrollment.add_customer(services, uid, None, None, None, "test")
    return adhoc.charge(services, replace(FEE, customer_uid=uid, request_key=f"fee-{number}"), "shop").id


def test_answers_are_written_while_a_slow_gateway_is_asked_about_other_charges(services: Services) -> None:
    """Guard: look-ups have threads of their own; an answer that waited for them would outlast its lease.

    No envelope waits for them either: its charges are queued again, each after its look-up.
    """
    gateway = SlowToTell()
    slow = replace(services, gateways={"main": gateway})
    executor = Executor(slow)
    gateway.tells.set()
    restored(slow)
    gateway.tells.clear()
    gateway.asked.clear()
    many = executor_module.ASIDE + account_threads.PLACES
    ids = [_asked_for_by_another(slow, number) for number in range(many)]
    move(slow, days=1)
    on_sale(slow)
    subscribed(slow, "bob")
    open_charges.open_due(slow)
    renewal = next(row["id"] for row in charge_rows(slow) if row["kind"] == ChargeKind.RENEWAL)
    gateway.cards["bob"] = lambda order: Declined("[CC10]통장 잔액부족")
    with ThreadPoolExecutor(1) as pool:
        try:
            pool.submit(executor.begin_many(ids, "main").wait).result(30)
            assert wait_until(lambda: len(gateway.asked) >= account_threads.PLACES, 30)
            assert pool.submit(executor.attempt, renewal).result(30) is AttemptState.DECLINED
        finally:
            gateway.tells.set()
    assert wait_until(executor.look_ups.is_idle, 30)
    executor.begin_many(ids, "main").wait()
    assert len(gateway.sent) == many + 1


def test_a_charge_that_nobody_paid_is_asked_for_once_and_sent(worker: Services, gateway: ScriptedGateway) -> None:
    restored(worker)
    adhoc.charge(worker, FEE, "shop")
    collect_due(worker)
    assert gateway.asked == [order(1).merchant_uid]
    assert len(gateway.sent) == 1


def test_a_charge_is_held_while_a_finding_under_its_key_is_open(
    worker: Services, gateway: ScriptedGateway
) -> None:
    """The gateway's list shows the payment, and asking for the uid does not."""
    gateway.remember(order(1), "paid", "imps_1")
    restored(worker)
    gateway.records.clear()
    adhoc.charge(worker, FEE, "shop")
    collect_due(worker)
    assert gateway.sent == []
    assert "finding" in charge_rows(worker)[0]["held_why"]


def test_a_period_that_was_due_before_the_hold_ended_and_opens_later_is_asked_for(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Opening had set the subscription aside while the hold lasted."""
    on_sale(services)
    key = f"r{subscribed(services)}00000"
    with services.engine.begin() as db:
        db.exec_driver_sql("UPDATE subscriptions SET held_why = 'x', open_at = NULL")
    long_ago = services.clock.now() - timedelta(days=30)
    gateway.remember(order(1, key), "failed", "imps_1", at=long_ago)
    gateway.remember(order(2, key), "paid", "imps_2", at=long_ago)
    restore.begin_hold(services, "kim", "restored")
    move(services, seconds=services.settings.quiet_time)
    assert restore.lift_when_known(services) is None
    with services.engine.begin() as db:
        db.exec_driver_sql("UPDATE subscriptions SET held_why = NULL, open_at = next_due_at")
    open_charges.open_due(services)
    collect_due(services)
    assert gateway.sent == []
    assert charge_rows(services)[0]["status"] == ChargeStatus.PAID


def test_a_period_that_is_due_after_the_restore_is_not_asked_for(
    services: Services, gateway: ScriptedGateway
) -> None:
    restored(services)
    move(services, days=1)
    on_sale(services)
    subscribed(services, "bob")
    collect_due(services)
    assert len(gateway.sent) == 1
    assert gateway.asked == []


def test_a_charge_without_a_restore_is_not_asked_for(services: Services, gateway: ScriptedGateway) -> None:
    enrollment.add_customer(services, "ann", None, None, None, "test")
    adhoc.charge(services, FEE, "shop")
    collect(services, charge_rows(services)[0]["id"])
    assert gateway.asked == []
    assert len(gateway.sent) == 1


@pytest.mark.parametrize("answers", [True, False])
def test_a_typed_card_is_not_charged_under_a_key_that_was_used_or_cannot_be_asked_for(
    services: Services, gateway: ScriptedGateway, answers: bool
) -> None:
    gateway.remember(order(1), "failed", "imps_1", at=services.clock.now())
    gateway.remember(order(2), "paid", "imps_2", at=services.clock.now())
    restored(services)
    gateway.ask_answer = None if answers else NotSent("ConnectError")
    card = Card("4000000000001091", "2030-12", "900101", "12")
    with pytest.raises(CannotRequest, match="imps_2" if answers else "does not answer"):
        card_entry.pay(services, FEE, card, "kim", KeyedIn.ONCE)
    assert gateway.sent == []
