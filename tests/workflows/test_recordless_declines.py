"""A decline of which the gateway keeps no record says nothing of an earlier sending of its merchant_uid."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from schedules.charging.charges import AttemptState, ChargeStatus
from schedules.charging.outcomes import Declined, NotSent, Unknown
from schedules.money.amounts import Money
from schedules.requests.adhoc import ChargeRequest
from tests.doubles import ScriptedGateway
from tests.factories import attempt_rows, charge_rows, collect_due, move, move_to, opened
from worker.charging import adhoc as by_request
from worker.charging import attempt_charge, prior_attempts, resolve_unknown
from worker.charging.executor import Executor
from worker.charging.settle import settle
from worker.customers import cards, enrollment
from worker.operations import operate
from worker.services import Services
from worker.store.charging import attempts
from worker.store.charging.attempts import Attempt

NO_KEY = Declined("등록되지 않은 구매자입니다.")  # refused before the gateway looks at the uid: no imp_uid
MONEY_SHORT = Declined("[CC10]통장 잔액부족")
FEE = ChargeRequest(
    customer_uid="ann", money=Money(9900, "KRW"), name="연체 수수료", request_key="fee-2026-01", reason="late",
    policy="standard",
)  # fmt: skip


@pytest.fixture(params=["alone", "in a group"])
def worker(services: Services, request: pytest.FixtureRequest) -> Services:
    """A worker process that sends charges one by one, and one that sends them in groups."""
    return replace(services, executor=Executor(services)) if request.param == "in a group" else services


def renewal(services: Services) -> int:
    """A renewal that is due."""
    return opened(services)


def adhoc(services: Services) -> int:
    """A charge that another backend has asked for."""
    enrollment.add_customer(services, "ann", None, None, None, "test")
    by_request.charge(services, FEE, "shop")
    return int(charge_rows(services)[0]["id"])


def try_when_due(services: Services) -> AttemptState | None:
    """Move to the charge's next try, and make it."""
    row = charge_rows(services)[0]
    move_to(services, max(services.clock.now(), row["next_attempt_at"]))
    return attempt_charge.attempt(services, row["id"])


def declined_after_doubt(
    services: Services, gateway: ScriptedGateway, charge_id: int, answer: Declined = MONEY_SHORT
) -> None:
    """An attempt whose first sending stays unclear, and whose second one is declined without a record."""
    gateway.answers.extend([Unknown("ReadTimeout"), answer])
    assert attempt_charge.attempt(services, charge_id) is AttemptState.UNKNOWN
    while attempt_rows(services)[0]["state"] == AttemptState.UNKNOWN.value:
        move_to(services, attempt_rows(services)[0]["next_ask_at"])
        resolve_unknown.ask(services, attempt_rows(services)[0]["id"])
    assert try_when_due(services) is AttemptState.DECLINED
    (attempt,) = attempt_rows(services)
    assert (attempt["sends"], attempt["imp_uid"]) == (2, None)
    gateway.asked.clear()


@pytest.mark.parametrize("kind", [renewal, adhoc])
def test_a_late_payment_of_the_first_sending_is_found_before_a_new_uid_leaves(
    worker: Services, gateway: ScriptedGateway, kind: Callable[[Services], int]
) -> None:
    """Guard: the decline of the second sending does not end the doubt about the first one."""
    declined_after_doubt(worker, gateway, kind(worker))
    gateway.remember(gateway.sent[0], "paid", "imps_late", at=worker.clock.now())
    try_when_due(worker)
    assert len(gateway.sent) == 2
    assert charge_rows(worker)[0]["status"] == ChargeStatus.PAID
    (attempt,) = attempt_rows(worker)
    assert (attempt["state"], attempt["imp_uid"]) == ("paid", "imps_late")


