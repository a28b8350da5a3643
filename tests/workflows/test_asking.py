"""Asking: an unknown outcome ends only by what the gateway's records say."""

from dataclasses import replace
from datetime import timedelta

import pytest

from schedules.charging.charges import AttemptState
from schedules.charging.outcomes import Unknown
from schedules.money.amounts import Money
from schedules.operations.findings import FindingKind, FindingState
from tests.doubles import ScriptedGateway
from tests.factories import attempt_rows, charge_rows, held_events, move, opened, write
from tests.scenarios.living import notices
from worker.charging import attempt_charge, resolve_unknown
from worker.customers import enrollment
from worker.operations import operate
from worker.services import Services
from worker.store.reconciliation import findings


@pytest.fixture
def in_doubt(services: Services, gateway: ScriptedGateway) -> int:
    """A charge whose one attempt timed out; answers the attempt's row id."""
    charge_id = opened(services)
    gateway.answers.append(Unknown("ReadTimeout"))
    attempt_charge.attempt(services, charge_id)
    return int(attempt_rows(services)[0]["id"])


def ask_when_due(services: Services, attempt_id: int) -> AttemptState | None:
    """Move to the attempt's next ask, and ask."""
    due = attempt_rows(services)[-1]["next_ask_at"]
    move(services, seconds=(due - services.clock.now()).total_seconds())
    assert attempt_id in resolve_unknown.due_asks(services)
    return resolve_unknown.ask(services, attempt_id)


def test_it_is_asked_about_more_and_more_seldom_but_for_ever(
    services: Services, in_doubt: int, gateway: ScriptedGateway
) -> None:
    gateway.ask_answer = Unknown("503")
    began = services.clock.now()
    asked_at = []
    for _ in range(31):
        assert ask_when_due(services, in_doubt) is AttemptState.UNKNOWN
        asked_at.append(services.clock.now() - began)
    assert asked_at[:5] == [timedelta(seconds=s) for s in (10, 60, 300, 1800, 7200)]
    assert asked_at[5] - asked_at[4] == timedelta(hours=1)
    assert asked_at[30] - asked_at[29] == timedelta(days=1)
    assert charge_rows(services)[0]["status"] == "open"


def test_it_is_not_asked_before_its_time(services: Services, in_doubt: int, gateway: ScriptedGateway) -> None:
    assert resolve_unknown.due_asks(services) == {}
    assert resolve_unknown.ask(services, in_doubt) is None
    assert gateway.asked == []


def test_a_paid_record_collects_the_charge(services: Services, in_doubt: int, gateway: ScriptedGateway) -> None:
    """Crash rows 7, 8 and 9: the money moved, and the answer was lost."""
    gateway.remember(gateway.sent[0], "paid", at=services.clock.now())
    assert ask_when_due(services, in_doubt) is AttemptState.PAID
    assert charge_rows(services)[0]["status"] == "paid"


def test_a_failed_record_is_a_decline(services: Services, in_doubt: int, gateway: ScriptedGateway) -> None:
    gateway.remember(gateway.sent[0], "failed", at=services.clock.now())
    assert ask_when_due(services, in_doubt) is AttemptState.DECLINED
    assert charge_rows(services)[0]["declines"] == 1


def test_a_paid_record_wins_over_a_newer_failed_one(
    services: Services, in_doubt: int, gateway: ScriptedGateway
) -> None:
    gateway.remember(gateway.sent[0], "paid", "imps_1", at=services.clock.now())
    gateway.remember(gateway.sent[0], "failed", "imps_2", at=services.clock.now() + timedelta(seconds=1))
    assert ask_when_due(services, in_doubt) is AttemptState.PAID


def test_not_found_counts_only_twice_in_a_row_after_the_quiet_time(
    services: Services, in_doubt: int, gateway: ScriptedGateway
) -> None:
    """Guard: quiet time and two answers (crash row 6); then the same uid is sent again."""
    states = [ask_when_due(services, in_doubt) for _ in range(5)]
    unknown, not_sent = AttemptState.UNKNOWN, AttemptState.NOT_SENT
    # 10 s, 1 min and 5 min are before the quiet time of 15 min; 30 min and 2 h are after it.
    assert states == [unknown, unknown, unknown, unknown, not_sent]
    move(services, minutes=2)
    assert attempt_charge.attempt(services, charge_rows(services)[0]["id"]) is AttemptState.PAID
    assert len({order.merchant_uid for order in gateway.sent}) == 1
    assert len(attempt_rows(services)) == 1


