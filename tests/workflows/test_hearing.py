"""Webhooks: the gateway look-ups that they cause are limited, and only the account that is known is asked."""

from dataclasses import replace

import pytest

from schedules.charging.charges import ChargeStatus
from schedules.charging.outcomes import Declined, Unknown
from tests.doubles import ScriptedGateway, SlowToTell
from tests.factories import attempt_rows, charge_rows, heard, on_sale, opened
from worker.charging import attempt_charge
from worker.charging.account_threads import WEBHOOK_PLACES, WEBHOOKS_WAITING
from worker.charging.executor import Executor
from worker.clock import wait_until
from worker.customers import enrollment
from worker.reconciliation import payment_webhooks
from worker.renewals import open_charges
from worker.services import Services
from worker.store.charging import rates


def with_second(services: Services, second: ScriptedGateway) -> Services:
    """These services with one more account."""
    main = services.settings.main_account
    return replace(
        services,
        gateways={**services.gateways, "second": second},
        accounts={"main": main, "second": replace(main, name="second")},
    )


def test_uids_that_are_made_up_cause_a_bounded_number_of_calls(
    services: Services, gateway: ScriptedGateway
) -> None:
    second = ScriptedGateway()
    made = with_second(services, second)
    for number in range(40):
        heard(made, f"made-up-{number}")
    for asked in (gateway, second):
        assert 1 <= len(asked.asked) <= 40 / 2


def test_a_debt_of_ours_is_looked_at_though_many_others_are_made_up(
    services: Services, gateway: ScriptedGateway
) -> None:
    second = ScriptedGateway()
    made = with_second(services, second)
    gateway.answers.append(Declined("[CC10]통장 잔액부족"))
    attempt_charge.attempt(made, opened(made))
    uid = attempt_rows(made)[0]["merchant_uid"]
    for number in range(10):
        heard(made, f"made-up-{number}")
    before, others = len(gateway.asked), len(second.asked)
    heard(made, uid)
    assert gateway.asked[before:] == [uid]
    assert len(second.asked) == others


@pytest.fixture
def in_doubt(services: Services, gateway: ScriptedGateway) -> str:
    """The uid of an attempt whose outcome is unknown."""
    gateway.answers.append(Unknown("ReadTimeout"))
    attempt_charge.attempt(services, opened(services))
    return str(attempt_rows(services)[0]["merchant_uid"])


def test_a_webhook_about_an_attempt_in_doubt_has_it_looked_up_before_its_time(
    services: Services, gateway: ScriptedGateway, in_doubt: str
) -> None:
    gateway.remember(gateway.sent[0], "paid")
    heard(services, in_doubt)
    assert gateway.asked == [in_doubt]
    assert charge_rows(services)[0]["status"] == ChargeStatus.PAID


def test_webhooks_beyond_the_cap_of_an_account_leave_an_attempt_in_doubt_to_its_next_look_up(
    services: Services, gateway: ScriptedGateway, in_doubt: str
) -> None:
    """Guard: else each webhook would make the look-up due, and the next dispatch would begin it without a cap."""
    with services.engine.begin() as db:
        rates.grant(db, f"main/{payment_webhooks.OURS.name}", payment_webhooks.OURS.rate, 60.0, many=100)
    before = attempt_rows(services)
    heard(services, in_doubt)
    payment_webhooks.hear(services, in_doubt, lambda *_: False)  # too many wait
    assert gateway.asked == []
    assert attempt_rows(services) == before


def test_webhooks_of_an_account_that_hangs_hold_up_neither_the_process_nor_another_account(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Guard: what webhooks cause is under a cap, also of how much waits; what is beyond it is dropped."""
    silent = SlowToTell()
    made = with_second(services, silent)
    ours, *theirs = declined(made, "main", 1) + declined(made, "second", WEBHOOK_PLACES + WEBHOOKS_WAITING + 5)
    executor = Executor(made)
    for uid in theirs:
        payment_webhooks.hear(made, uid, executor.webhook_look_ups.begin)
    payment_webhooks.hear(made, ours, executor.webhook_look_ups.begin)
    assert wait_until(lambda: gateway.asked == [ours], 20)
    assert 1 <= len(silent.asked) <= WEBHOOK_PLACES
    silent.tells.set()
    assert wait_until(executor.webhook_look_ups.is_idle, 60)
    assert len(silent.asked) <= WEBHOOK_PLACES + WEBHOOKS_WAITING


def declined(services: Services, account: str, many: int) -> list[str]:
    """The uids of so many declined attempts of an account."""
    gateway = ScriptedGateway()
    gateway.answers.extend([Declined("[CC10]통장 잔액부족")] * many)
    before = {row["id"] for row in charge_rows(services)}
    on_sale(services, code=account)
    for number in range(many):
        uid = f"{account}-{number}"
        enrollment.add_customer(services, uid, None, None, None, "test", account=account)
        enrollment.subscribe(services, uid, account, "test")
    open_charges.open_due(services)
    for charge_id in [row["id"] for row in charge_rows(services) if row["id"] not in before]:
        attempt_charge.attempt(replace(services, gateways={account: gateway}), charge_id)
    return [order.merchant_uid for order in gateway.sent]