def test_without_a_late_payment_a_new_uid_leaves_and_the_earlier_one_is_asked_about_before_each(
    worker: Services, gateway: ScriptedGateway
) -> None:
    """Guard: one answer does not end the doubt: before each further uid the gateway is asked again."""
    declined_after_doubt(worker, gateway, renewal(worker))
    first = gateway.sent[0].merchant_uid
    gateway.answers.append(MONEY_SHORT)
    assert try_when_due(worker) is AttemptState.DECLINED
    assert gateway.asked.count(first) == 1
    gateway.remember(gateway.sent[0], "paid", "imps_late", at=worker.clock.now())
    try_when_due(worker)
    assert gateway.asked.count(first) == 2
    assert len(gateway.sent) == 3
    assert charge_rows(worker)[0]["status"] == ChargeStatus.PAID


@pytest.mark.parametrize("status", ["ready", "paid"])
def test_nothing_leaves_while_it_is_unclear_whether_the_first_sending_is_paid(
    worker: Services, gateway: ScriptedGateway, status: str
) -> None:
    """Guard: no answer, and a payment that is not finished, leave the doubt."""
    declined_after_doubt(worker, gateway, renewal(worker))
    gateway.unanswered.add(gateway.sent[0].merchant_uid)
    assert try_when_due(worker) is None
    assert charge_rows(worker)[0]["next_attempt_at"] > worker.clock.now()
    gateway.unanswered.clear()
    gateway.remember(gateway.sent[0], status, at=worker.clock.now())
    assert try_when_due(worker) is None
    assert len(gateway.sent) == 2
    states = {"ready": ("open", "unknown"), "paid": ("paid", "paid")}
    status_now = charge_rows(worker)[0]["status"].replace("past_due", "open")
    assert (status_now, attempt_rows(worker)[0]["state"]) == states[status]


def test_a_changed_card_is_not_charged_before_the_earlier_uid_is_asked_about(
    worker: Services, gateway: ScriptedGateway
) -> None:
    """Guard: a card change brings the next attempt at once."""
    declined_after_doubt(worker, gateway, renewal(worker), NO_KEY)
    gateway.remember(gateway.sent[0], "paid", "imps_late", at=worker.clock.now())
    cards.changed(worker, "ann", "shop", "a new card", believed=True)
    assert charge_rows(worker)[0]["next_attempt_at"] <= worker.clock.now()
    collect_due(worker)
    assert len(gateway.sent) == 2
    assert charge_rows(worker)[0]["status"] == ChargeStatus.PAID


def test_a_persons_try_is_not_sent_before_the_earlier_uid_is_asked_about(
    worker: Services, gateway: ScriptedGateway
) -> None:
    declined_after_doubt(worker, gateway, renewal(worker))
    gateway.remember(gateway.sent[0], "paid", "imps_late", at=worker.clock.now())
    operate.try_now(worker, charge_rows(worker)[0]["key"], "kim", "the customer asked")
    collect_due(worker)
    assert len(gateway.sent) == 2
    assert charge_rows(worker)[0]["status"] == ChargeStatus.PAID