def test_a_payment_that_shows_late_is_found_and_not_sent_again(
    services: Services, in_doubt: int, gateway: ScriptedGateway
) -> None:
    for _ in range(4):
        ask_when_due(services, in_doubt)
    gateway.remember(gateway.sent[0], "paid", at=services.clock.now())
    assert ask_when_due(services, in_doubt) is AttemptState.PAID
    assert len(gateway.sent) == 1


def test_of_two_paid_records_one_pays_the_debt_and_the_other_is_a_double(
    services: Services, in_doubt: int, gateway: ScriptedGateway
) -> None:
    gateway.remember(gateway.sent[0], "paid", "imps_1")
    gateway.remember(gateway.sent[0], "paid", "imps_2")
    ask_when_due(services, in_doubt)
    assert (charge_rows(services)[0]["status"], attempt_rows(services)[0]["imp_uid"]) == ("paid", "imps_1")
    with services.engine.begin() as db:
        (finding,) = findings.listed(db)
    assert (finding.kind, finding.imp_uid) == (FindingKind.DOUBLE, "imps_2")


def test_a_paid_record_with_another_amount_stops_the_charge(
    services: Services, in_doubt: int, gateway: ScriptedGateway
) -> None:
    gateway.remember(gateway.sent[0], "paid", money=Money(990, "KRW"))
    assert ask_when_due(services, in_doubt) is AttemptState.UNKNOWN
    assert "another amount" in charge_rows(services)[0]["held_why"]


def test_a_paid_record_of_another_customers_card_stops_the_charge(
    services: Services, in_doubt: int, gateway: ScriptedGateway
) -> None:
    gateway.remember(replace(gateway.sent[0], customer_uid="bob"), "paid")
    assert ask_when_due(services, in_doubt) is AttemptState.UNKNOWN
    row = charge_rows(services)[0]
    assert (row["status"], row["held_why"]) == ("open", "another customer's card was charged: customer_uid 'bob'")
    with services.engine.begin() as db:
        (finding,) = findings.listed(db)
    assert (finding.kind, finding.state) == (FindingKind.AMOUNT, FindingState.OPEN)


def test_a_paid_record_of_another_card_of_the_same_customer_pays(
    services: Services, in_doubt: int, gateway: ScriptedGateway
) -> None:
    """The debt may have moved to the customer's other card since this attempt was sent."""
    enrollment.add_customer(services, "ann-2", None, None, None, "kim", "ann")
    gateway.remember(replace(gateway.sent[0], customer_uid="ann-2"), "paid")
    assert ask_when_due(services, in_doubt) is AttemptState.PAID


def test_a_payment_on_a_test_channel_is_not_found_as_paid_later(
    services: Services, in_doubt: int, gateway: ScriptedGateway
) -> None:
    gateway.remember(gateway.sent[0], "paid")
    (payment,) = gateway.records[gateway.sent[0].merchant_uid]
    gateway.records[gateway.sent[0].merchant_uid] = [replace(payment, sandbox=True)]
    assert ask_when_due(services, in_doubt) is AttemptState.REFUSED
    with services.engine.begin() as db:
        assert findings.listed(db, ended=True) == []
    assert charge_rows(services)[0]["status"] == "open"


def test_a_cancelled_record_is_for_a_person(services: Services, in_doubt: int, gateway: ScriptedGateway) -> None:
    gateway.remember(gateway.sent[0], "cancelled")
    ask_when_due(services, in_doubt)
    assert "cancelled at the gateway" in charge_rows(services)[0]["held_why"]


