"""Webhooks: the gateway look-ups that they cause are limited, and only the account that is known is asked."""

from dataclasses import replace

from schedules.charging.outcomes import Declined
from tests.doubles import ScriptedGateway
from tests.factories import attempt_rows, opened
from worker.charging import attempt_charge
from worker.reconciliation import payment_webhooks
from worker.services import Services


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
        payment_webhooks.hear(made, f"made-up-{number}")
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
        payment_webhooks.hear(made, f"made-up-{number}")
    before, others = len(gateway.asked), len(second.asked)
    payment_webhooks.hear(made, uid)
    assert gateway.asked[before:] == [uid]
    assert len(second.asked) == others
