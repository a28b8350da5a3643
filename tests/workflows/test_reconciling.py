"""Reconciling against real PostgreSQL: each kind of finding is seeded, found once, and mended where it can be."""

from dataclasses import replace
from datetime import timedelta

import pytest

from schedules.charging.identity import merchant_uid
from schedules.charging.outcomes import Declined, NotSent, PaymentState, Unknown
from schedules.money.amounts import Money
from schedules.operations.findings import FindingKind, FindingState
from tests.doubles import ScriptedGateway
from tests.factories import attempt_rows, charge_rows, held_events, move, opened
from worker.charging import attempt_charge, match_payments, resolve_unknown
from worker.operations import operate
from worker.operations.operate import CannotOperate
from worker.reconciliation import reconciler, resolve_finding
from worker.reconciliation.resolve_finding import Verdict
from worker.services import Services
from worker.store.charging import kill_switch
from worker.store.reconciliation import findings, reconciliations
from worker.store.reconciliation.findings import Finding
from worker.store.reconciliation.reconciliations import Run, RunKind

HOUR = timedelta(hours=1)


def reconciled(services: Services, most: int = 1000) -> Run:
    """A whole run over the last two days."""
    now = services.clock.now()
    run = reconciler.begin_asked(services, "main", now - timedelta(days=2), now)
    worked = reconciler.work(services, run.id, most=most)
    assert worked is not None
    assert worked.ended_at is not None
    return worked


def found(services: Services) -> list[Finding]:
    """All findings, newest first."""
    with services.engine.begin() as db:
        return list(findings.listed(db, ended=True))


def only(services: Services) -> Finding:
    """The one finding."""
    (finding,) = found(services)
    return finding


def lost_answer(services: Services, gateway: ScriptedGateway, charge_id: int) -> None:
    """The money moves, and nobody hears of it."""

    def approve_in_silence(order: object) -> Unknown:
        gateway.approve(gateway.sent[-1])
        return Unknown("ReadTimeout")

    gateway.answers.append(approve_in_silence)
    attempt_charge.attempt(services, charge_id)


def test_books_that_agree_have_no_findings(services: Services) -> None:
    charge = opened(services)
    attempt_charge.attempt(services, charge)
    run = reconciled(services)
    assert (run.payments, run.findings) == (1, 0)
    assert found(services) == []


def test_lost_is_found_and_mended_by_settling_the_attempt(services: Services, gateway: ScriptedGateway) -> None:
    charge = opened(services)
    lost_answer(services, gateway, charge)
    reconciled(services)
    finding = only(services)
    assert (finding.kind, finding.state) == (FindingKind.LOST, FindingState.REPAIRED)
    assert charge_rows(services)[0]["status"] == "paid"
    assert attempt_rows(services)[0]["imp_uid"] == finding.imp_uid


def test_what_was_found_lost_and_settled_by_asking_since_is_over(
    services: Services, gateway: ScriptedGateway
) -> None:
    """The list was right, the gateway did not answer when it was to be mended, and asking was faster."""
    charge = opened(services)
    lost_answer(services, gateway, charge)
    gateway.ask_answer = NotSent("ConnectError")
    reconciled(services)
    assert only(services).state is FindingState.OPEN
    gateway.ask_answer = None
    move(services, seconds=11)
    resolve_unknown.ask(services, attempt_rows(services)[0]["id"])
    assert charge_rows(services)[0]["status"] == "paid"
    reconciled(services)
    assert (only(services).state, only(services).ended_why) == (FindingState.REPAIRED, "the books agree now")


def test_a_call_under_way_is_not_called_lost(services: Services, gateway: ScriptedGateway) -> None:
    charge = opened(services)

    def reconcile_meanwhile(order: object) -> object:
        paid = gateway.approve(gateway.sent[-1])
        reconciled(services)
        return paid

    gateway.answers.append(reconcile_meanwhile)  # type: ignore[arg-type]  # any callable will do
    attempt_charge.attempt(services, charge)
    assert found(services) == []
    assert charge_rows(services)[0]["status"] == "paid"