def test_an_answer_does_not_last_while_the_process_is_frozen_before_its_claim(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Guard: the payment may show between the answer and a claim that comes long after it."""
    charge_id = renewal(services)
    declined_after_doubt(services, gateway, charge_id)
    move_to(services, charge_rows(services)[0]["next_attempt_at"])
    assert prior_attempts.ask_before_sending(services, charge_id)
    move(services, minutes=2)
    gateway.remember(gateway.sent[0], "paid", "imps_late", at=services.clock.now())
    assert isinstance(attempt_charge.claim_without_asking(services, charge_id), attempt_charge.Unasked)
    assert attempt_charge.attempt(services, charge_id) is None
    assert len(gateway.sent) == 2


def test_an_unsent_second_uid_is_not_sent_before_the_first_is_asked_about(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Guard: a uid that was claimed and given back is as new to the gateway as one that was never written."""
    declined_after_doubt(services, gateway, renewal(services))
    gateway.answers.append(NotSent("ConnectError"))
    assert try_when_due(services) is AttemptState.NOT_SENT
    move(services, minutes=2)
    gateway.remember(gateway.sent[0], "ready", at=services.clock.now())
    assert try_when_due(services) is None
    assert [row["state"] for row in attempt_rows(services)] == ["declined", "not_sent"]
    gateway.records.clear()
    gateway.remember(gateway.sent[0], "paid", "imps_late", at=services.clock.now())
    assert try_when_due(services) is None
    assert len(gateway.sent) == 3
    assert charge_rows(services)[0]["status"] == ChargeStatus.PAID


def test_the_cap_of_the_card_counts_such_a_decline(services: Services, gateway: ScriptedGateway) -> None:
    charge_id = renewal(services)
    declined_after_doubt(services, gateway, charge_id)
    row = charge_rows(services)[0]
    with services.engine.begin() as db:
        times = attempts.declined_times(db, row["billing_key_id"], services.clock.now() - timedelta(days=30), 9)
    assert times == [attempt_rows(services)[0]["settled_at"]]
    assert row["declines"] == 1


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_record_that_holds_no_money_keeps_no_new_uid_from_leaving_and_counts_no_second_decline(
    services: Services, gateway: ScriptedGateway, status: str
) -> None:
    declined_after_doubt(services, gateway, renewal(services))
    gateway.remember(gateway.sent[0], status, "imps_f", at=services.clock.now())
    (record,) = gateway.records[gateway.sent[0].merchant_uid]
    if status == "cancelled":
        gateway.records[record.merchant_uid] = [replace(record, cancelled_amount=record.amount)]
    assert try_when_due(services) is AttemptState.PAID
    assert len(gateway.sent) == 3
    assert charge_rows(services)[0]["declines"] == 1


def test_a_payment_with_another_amount_sets_the_charge_aside(services: Services, gateway: ScriptedGateway) -> None:
    declined_after_doubt(services, gateway, renewal(services))
    gateway.remember(gateway.sent[0], "paid", "imps_late", at=services.clock.now(), money=Money(1, "KRW"))
    assert try_when_due(services) is None
    assert len(gateway.sent) == 2
    assert charge_rows(services)[0]["held_why"] is not None


def test_a_first_sending_that_was_declined_is_not_asked_about(
    services: Services, gateway: ScriptedGateway
) -> None:
    charge_id = renewal(services)
    gateway.answers.append(MONEY_SHORT)
    assert attempt_charge.attempt(services, charge_id) is AttemptState.DECLINED
    assert try_when_due(services) is AttemptState.PAID
    assert gateway.asked == []


def test_a_record_in_a_text_that_decides_nothing_keeps_the_uid(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Guard: such a record may be of a payment, and the gateway refuses a uid that is paid, but no new one."""
    declined_after_doubt(services, gateway, renewal(services))
    gateway.remember(gateway.sent[0], "failed", "imps_f", at=services.clock.now(), reason="취소확인요망")
    assert try_when_due(services) is None
    while attempt_rows(services)[0]["state"] == AttemptState.UNKNOWN.value:
        move_to(services, attempt_rows(services)[0]["next_ask_at"])
        resolve_unknown.ask(services, attempt_rows(services)[0]["id"])
    try_when_due(services)
    assert {order.merchant_uid for order in gateway.sent} == {gateway.sent[0].merchant_uid}


def test_an_answer_that_was_not_written_is_asked_for_again(
    services: Services, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: another process takes the attempt before the answer is written, and ends before it writes its own."""
    declined_after_doubt(services, gateway, renewal(services))
    gateway.remember(gateway.sent[0], "ready", at=services.clock.now())

    def settle_too_late(services: Services, attempt: Attempt, *answer: Any) -> AttemptState | None:
        with services.engine.begin() as db:
            assert attempts.take(db, attempt.id, AttemptState.DECLINED, services.clock.now())
        return settle(services, attempt, *answer)

    with monkeypatch.context() as patched:
        patched.setattr(prior_attempts, "settle", settle_too_late)
        assert try_when_due(services) is None
    assert try_when_due(services) is None
    assert len(gateway.sent) == 2
    assert [row["state"] for row in attempt_rows(services)] == ["unknown"]
