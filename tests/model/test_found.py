"""What the model found in the product, and what was mended since: each as the shortest schedule that shows it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from schedules.charging.identity import merchant_uid
from schedules.charging.outcomes import Declined, Unknown
from schedules.money.amounts import Money
from schedules.operations.findings import FindingState
from tests.doubles import ScriptedGateway
from tests.factories import charge_rows, collect_due, move, opened
from worker.charging import attempt_charge, resolve_unknown
from worker.gateway.port import ChargeOrder
from worker.reconciliation import reconciler, restore
from worker.services import Services
from worker.store.charging import kill_switch
from worker.store.reconciliation import findings


@pytest.fixture
def second_uid(services: Services) -> ChargeOrder:
    """A debt of a restored backup; since then its first attempt was refused, of which the gateway keeps nothing.

    Answers the order of the second attempt, which these books know nothing of either.
    """
    opened(services)
    restore.begin_hold(services, "kim", "restored last night's backup")
    move(services, seconds=services.settings.quiet_time)
    uid = merchant_uid("test", charge_rows(services)[0]["key"], 2)
    return ChargeOrder("ann", uid, Money(9900, "KRW"), "월간 구독")


def lift_hold(services: Services) -> None:
    """Go on with the hold until it is over."""
    assert restore.lift_when_known(services) is None
    with services.engine.begin() as db:
        assert kill_switch.hold(db) is None


def test_a_payment_that_could_not_be_mended_at_once_is_not_charged_again_after_the_hold(
    services: Services, gateway: ScriptedGateway, second_uid: ChargeOrder
) -> None:
    gateway.remember(second_uid, "paid", "imps_x", at=services.clock.now() - timedelta(minutes=30))
    gateway.ask_answer = Unknown("503")  # the list is answered, the question about the uid is not
    assert restore.lift_when_known(services) is not None
    gateway.ask_answer = None
    lift_hold(services)
    collect_due(services)
    assert gateway.sent == []


def test_a_debt_that_was_paid_twice_before_the_restore_is_not_charged_a_third_time(
    services: Services, gateway: ScriptedGateway, second_uid: ChargeOrder
) -> None:
    """Crash row 11, and then row 14."""
    for imp_uid in ("imps_x", "imps_y"):
        gateway.remember(second_uid, "paid", imp_uid, at=services.clock.now() - timedelta(minutes=30))
    lift_hold(services)
    collect_due(services)
    assert gateway.sent == []


def test_an_unclear_attempt_after_the_backup_does_not_break_the_hold(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Guard: one_unresolved_attempt_for_each_charge, which two unknown attempts of one debt run into."""
    charge = opened(services)
    gateway.answers.append(Unknown("ReadTimeout"))
    attempt_charge.attempt(services, charge)
    restore.begin_hold(services, "kim", "restored last night's backup")
    (first,) = gateway.sent
    gateway.remember(first, "failed", "imps_1", at=services.clock.now())
    second = replace(first, merchant_uid=merchant_uid("test", charge_rows(services)[0]["key"], 2))
    gateway.remember(second, "failed", "imps_2", at=services.clock.now(), unclear=True)
    move(services, seconds=services.settings.quiet_time)
    lift_hold(services)


def test_a_finding_that_the_books_agree_with_by_now_is_over(services: Services, gateway: ScriptedGateway) -> None:
    charge = opened(services)

    def approve_in_silence(order: ChargeOrder) -> Unknown:
        gateway.approve(order)
        return Unknown("ReadTimeout")

    gateway.answers.append(approve_in_silence)
    attempt_charge.attempt(services, charge)
    gateway.ask_answer = Unknown("503")
    _reconcile(services)
    gateway.ask_answer = None
    move(services, seconds=11)
    for attempt_id in resolve_unknown.due_asks(services):
        resolve_unknown.ask(services, attempt_id)
    assert charge_rows(services)[0]["status"] == "paid"
    _reconcile(services)
    with services.engine.begin() as db:
        (finding,) = findings.listed(db, ended=True)
    assert finding.state is not FindingState.OPEN


def _reconcile(services: Services) -> None:
    now = services.clock.now()
    run = reconciler.begin_asked(services, "main", now - timedelta(days=2), now)
    reconciler.work(services, run.id)


def test_two_unclear_attempts_after_the_backup_do_not_break_the_hold(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Guard: one_unresolved_attempt_for_each_charge. The second was sent, so the first had failed."""
    opened(services)
    restore.begin_hold(services, "kim", "restored last night's backup")
    for number in (1, 2):
        uid = merchant_uid("test", charge_rows(services)[0]["key"], number)
        order = ChargeOrder("ann", uid, Money(9900, "KRW"), "월간 구독")
        gateway.remember(order, "failed", f"imps_{number}", at=services.clock.now(), unclear=True)
    move(services, seconds=services.settings.quiet_time)
    lift_hold(services)


def test_two_late_payments_of_one_debt_do_not_break_the_reconciler(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Guard: one_unresolved_attempt_for_each_charge; a second payment ends as unknown beside the unknown third."""
    charge = opened(services)
    gateway.answers.extend([Declined("no"), Declined("no"), Unknown("ReadTimeout")])
    for _ in range(3):
        attempt_charge.attempt(services, charge)
        move(services, days=3)
    for number, order in enumerate(gateway.sent[:2]):
        gateway.remember(order, "paid", f"imps_late_{number}", at=services.clock.now() - timedelta(hours=1))
    _reconcile(services)