def test_late_paid_is_found_and_the_debt_is_not_tried_again(services: Services, gateway: ScriptedGateway) -> None:
    charge = opened(services)
    gateway.answers.append(Declined("은행 점검 중입니다"))
    attempt_charge.attempt(services, charge)
    gateway.approve(gateway.sent[0])
    reconciled(services)
    assert (only(services).kind, only(services).state) == (FindingKind.LATE_PAID, FindingState.REPAIRED)
    row = charge_rows(services)[0]
    assert (row["status"], row["next_attempt_at"]) == ("paid", None)
    move(services, days=2)
    attempt_charge.attempt(services, charge)
    assert len(gateway.sent) == 1


def paid_twice(services: Services, gateway: ScriptedGateway) -> int:
    """A declined attempt turns paid after its successor was paid."""
    charge = opened(services)
    gateway.answers.append(Declined("은행 점검 중입니다"))
    attempt_charge.attempt(services, charge)
    move(services, days=1)
    attempt_charge.attempt(services, charge)
    gateway.remember(gateway.sent[0], "paid", "imps_late")
    return charge


def test_double_is_found_stops_the_account_and_waits_for_approval(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Crash row 16."""
    paid_twice(services, gateway)
    reconciled(services)
    finding = only(services)
    assert (finding.kind, finding.state, finding.imp_uid) == (FindingKind.DOUBLE, FindingState.OPEN, "imps_late")
    assert finding.balance == 9900
    with services.engine.begin() as db:
        assert kill_switch.stopped_by(db, "main") == "again"
    assert gateway.cancellations == []


def test_a_uid_that_was_paid_twice_is_a_double_of_the_payment_that_our_books_do_not_name(
    services: Services, gateway: ScriptedGateway
) -> None:
    charge = opened(services)
    attempt_charge.attempt(services, charge)
    gateway.remember(gateway.sent[0], "paid", "imps_other")
    reconciled(services)
    assert (only(services).kind, only(services).imp_uid) == (FindingKind.DOUBLE, "imps_other")


def test_two_payments_found_by_asking_are_a_finding_at_once(services: Services, gateway: ScriptedGateway) -> None:
    charge = opened(services)
    lost_answer(services, gateway, charge)
    gateway.remember(gateway.sent[0], "paid", "imps_other")
    move(services, seconds=11)
    resolve_unknown.ask(services, attempt_rows(services)[0]["id"])
    assert charge_rows(services)[0]["status"] == "paid"
    double = next(finding for finding in found(services) if finding.kind is FindingKind.DOUBLE)
    assert double.state is FindingState.OPEN
    assert double.imp_uid != attempt_rows(services)[0]["imp_uid"]
    assert [f.kind for f in found(services) if not f.state.is_over] == [FindingKind.DOUBLE]
    with services.engine.begin() as db:
        assert kill_switch.stopped_by(db, "main") == "again"


def test_one_debt_whose_row_breaks_a_rule_is_set_aside_and_the_others_are_compared(
    services: Services, gateway: ScriptedGateway
) -> None:
    charge = opened(services)
    lost_answer(services, gateway, charge)
    with services.engine.begin() as db:
        db.exec_driver_sql("UPDATE charges SET currency = 'XXX'")
    gateway.remember(replace(gateway.sent[0], merchant_uid="order-1"), "paid", "imps_x")
    reconciled(services)
    assert {finding.kind for finding in found(services)} == {FindingKind.LOST, FindingKind.ORPHAN}
    assert charge_rows(services)[0]["held_why"]


def test_a_repair_that_stops_at_a_row_that_breaks_a_rule_sends_the_event_of_the_hold_once(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Guard: the finding's hold is set before the repair, without an event."""
    lost_answer(services, gateway, opened(services))
    with services.engine.begin() as db:
        db.exec_driver_sql("UPDATE charges SET currency = 'XXX'")
    reconciled(services)
    reconciled(services)
    row = charge_rows(services)[0]
    assert row["held_why"].startswith("finding 1: ")
    assert "its row breaks a rule" in row["held_why"]
    assert held_events(services) == [row["key"]]


def test_the_hold_of_a_finding_that_is_open_again_has_its_own_event(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Guard: a second hold with the words of the first is not silent."""
    lost_answer(services, gateway, opened(services))
    with services.engine.begin() as db:
        db.exec_driver_sql("UPDATE charges SET currency = 'XXX'")
    reconciled(services)
    now, state = services.clock.now(), FindingState.REPAIRED
    with services.engine.begin() as db:
        findings.change(db, only(services), state, ended_at=now, ended_by="kim", ended_why="mended")
        db.exec_driver_sql("UPDATE charges SET held_why = NULL")
    reconciled(services)
    reconciled(services)
    row = charge_rows(services)[0]
    assert row["held_why"].startswith("finding 1: ")
    assert held_events(services) == [row["key"]] * 2
    resolve_unknown.sweep(services)  # which looks for a hold without an event
    assert held_events(services) == [row["key"]] * 2


def test_a_finding_ends_though_the_row_of_its_debt_breaks_a_rule(
    services: Services, gateway: ScriptedGateway
) -> None:
    """The rest of the gateway's list is compared, and the debt waits for a person."""
    charge = opened(services)
    gateway.answers.append(Declined("은행 점검 중입니다"))
    attempt_charge.attempt(services, charge)
    gateway.approve(gateway.sent[0])
    gateway.ask_answer = NotSent("ConnectError")
    reconciled(services)
    gateway.ask_answer = None
    cancelled_there(gateway, 9900)
    with services.engine.begin() as db:
        db.exec_driver_sql("UPDATE charges SET currency = 'XXX'")
    reconciled(services)
    assert only(services).state is FindingState.REPAIRED
    row = charge_rows(services)[0]
    assert "finding 1 has ended" in row["held_why"]
    assert held_events(services) == [row["key"], row["key"]]


def test_a_payment_in_doubt_that_was_given_back_is_for_a_person(
    services: Services, gateway: ScriptedGateway
) -> None:
    charge = opened(services)
    lost_answer(services, gateway, charge)
    cancelled_there(gateway, 9900)
    reconciled(services)
    finding = only(services)
    assert (finding.kind, finding.state) == (FindingKind.REFUND_DRIFT, FindingState.OPEN)
    resolve_finding.resolve(services, finding.id, Verdict.UNPAID, "kim", "the shop gave it back")
    assert attempt_rows(services)[0]["state"] == "declined"
    assert charge_rows(services)[0]["held_why"] is None


def test_a_debt_with_an_open_finding_is_not_released(services: Services, gateway: ScriptedGateway) -> None:
    """A person at the list of held charges must not send what was paid already."""
    charge = opened(services)
    gateway.answers.append(Declined("은행 점검 중입니다"))
    attempt_charge.attempt(services, charge)
    gateway.approve(gateway.sent[0])
    gateway.ask_answer = NotSent("ConnectError")
    reconciled(services)
    key = charge_rows(services)[0]["key"]
    assert charge_rows(services)[0]["held_why"]
    with pytest.raises(CannotOperate, match="has finding 1, late_paid"):
        operate.release(services, key, "kim", "x")
    gateway.ask_answer = None
    reconciled(services)
    assert charge_rows(services)[0]["status"] == "paid"


def test_a_debt_whose_finding_ended_without_a_payment_is_set_aside_with_an_event(
    services: Services, gateway: ScriptedGateway
) -> None:
    """A late payment was found, the look-up failed, and a person gave it back in the gateway's console."""
    charge = opened(services)
    gateway.answers.append(Declined("은행 점검 중입니다"))
    attempt_charge.attempt(services, charge)
    gateway.approve(gateway.sent[0])
    gateway.ask_answer = NotSent("ConnectError")
    reconciled(services)
    reconciled(services)
    key = charge_rows(services)[0]["key"]
    assert held_events(services) == [key], "while the finding is open"
    gateway.ask_answer = None
    cancelled_there(gateway, 9900)
    reconciled(services)
    reconciled(services)
    assert only(services).state is FindingState.REPAIRED
    assert "finding 1 has ended" in charge_rows(services)[0]["held_why"]
    assert held_events(services) == [key, key]
    operate.release(services, key, "kim", "the customer shall pay it")
    move(services, days=1)
    attempt_charge.attempt(services, charge)
    assert charge_rows(services)[0]["status"] == "paid"


def test_ghost_is_confirmed_by_asking_for_the_uid(services: Services, gateway: ScriptedGateway) -> None:
    charge = opened(services)
    attempt_charge.attempt(services, charge)
    uid = gateway.sent[0].merchant_uid
    gateway.records.clear()
    move(services, minutes=5)
    reconciled(services)
    finding = only(services)
    assert (finding.kind, finding.state, finding.merchant_uid) == (FindingKind.GHOST, FindingState.OPEN, uid)
    assert uid in gateway.asked


def test_a_payment_that_only_the_list_leaves_out_is_no_ghost(services: Services, gateway: ScriptedGateway) -> None:
    charge = opened(services)
    attempt_charge.attempt(services, charge)
    uid = gateway.sent[0].merchant_uid
    (payment,) = gateway.records[uid]
    gateway.records[uid] = [replace(payment, paid_at=services.clock.now() - timedelta(days=30))]
    move(services, minutes=5)
    reconciled(services)
    assert found(services) == []


@pytest.mark.parametrize("state", [PaymentState.READY, PaymentState.OTHER])
def test_a_payment_in_a_state_that_says_nothing_is_no_ghost(
    services: Services, gateway: ScriptedGateway, state: PaymentState
) -> None:
    """The gateway has it, so the finding that it has none would be wrong."""
    attempt_charge.attempt(services, opened(services))
    uid = gateway.sent[0].merchant_uid
    (payment,) = gateway.records[uid]
    gateway.records[uid] = [replace(payment, state=state)]
    move(services, minutes=5)
    reconciled(services)
    assert found(services) == []


def test_amount_is_found_and_the_debt_waits_for_a_person(services: Services, gateway: ScriptedGateway) -> None:
    charge = opened(services)
    gateway.answers.append(Declined("은행 점검 중입니다"))
    attempt_charge.attempt(services, charge)
    gateway.remember(gateway.sent[0], "paid", "imps_more", money=Money(10_000, "KRW"))
    reconciled(services)
    finding = only(services)
    assert (finding.kind, finding.state, finding.amount) == (FindingKind.AMOUNT, FindingState.OPEN, 10_000)
    assert charge_rows(services)[0]["held_why"] == finding.words


def test_a_payment_with_another_customers_card_is_found_and_the_debt_is_not_called_paid(
    services: Services, gateway: ScriptedGateway
) -> None:
    charge = opened(services)
    gateway.answers.append(Unknown("ReadTimeout"))
    attempt_charge.attempt(services, charge)
    gateway.remember(replace(gateway.sent[0], customer_uid="bob"), "paid")
    reconciled(services)
    finding = only(services)
    assert (finding.kind, finding.state) == (FindingKind.AMOUNT, FindingState.OPEN)
    assert finding.words == "another customer's card was charged: customer_uid 'bob'"
    row = charge_rows(services)[0]
    assert (row["status"], row["held_why"]) == ("open", finding.words)


@pytest.mark.parametrize("for_tests", [False, True])
def test_a_payment_of_a_test_channel_is_late_only_at_an_account_for_tests(
    services: Services, gateway: ScriptedGateway, *, for_tests: bool
) -> None:
    made = replace(services, settings=services.settings.model_copy(update={"sandbox": for_tests}))
    charge = opened(made)
    gateway.answers.append(Declined("은행 점검 중입니다"))
    attempt_charge.attempt(made, charge)
    gateway.remember(gateway.sent[0], "paid")
    uid = gateway.sent[0].merchant_uid
    listed = [replace(payment, sandbox=True) for payment in gateway.records[uid]]
    match_payments.compare(made, "main", listed)
    assert [finding.kind for finding in found(made)] == ([FindingKind.LATE_PAID] if for_tests else [])


@pytest.mark.parametrize("uid", ["order-77", merchant_uid("stag", "r" + "0" * 25, 1)])
def test_orphan_is_a_billing_keys_payment_that_is_not_ours(
    services: Services, gateway: ScriptedGateway, uid: str
) -> None:
    charge = opened(services)
    attempt_charge.attempt(services, charge)
    gateway.remember(replace(gateway.sent[0], merchant_uid=uid), "paid", "imps_x")
    reconciled(services)
    assert (only(services).kind, only(services).merchant_uid) == (FindingKind.ORPHAN, uid)


def test_a_payment_of_the_shops_own_window_is_no_finding(services: Services, gateway: ScriptedGateway) -> None:
    charge = opened(services)
    attempt_charge.attempt(services, charge)
    gateway.remember(replace(gateway.sent[0], merchant_uid="order-77"), "paid", "imps_x")
    (payment,) = gateway.records["order-77"]
    gateway.records["order-77"] = [replace(payment, customer_uid=None)]
    reconciled(services)
    assert found(services) == []


def test_a_payment_for_a_debt_that_the_books_lack_is_lost_and_open(
    services: Services, gateway: ScriptedGateway
) -> None:
    charge = opened(services)
    attempt_charge.attempt(services, charge)
    uid = merchant_uid("test", "r" + "0" * 25, 1)
    gateway.remember(replace(gateway.sent[0], merchant_uid=uid), "paid", "imps_x")
    reconciled(services)
    assert (only(services).kind, only(services).state) == (FindingKind.LOST, FindingState.OPEN)


def cancelled_there(gateway: ScriptedGateway, amount: int) -> None:
    """Somebody gives money back in the gateway's console."""
    uid = gateway.sent[0].merchant_uid
    (payment,) = gateway.records[uid]
    gateway.records[uid] = [replace(payment, state=PaymentState.CANCELLED, cancelled_amount=amount)]


def test_refund_drift_is_found(services: Services, gateway: ScriptedGateway) -> None:
    charge = opened(services)
    attempt_charge.attempt(services, charge)
    cancelled_there(gateway, 400)
    reconciled(services)
    finding = only(services)
    assert (finding.kind, finding.balance) == (FindingKind.REFUND_DRIFT, 9500)


def test_what_test_channels_give_back_at_night_is_no_finding(services: Services, gateway: ScriptedGateway) -> None:
    sandbox = replace(services, settings=services.settings.model_copy(update={"sandbox": True}))
    charge = opened(sandbox)
    attempt_charge.attempt(sandbox, charge)
    cancelled_there(gateway, 9900)
    reconciled(sandbox)
    assert found(sandbox) == []


def test_a_finding_is_written_once_however_often_it_is_seen(services: Services, gateway: ScriptedGateway) -> None:
    paid_twice(services, gateway)
    first = reconciled(services)
    move(services, hours=1)
    second = reconciled(services)
    assert (first.findings, second.findings) == (1, 0)
    assert len(found(services)) == 1


def test_a_run_that_was_stopped_goes_on_where_it_was(services: Services, gateway: ScriptedGateway) -> None:
    """Whoever works on it: the place is in the row, and each window is read in full or again."""
    many_payments(services, gateway, 30)
    now = services.clock.now()
    run = reconciler.begin_asked(services, "main", now - timedelta(days=2), now)
    looks = iter([True] * 8 + [False])
    stopped = reconciler.work(services, run.id, lambda: next(looks), most=4)
    assert stopped is not None
    assert stopped.since < stopped.done_until < stopped.until
    before = len(gateway.listed)
    again = reconciler.begin_asked(services, "main", stopped.since, stopped.until)
    assert again.id == run.id
    assert reconciler.work(services, run.id) is not None
    assert all(since >= stopped.done_until for _, since, _, _ in gateway.listed[before:])
    assert len(found(services)) == 31  # the last is the ghost of the payment that many_payments made away with


def many_payments(services: Services, gateway: ScriptedGateway, count: int) -> None:
    """Payments of a billing key that are not ours, one an hour."""
    attempt_charge.attempt(services, opened(services))
    order = gateway.sent[0]
    gateway.records.clear()
    move(services, hours=count)
    for hour in range(count):
        uid = f"foreign-{hour}"
        at = services.clock.now() - hour * HOUR
        gateway.remember(replace(order, merchant_uid=uid), "paid", f"imps_f{hour}", at=at)
        gateway.records[uid][0] = replace(gateway.records[uid][0], paid_at=at)


def test_a_window_with_too_many_payments_is_cut_so_that_memory_is_bounded(
    services: Services, gateway: ScriptedGateway
) -> None:
    many_payments(services, gateway, 30)
    reconciled(services, most=4)
    assert len([f for f in found(services) if f.kind is FindingKind.ORPHAN]) == 30
    spans = {(since, until) for _, since, until, _ in gateway.listed}
    assert min(until - since for since, until in spans) <= 4 * HOUR


def test_a_gateway_that_does_not_answer_is_asked_again_from_the_same_place(
    services: Services, gateway: ScriptedGateway
) -> None:
    paid_twice(services, gateway)
    gateway.list_answer = NotSent("ConnectError")
    now = services.clock.now()
    run = reconciler.begin_asked(services, "main", now - timedelta(days=2), now)
    waiting = reconciler.work(services, run.id)
    assert waiting is not None
    assert (waiting.done_until, waiting.words, waiting.ended_at) == (run.since, "ConnectError", None)
    gateway.list_answer = None
    over = reconciler.work(services, run.id)
    assert over is not None
    assert over.ended_at is not None
    assert only(services).kind is FindingKind.DOUBLE


def test_two_processes_do_not_work_on_one_run(services: Services, gateway: ScriptedGateway) -> None:
    now = services.clock.now()
    run = reconciler.begin_asked(services, "main", now - timedelta(days=2), now)
    others: list[Run | None] = []

    def let_another_try() -> bool:
        others.append(reconciler.work(services, run.id))
        return True

    reconciler.work(services, run.id, let_another_try)
    assert others
    assert all(other is None for other in others)


def test_a_run_whose_process_died_goes_on_after_its_lease(services: Services) -> None:
    now = services.clock.now()
    run = reconciler.begin_asked(services, "main", now - timedelta(days=2), now)

    def die() -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reconciler.work(services, run.id, die)
    assert reconciler.work(services, run.id) is None
    move(services, minutes=11)
    over = reconciler.work(services, run.id)
    assert over is not None
    assert over.ended_at is not None


def test_the_hourly_and_the_daily_run_begin_when_their_time_has_come(services: Services) -> None:
    def runs() -> int:
        reconciler.begin_due(services, "main")
        reconciler.go_on(services, "main")
        with services.engine.begin() as db:
            newest = [reconciliations.newest(db, "main", kind) for kind in (RunKind.HOURLY, RunKind.DAILY)]
        ids = [run.id for run in newest if run is not None and run.ended_at is not None]
        assert len(ids) == 2
        return max(ids)

    first = runs()
    assert runs() == first
    move(services, hours=1)
    second = runs()
    assert second == first + 1
    move(services, days=3)
    assert runs() == second + 2


def test_one_payment_that_cannot_be_mended_keeps_no_other_from_it(
    services: Services, gateway: ScriptedGateway
) -> None:
    charge = opened(services)
    lost_answer(services, gateway, charge)
    gateway.remember(replace(gateway.sent[0], merchant_uid="order-1"), "paid", "imps_x")
    payments = [payment for listed in gateway.records.values() for payment in listed]
    gateway.ask_answer = NotSent("ConnectError")
    assert match_payments.compare(services, "main", payments) == 2
    assert {finding.state for finding in found(services)} == {FindingState.OPEN}
    gateway.ask_answer = None
    reconciled(services)
    assert {f.kind: f.state for f in found(services)} == {
        FindingKind.LOST: FindingState.REPAIRED, FindingKind.ORPHAN: FindingState.OPEN,
    }  # fmt: skip
