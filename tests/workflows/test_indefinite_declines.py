"""A failure in a text that is no definite answer: it is asked about, and the same merchant_uid is sent again."""

import pytest
from sqlalchemy import text

from schedules.charging.charges import AttemptState
from schedules.charging.outcomes import Declined, NotSent, Refused, Unknown
from schedules.dunning.decisions import MOST_UNANSWERED
from tests.doubles import ScriptedGateway
from tests.factories import attempt_rows, charge_rows, held_events, move, opened
from worker.charging import attempt_charge, resolve_unknown
from worker.gateway.port import ChargeOrder
from worker.operations import operate
from worker.services import Services
from worker.store.charging import waits

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
        resolve_unknown.ask(services, attempt["id"])
    raise AssertionError("it stays unknown for ever")


def try_when_due(services: Services) -> AttemptState | None:
    """Move to the charge's next try, and make it."""
    charge = charge_rows(services)[0]
    move(services, seconds=(charge["next_attempt_at"] - services.clock.now()).total_seconds())
    return attempt_charge.attempt(services, charge["id"])


@pytest.mark.parametrize("reason", [LINE, HIDDEN, "정상처리", "socket hang up", "중복 요청입니다"])
def test_it_is_asked_about_and_the_same_uid_is_sent_again(
    services: Services, gateway: ScriptedGateway, reason: str
) -> None:
    charge = opened(services)
    failing(services, gateway, reason)
    began = services.clock.now()
    assert attempt_charge.attempt(services, charge) is AttemptState.UNKNOWN
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
    attempt_charge.attempt(services, charge)
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
    assert attempt_charge.attempt(services, charge) is AttemptState.UNKNOWN
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
    attempt_charge.attempt(services, charge)
    ask_until_known(services)
    assert try_when_due(services) is AttemptState.DECLINED
    try_when_due(services)
    assert [row["state"] for row in attempt_rows(services)] == ["declined", "paid"]


@pytest.mark.parametrize("first", [HIDDEN, None])
def test_a_refusal_of_the_second_sending_says_nothing_of_the_first_and_keeps_the_uid(
    services: Services, gateway: ScriptedGateway, first: str | None
) -> None:
    """Guard: a payment of the first sending may still show, so that a new uid could be a second charge."""
    charge = opened(services)
    if first is None:
        gateway.answers.append(Unknown("ReadTimeout"))
    else:
        failing(services, gateway, first)
    attempt_charge.attempt(services, charge)
    assert ask_until_known(services) is AttemptState.NOT_SENT
    gateway.answers.append(Refused("인증에 실패하였습니다."))
    assert try_when_due(services) is AttemptState.NOT_SENT
    row = charge_rows(services)[0]
    with services.engine.begin() as db:
        assert waits.waiting(db, services.clock.now())["refused"] == 1
    operate.release(services, row["key"], "kim", "the credentials are right now")
    assert attempt_charge.attempt(services, charge) is AttemptState.PAID
    assert len({order.merchant_uid for order in gateway.sent}) == len(attempt_rows(services)) == 1
    assert attempt_rows(services)[0]["decline_class"] is None


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
            attempt_charge.attempt(services, charge)
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
    attempt_charge.attempt(services, charge)
    ask_until_known(services)
    row = charge_rows(services)[0]
    assert (row["status"], row["declines"], row["technical_tries"]) == ("open", 0, 1)
    assert attempt_rows(services)[0]["decline_class"] == "not_a_decline"


def answer_all_with_nothing(services: Services, gateway: ScriptedGateway, reason: str) -> int:
    """Let each try end in a text of this kind, until the charge is held; answers how many were sent."""
    before = len(gateway.sent)
    while charge_rows(services)[0]["held_why"] is None and len(gateway.sent) - before < 50:
        failing(services, gateway, reason)
        if charge_rows(services)[0]["next_attempt_at"] <= services.clock.now():
            attempt_charge.attempt(services, charge_rows(services)[0]["id"])
        else:
            try_when_due(services)
        ask_until_known(services)
    return len(gateway.sent) - before


def test_a_charge_that_is_never_answered_is_held_with_an_event_and_begins_anew_when_it_is_released(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Guard: such answers use up no rung, so nothing else ends them."""
    opened(services)
    assert answer_all_with_nothing(services, gateway, LINE) == MOST_UNANSWERED
    row = charge_rows(services)[0]
    why = f"{MOST_UNANSWERED} answers in a row without a result for the card, the last: {LINE}"
    assert row["held_why"].startswith(why)
    assert (row["status"], row["declines"]) == ("open", 0)
    assert held_events(services) == [row["key"]]
    operate.release(services, row["key"], "kim", "the channel is set up")
    assert answer_all_with_nothing(services, gateway, LINE) == MOST_UNANSWERED
    operate.release(services, row["key"], "kim", "the channel is set up now")
    assert attempt_charge.attempt(services, row["id"]) is AttemptState.PAID
    assert len({order.merchant_uid for order in gateway.sent}) == 1


def test_only_answers_in_a_row_count_and_an_outage_is_none(services: Services, gateway: ScriptedGateway) -> None:
    charge = opened(services)
    for outcome in [NotSent("ConnectError")] * (2 * MOST_UNANSWERED):
        gateway.answers.append(outcome)
        try_when_due(services)
    for _ in range(MOST_UNANSWERED - 1):
        failing(services, gateway, LINE)
        try_when_due(services)
        ask_until_known(services)
    failing(services, gateway, "[CC10]통장 잔액부족")
    try_when_due(services)
    assert charge_rows(services)[0]["unanswered_tries"] == 0
    failing(services, gateway, LINE)
    try_when_due(services)
    ask_until_known(services)
    assert charge_rows(services)[0]["held_why"] is None
    assert attempt_charge.attempt(services, charge) is None


def declined_before_the_upgrade(services: Services, gateway: ScriptedGateway, status: str, reason: str) -> int:
    """A charge whose first attempt an older release called declined; the gateway has a record of this status."""
    charge = opened(services)
    gateway.answers.append(Declined("[CC10]통장 잔액부족"))
    attempt_charge.attempt(services, charge)
    gateway.remember(gateway.sent[0], status, at=services.clock.now(), reason=reason)
    with services.engine.begin() as db:
        older = "UPDATE attempts SET reason = :reason, decline_class = 'unknown_word', decline_rule = 'unplaced@1'"
        db.execute(text(older), {"reason": reason})
    return charge


@pytest.mark.parametrize("reason", [LINE, HIDDEN])
@pytest.mark.parametrize(("status", "ends"), [("failed", "not_sent"), ("paid", "paid")])
def test_what_an_older_release_called_declined_is_asked_about_before_anything_is_sent(
    services: Services, gateway: ScriptedGateway, reason: str, status: str, ends: str
) -> None:
    """Guard: it may have been paid, so no new uid follows it."""
    declined_before_the_upgrade(services, gateway, status, reason)
    assert try_when_due(services) is None
    assert ask_until_known(services) is AttemptState(ends)
    if ends == "not_sent":
        assert try_when_due(services) is AttemptState.PAID
    assert charge_rows(services)[0]["status"] == "paid"
    assert len({order.merchant_uid for order in gateway.sent}) == len(attempt_rows(services)) == 1


def test_a_definite_decline_of_before_is_not_asked_about(services: Services, gateway: ScriptedGateway) -> None:
    declined_before_the_upgrade(services, gateway, "failed", "[CC10]통장 잔액부족")
    assert try_when_due(services) is AttemptState.PAID
    assert gateway.asked == []