def test_a_failure_that_names_a_time_out_is_not_believed_at_once(
    services: Services, in_doubt: int, gateway: ScriptedGateway
) -> None:
    gateway.remember(gateway.sent[0], "failed", at=services.clock.now(), unclear=True)
    states = [ask_when_due(services, in_doubt) for _ in range(5)]
    assert states[:4] == [AttemptState.UNKNOWN] * 4
    assert states[4] is AttemptState.DECLINED


def test_two_askers_at_once_ask_once(services: Services, in_doubt: int, gateway: ScriptedGateway) -> None:
    """Guard: the ask is claimed under a fence."""
    move(services, seconds=10)
    assert resolve_unknown.ask(services, in_doubt) is AttemptState.UNKNOWN
    assert resolve_unknown.ask(services, in_doubt) is None
    assert len(gateway.asked) == 1


def test_a_charge_without_a_next_action_is_set_aside_with_an_event(
    services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    write(services, "UPDATE charges SET next_attempt_at = NULL WHERE id = :charge", opened(services))
    resolve_unknown.sweep(services)
    resolve_unknown.sweep(services)
    row = charge_rows(services)[0]
    assert row["held_why"].startswith("it had no next action")
    assert held_events(services) == [row["key"]]
    assert f"charge {row['key']} is set aside" in caplog.text
    operate.release(services, row["key"], "kim", "looked at")
    assert charge_rows(services)[0]["next_attempt_at"] == services.clock.now()


def test_the_quiet_time_begins_when_the_lease_has_ended(services: Services, gateway: ScriptedGateway) -> None:
    """Guard: a frozen worker may have sent until then, so that "not found" does not count from the claim on."""
    attempt_charge.claim(services, opened(services))
    move(services, seconds=services.settings.quiet_time + services.settings.lease + 1)
    resolve_unknown.sweep(services)
    attempt = attempt_rows(services)[0]["id"]
    assert ask_when_due(services, attempt) is AttemptState.UNKNOWN
    assert attempt_rows(services)[0]["quiet_answers"] == 0


def test_an_unknown_attempt_of_a_row_that_breaks_a_rule_is_set_aside_with_an_event(
    services: Services, in_doubt: int, gateway: ScriptedGateway
) -> None:
    """Guard: each question would fail as the one before, and nobody would hear of it."""
    gateway.remember(gateway.sent[0], "paid")
    write(services, "UPDATE charges SET currency = 'XXX' WHERE id = :charge", charge_rows(services)[0]["id"])
    for _ in range(2):
        assert ask_when_due(services, in_doubt) is None
    row = charge_rows(services)[0]
    assert "its row breaks a rule" in row["held_why"]
    assert held_events(services) == [row["key"]]
    write(services, "UPDATE charges SET currency = 'KRW' WHERE id = :charge", row["id"])
    assert ask_when_due(services, in_doubt) is AttemptState.PAID
    assert charge_rows(services)[0]["held_why"] is None


def test_a_held_charge_whose_reason_no_event_has_told_gets_one_event(services: Services) -> None:
    """Guard: whatever set the hold, `again held` is not the only place that tells of it."""
    write(services, "UPDATE charges SET held_why = 'by hand' WHERE id = :charge", opened(services))
    resolve_unknown.sweep(services)
    resolve_unknown.sweep(services)
    key = charge_rows(services)[0]["key"]
    assert held_events(services) == [key]
    operate.release(services, key, "kim", "looked at")
    move(services, minutes=1)
    write(services, "UPDATE charges SET held_why = 'by hand, once more' WHERE id = :charge", 1)
    resolve_unknown.sweep(services)
    assert held_events(services) == [key, key]


def test_an_attempt_that_nobody_can_ask_about_is_told_after_a_day(services: Services, in_doubt: int) -> None:
    """Guard: an unknown attempt of an account that was removed, or bound anew, does not wait in silence."""
    move(services, days=1)
    removed = replace(services, gateways={})
    assert resolve_unknown.ask(removed, in_doubt) is None
    move(services, days=1)
    assert resolve_unknown.ask(removed, in_doubt) is None
    assert notices(services).count("attempt.unknown") == 1
    assert attempt_rows(services)[0]["state"] == "unknown"
