"""A failure in a text that is no definite answer: it is asked about, and the same merchant_uid is sent again."""

import pytest
from sqlalchemy import text

from schedules.charges import AttemptState
from schedules.outcomes import Declined
from tests.doubles import ScriptedGateway
from tests.factories import attempt_rows, charge_rows, move, opened
from worker.gateway.port import ChargeOrder
from worker.workflows import asking, charging
from worker.workflows.services import Services

LINE = "서버에 연결할 수 없습니다."  # class not_a_decline
HIDDEN = "취소확인요망"  # class unknown_outcome


def failing(services: Services, gateway: ScriptedGateway, reason: str, pg: str | None = "kcp") -> None:
    """Make the next charge fail with this text, and keep a failed record of it."""

    def fail(order: ChargeOrder) -> Declined:
        gateway.remember(order, "failed", "imps_f", at=services.clock.now(), reason=reason, pg_provider=pg)
        return Declined(reason, None, "imps_f", pg)

    gateway.answers.append(fail)


def ask_until_known(services: Services) -> AttemptState:
    """Ask about the only attempt whenever it is due, until it is no longer unknown."""
    for _ in range(20):
        attempt = attempt_rows(services)[-1]
        if attempt["state"] != AttemptState.UNKNOWN.value:
            return AttemptState(attempt["state"])
        move(services, seconds=(attempt["next_ask_at"] - services.clock.now()).total_seconds())
        asking.ask(services, attempt["id"])
    raise AssertionError("it stays unknown for ever")


def try_when_due(services: Services) -> AttemptState | None:
    """Move to the charge's next try, and make it."""
    charge = charge_rows(services)[0]
    move(services, seconds=(charge["next_attempt_at"] - services.clock.now()).total_seconds())
    return charging.attempt(services, charge["id"])


@pytest.mark.parametrize("reason", [LINE, HIDDEN, "정상처리", "socket hang up", "중복 요청입니다"])
def test_it_is_asked_about_and_the_same_uid_is_sent_again(
    services: Services, gateway: ScriptedGateway, reason: str
) -> None:
    charge = opened(services)
    failing(services, gateway, reason)
    began = services.clock.now()
    assert charging.attempt(services, charge) is AttemptState.UNKNOWN
    assert charge_rows(services)[0]["next_attempt_at"] is None
    assert ask_until_known(services) is AttemptState.NOT_SENT
    assert (services.clock.now() - began).total_seconds() > services.settings.quiet_time
    assert try_when_due(services) is AttemptState.PAID
    assert [order.merchant_uid for order in gateway.sent] == [gateway.sent[0].merchant_uid] * 2
    (attempt,) = attempt_rows(services)
    assert (attempt["sends"], attempt["decline_class"]) == (2, None)


def test_a_payment_that_shows_after_such_a_failure_is_found(services: Services, gateway: ScriptedGateway) -> None:
    charge = opened(services)
    failing(services, gateway, HIDDEN)
    charging.attempt(services, charge)
    gateway.remember(gateway.sent[0], "paid", "imps_late", at=services.clock.now())
    assert ask_until_known(services) is AttemptState.PAID
    assert len(gateway.sent) == 1


def test_a_bare_code_is_read_for_the_pg_of_the_card(services: Services, gateway: ScriptedGateway) -> None:
    """S013 is an error while receiving at Toss Payments; the answer and the record do not name the PG."""
    charge = opened(services)
    with services.engine.begin() as db:
        db.execute(text("UPDATE billing_keys SET pg_provider = 'tosspayments'"))
    failing(services, gateway, "[S013]", pg=None)
    began = services.clock.now()
    assert charging.attempt(services, charge) is AttemptState.UNKNOWN
    assert ask_until_known(services) is AttemptState.NOT_SENT
    assert (services.clock.now() - began).total_seconds() > services.settings.quiet_time
    assert try_when_due(services) is AttemptState.PAID
    assert len({order.merchant_uid for order in gateway.sent}) == 1


def test_a_definite_answer_to_the_second_sending_ends_the_uid(
    services: Services, gateway: ScriptedGateway
) -> None:
    charge = opened(services)
    failing(services, gateway, LINE)
    failing(services, gateway, "[CC10]통장 잔액부족")
    charging.attempt(services, charge)
    ask_until_known(services)
    assert try_when_due(services) is AttemptState.DECLINED
    try_when_due(services)
    assert [row["state"] for row in attempt_rows(services)] == ["declined", "paid"]


def test_an_outcome_that_stays_open_uses_the_ladder_and_ends_under_one_uid(
    services: Services, gateway: ScriptedGateway
) -> None:
    charge = opened(services)
    tries = 0
    while charge_rows(services)[0]["closed_at"] is None and tries < 20:
        failing(services, gateway, HIDDEN)
        if tries:
            try_when_due(services)
        else:
            charging.attempt(services, charge)
        ask_until_known(services)
        tries += 1
    row = charge_rows(services)[0]
    assert (row["status"], row["declines"], tries) == ("uncollectible", tries, tries)
    assert len({order.merchant_uid for order in gateway.sent}) == 1
    with services.engine.begin() as db:
        told = db.execute(text("SELECT count(*) FROM outbox WHERE kind = 'charge.failed'")).scalar_one()
    assert told == tries


def test_a_line_that_stays_down_uses_no_rung(services: Services, gateway: ScriptedGateway) -> None:
    charge = opened(services)
    failing(services, gateway, LINE)
    charging.attempt(services, charge)
    ask_until_known(services)
    row = charge_rows(services)[0]
    assert (row["status"], row["declines"], row["technical_tries"]) == ("open", 0, 1)
    assert attempt_rows(services)[0]["decline_class"] == "not_a_decline"
