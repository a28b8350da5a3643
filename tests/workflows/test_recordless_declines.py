"""The decline of a merchant_uid that was sent again says nothing of its earlier sending."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from schedules.charging.charges import AttemptState, ChargeStatus
from schedules.charging.outcomes import Declined, NotSent, PaymentState, Unknown
from schedules.money.amounts import Money
from schedules.outbox.events import AttemptUnknown
from schedules.requests.adhoc import ChargeRequest
from tests.doubles import ScriptedGateway
from tests.factories import (
    attempt_rows,
    charge_rows,
    collect,
    collect_due,
    held_events,
    in_an_executor,
    move,
    move_to,
    opened,
)
from worker.charging import adhoc as by_request
from worker.charging import attempt_charge, prior_attempts, resolve_unknown
from worker.charging.claim import Unasked
from worker.charging.settle import settle
from worker.customers import cards, enrollment
from worker.gateway.port import Found, NoAnswer
from worker.operations import operate
from worker.reconciliation import restore
from worker.services import Services
from worker.store.charging import attempts, declines
from worker.store.charging.attempts import Attempt
from worker.store.reconciliation import findings
from worker.store.tables import outbox

NO_KEY = Declined("등록되지 않은 구매자입니다.")  # refused before the gateway looks at the uid: no imp_uid
MONEY_SHORT = Declined("[CC10]통장 잔액부족")
UNCLEAR = "취소확인요망"  # a text that decides nothing
FEE = ChargeRequest(
    customer_uid="ann", money=Money(9900, "KRW"), name="연체 수수료", request_key="fee-2026-01", reason="late",
    policy="standard",
)  # fmt: skip


@pytest.fixture(params=["alone", "in a group"])
def worker(services: Services, request: pytest.FixtureRequest) -> Services:
    """A worker process that sends charges one by one, and one that sends them in groups."""
    return in_an_executor(services) if request.param == "in a group" else services


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
    return collect(services, row["id"])


def declined_after_doubt(
    services: Services, gateway: ScriptedGateway, charge_id: int, answer: Declined = MONEY_SHORT
) -> None:
    """An attempt whose first sending stays unclear, and whose second one is declined without a record."""
    gateway.answers.extend([Unknown("ReadTimeout"), answer])
    assert collect(services, charge_id) is AttemptState.UNKNOWN
    while attempt_rows(services)[0]["state"] == AttemptState.UNKNOWN.value:
        move_to(services, attempt_rows(services)[0]["next_ask_at"])
        resolve_unknown.ask(services, attempt_rows(services)[0]["id"])
    assert try_when_due(services) is AttemptState.DECLINED
    (attempt,) = attempt_rows(services)
    assert (attempt["sends"], attempt["imp_uid"]) == (2, answer.imp_uid)
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
    assert isinstance(attempt_charge.claim_without_asking(services, charge_id), Unasked)
    assert collect(services, charge_id) is None
    assert len(gateway.sent) == 2


def with_an_unsent_second_uid(services: Services, gateway: ScriptedGateway) -> None:
    """The first uid ended in doubt, and the next one was begun and surely not sent."""
    declined_after_doubt(services, gateway, renewal(services))
    gateway.answers.append(NotSent("ConnectError"))
    assert try_when_due(services) is AttemptState.NOT_SENT
    move(services, minutes=2)


@pytest.mark.parametrize("status", ["ready", "failed"])
def test_a_charge_with_an_unsent_second_uid_is_set_aside_while_the_first_may_be_paid(
    services: Services, gateway: ScriptedGateway, status: str
) -> None:
    """Guard: the first cannot become unknown beside the second, so that no look-up would tell of it."""
    with_an_unsent_second_uid(services, gateway)
    gateway.remember(gateway.sent[0], status, at=services.clock.now(), reason=UNCLEAR)
    assert try_when_due(services) is None
    (charge,) = charge_rows(services)
    assert gateway.sent[0].merchant_uid in charge["held_why"]
    assert held_events(services) == [charge["key"]]
    collect_due(services)
    assert [row["state"] for row in attempt_rows(services)] == ["declined", "not_sent"]
    gateway.records.clear()
    gateway.remember(gateway.sent[0], "paid", "imps_late", at=services.clock.now())
    operate.release(services, charge["key"], "kim", "looked at the gateway")
    assert try_when_due(services) is None
    assert len(gateway.sent) == 3
    assert charge_rows(services)[0]["status"] == ChargeStatus.PAID


def test_a_hold_after_a_restore_ends_though_a_charge_is_set_aside(
    services: Services, gateway: ScriptedGateway
) -> None:
    with_an_unsent_second_uid(services, gateway)
    gateway.remember(gateway.sent[0], "ready", at=services.clock.now())
    restore.begin_hold(services, "kim", "x")
    move(services, seconds=services.settings.quiet_time)
    assert restore.lift_when_known(services) is None
    collect_due(services)
    assert len(gateway.sent) == 3
    assert len(held_events(services)) == 1


@pytest.mark.parametrize(
    "arrange", [with_an_unsent_second_uid, lambda s, g: declined_after_doubt(s, g, renewal(s))]
)
def test_a_look_up_that_is_not_answered_is_repeated_more_rarely_and_alerts_after_a_day(
    services: Services, gateway: ScriptedGateway, arrange: Callable[[Services, ScriptedGateway], None]
) -> None:
    """Guard: a charge waits for no answer in silence."""
    arrange(services, gateway)
    calls = len(gateway.sent)
    gateway.unanswered.add(gateway.sent[0].merchant_uid)
    move_to(services, max(services.clock.now(), charge_rows(services)[0]["next_attempt_at"]))
    begun = services.clock.now()
    while services.clock.now() < begun + timedelta(hours=23):
        assert try_when_due(services) is None
    assert alerts(services) == 0
    while services.clock.now() < begun + timedelta(days=3):
        assert try_when_due(services) is None
    assert alerts(services) == 1
    assert gateway.asked.count(gateway.sent[0].merchant_uid) < 40
    assert len(gateway.sent) == calls
    gateway.unanswered.clear()
    assert try_when_due(services) is AttemptState.PAID


def alerts(services: Services) -> int:
    """How many alerts of an attempt that nobody knows about are in the outbox."""
    with services.engine.connect() as db:
        return len(db.execute(select(outbox.c.id).where(outbox.c.kind == AttemptUnknown.kind)).all())


def test_of_two_attempts_in_doubt_that_may_be_paid_one_becomes_unknown(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Guard: a charge has one unresolved attempt."""
    declined_after_doubt(services, gateway, renewal(services))
    gateway.answers.extend([Unknown("ReadTimeout"), MONEY_SHORT])
    assert try_when_due(services) is AttemptState.UNKNOWN
    while attempt_rows(services)[1]["state"] == AttemptState.UNKNOWN.value:
        move_to(services, attempt_rows(services)[1]["next_ask_at"])
        resolve_unknown.ask(services, attempt_rows(services)[1]["id"])
    assert try_when_due(services) is AttemptState.DECLINED
    for order in (gateway.sent[0], gateway.sent[2]):
        gateway.remember(order, "ready", at=services.clock.now())
    assert try_when_due(services) is None
    assert [row["state"] for row in attempt_rows(services)] == ["unknown", "declined"]
    assert len(gateway.sent) == 4


def test_a_late_payment_beside_the_recorded_decline_of_a_later_sending_is_found(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Guard: a payment may follow a failed record under one uid, and so may one that began before it."""
    declined = replace(MONEY_SHORT, imp_uid="imps_2")
    declined_after_doubt(services, gateway, renewal(services), declined)
    gateway.remember(gateway.sent[0], "failed", "imps_2", at=services.clock.now())
    gateway.remember(gateway.sent[0], "paid", "imps_late", at=services.clock.now())
    try_when_due(services)
    assert len(gateway.sent) == 2
    assert charge_rows(services)[0]["status"] == ChargeStatus.PAID


def test_an_answer_lasts_from_before_the_look_up(
    services: Services, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: the payment may show between a slow answer and the claim."""
    charge_id = renewal(services)
    declined_after_doubt(services, gateway, charge_id)
    move_to(services, charge_rows(services)[0]["next_attempt_at"])

    def slow(uid: str) -> Found:
        move(services, minutes=2)
        return Found(())

    monkeypatch.setattr(gateway, "find_all", slow)
    assert prior_attempts.ask_before_sending(services, charge_id)
    assert isinstance(attempt_charge.claim_without_asking(services, charge_id), Unasked)


def test_an_attempt_that_is_asked_about_again_is_unknown_since_then(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Guard: the quiet time and the alert count from the new doubt."""
    gateway.answers.append(Unknown("ReadTimeout"))
    collect(services, renewal(services))
    gateway.remember(gateway.sent[0], "paid", at=services.clock.now())
    (record,) = gateway.records[gateway.sent[0].merchant_uid]
    gateway.records[record.merchant_uid] = [replace(record, sandbox=True)]
    move(services, minutes=1)
    assert resolve_unknown.ask(services, attempt_rows(services)[0]["id"]) is AttemptState.REFUSED
    gateway.records[record.merchant_uid] = [replace(record, state=PaymentState.READY)]
    assert try_when_due(services) is None
    (attempt,) = attempt_rows(services)
    assert attempt["state"] == AttemptState.UNKNOWN.value
    assert (attempt["unknown_since"], attempt["settled_at"]) == (services.clock.now(), None)


def test_the_cap_of_the_card_counts_such_a_decline(services: Services, gateway: ScriptedGateway) -> None:
    charge_id = renewal(services)
    declined_after_doubt(services, gateway, charge_id)
    row = charge_rows(services)[0]
    with services.engine.begin() as db:
        times = declines.declined_times(db, row["billing_key_id"], services.clock.now() - timedelta(days=30), 9)
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
    assert collect(services, charge_id) is AttemptState.DECLINED
    assert try_when_due(services) is AttemptState.PAID
    assert gateway.asked == []


def test_a_record_in_a_text_that_decides_nothing_keeps_the_uid(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Guard: such a record may be of a payment, and the gateway refuses a uid that is paid, but no new one."""
    declined_after_doubt(services, gateway, renewal(services))
    gateway.remember(gateway.sent[0], "failed", "imps_f", at=services.clock.now(), reason=UNCLEAR)
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


class Interrupted(ScriptedGateway):
    """Does something once between a look-up that finds payments and its answer."""

    meanwhile: Callable[[], object] | None = None

    def find_all(self, merchant_uid: str) -> Found | NoAnswer:
        answer = super().find_all(merchant_uid)
        meanwhile = self.meanwhile
        if meanwhile is not None and merchant_uid in self.records:
            self.meanwhile = None
            meanwhile()
        return answer


def test_a_payment_that_another_look_up_has_written_meanwhile_stays_paid(services: Services) -> None:
    """Guard: no process can take a paid attempt. Found by the model: seed 1, shop 1547."""
    gateway = Interrupted()
    shop = replace(services, gateways={"main": gateway})
    charge_id = renewal(shop)
    declined_after_doubt(shop, gateway, charge_id)
    gateway.remember(gateway.sent[0], "paid", "imps_late", at=shop.clock.now())
    move_to(shop, charge_rows(shop)[0]["next_attempt_at"])
    gateway.meanwhile = lambda: prior_attempts.look_up(shop, charge_id)
    assert not prior_attempts.look_up(shop, charge_id)
    assert charge_rows(shop)[0]["status"] == ChargeStatus.PAID
    assert [row["state"] for row in attempt_rows(shop)] == ["paid"]
    with shop.engine.begin() as db:
        assert findings.listed(db, ended=True) == []
