"""Verbs look at the state of a subscription: what is due is opened before, and an answer names what it changes."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from schedules.calendar.cadence import Every, Unit
from schedules.charging.outcomes import Declined, Outcome, Unknown
from schedules.dunning.policies import STANDARD, DunningPolicy, FinalAction
from tests.doubles import ScriptedGateway
from tests.factories import START, charge_rows, collect_due, move, move_to, on_sale, subscribed
from tests.scenarios.living import live_until, notices
from worker.customers import adjust, enrollment
from worker.customers.adjustments import Undoable
from worker.customers.admit import CannotAdjust
from worker.gateway.port import ChargeOrder
from worker.operations import operate
from worker.services import Services

WHO = ("kim", "he asked for it")
NO_MONEY = Declined("[CC10]통장 잔액부족")
FEBRUARY = datetime(2026, 2, 28, tzinfo=UTC)


@pytest.fixture
def key(services: Services) -> str:
    """A monthly subscription since 31 January, its first period paid."""
    on_sale(services, policy=STANDARD)
    made = subscribed(services)
    collect_due(services)
    move(services, hours=1)
    return made


def test_an_end_said_just_after_a_due_time_charges_the_period_that_has_begun(services: Services, key: str) -> None:
    """The guard: what is due is opened first."""
    move_to(services, FEBRUARY + timedelta(seconds=1))
    ended = enrollment.unsubscribe(services, key, *WHO, at_period_end=True)
    assert [(each.period_no, each.amount) for each in ended.opened] == [(1, 9900)]
    assert ended.ends_at == datetime(2026, 3, 31, tzinfo=UTC)
    live_until(services, datetime(2026, 5, 1, tzinfo=UTC))
    assert [(row["period_no"], row["status"]) for row in charge_rows(services)] == [(0, "paid"), (1, "paid")]


def test_a_pause_over_a_backlog_charges_each_missed_period_at_the_pace_of_the_cap(
    services: Services, key: str
) -> None:
    """The guard: beyond the catch-up cap nothing is dropped; the cap's own days are kept."""
    move_to(services, datetime(2026, 7, 1, tzinfo=UTC))
    paused = adjust.pause(services, key, *WHO)
    assert [each.period_no for each in paused.opened] == [1, 2, 3, 4, 5]
    collect_due(services)
    assert [row["status"] for row in charge_rows(services)] == ["paid"] * 4 + ["open"] * 2
    live_until(services, datetime(2026, 7, 3, tzinfo=UTC))
    assert [row["status"] for row in charge_rows(services)] == ["paid"] * 6


JULY = datetime(2026, 7, 1, tzinfo=UTC)


def rows_of(services: Services) -> list[tuple[int, str, str | None]]:
    """Each charge: its period, its status, and why it was closed."""
    return [(row["period_no"], row["status"], row["closed_why"]) for row in charge_rows(services)]


def test_each_period_of_a_pause_has_a_row_that_says_why_it_is_not_charged(
    services: Services, gateway: ScriptedGateway, key: str
) -> None:
    """The guard: a period without a row is lost, and nobody can say why it was not charged."""
    adjust.pause(services, key, *WHO)
    move_to(services, JULY)
    resumed = adjust.resume(services, key, *WHO)
    assert [(each.period_no, each.amount) for each in resumed.not_charged] == [(n, 9900) for n in range(1, 6)]
    assert resumed.following is not None
    assert (resumed.following.period_no, resumed.following.due_at) == (6, datetime(2026, 7, 31, tzinfo=UTC))
    live_until(services, datetime(2026, 8, 5, tzinfo=UTC))
    in_pause = [(number, "waived", "the subscription was paused") for number in range(1, 6)]
    assert rows_of(services) == [(0, "paid", None), *in_pause, (6, "paid", None)]
    assert notices(services).count("charge.waived") == 5
    assert len(gateway.sent) == 2


def test_a_pause_within_a_period_writes_nothing(services: Services, key: str) -> None:
    adjust.pause(services, key, *WHO)
    move(services, days=3)
    assert adjust.resume(services, key, *WHO).not_charged == ()
    assert len(charge_rows(services)) == 1


def test_a_period_that_is_due_at_the_very_moment_of_a_resume_is_charged(services: Services, key: str) -> None:
    adjust.pause(services, key, *WHO)
    move_to(services, FEBRUARY)
    assert adjust.resume(services, key, *WHO).not_charged == ()
    collect_due(services)
    assert rows_of(services) == [(0, "paid", None), (1, "paid", None)]


def test_a_skip_stays_the_reason_of_its_own_period_in_a_pause(services: Services, key: str) -> None:
    adjust.skip(services, key, *WHO)
    adjust.pause(services, key, *WHO)
    move_to(services, datetime(2026, 4, 2, tzinfo=UTC))
    adjust.resume(services, key, *WHO)
    assert [why for _, _, why in rows_of(services)] == [
        None, "skipped by a person", "the subscription was paused",
    ]  # fmt: skip


@pytest.mark.parametrize("at_period_end", [True, False])
def test_an_end_of_a_paused_subscription_writes_the_periods_of_the_pause(
    services: Services, key: str, at_period_end: bool
) -> None:
    adjust.pause(services, key, *WHO)
    move_to(services, JULY)
    ended = enrollment.unsubscribe(services, key, *WHO, at_period_end=at_period_end)
    assert (ended.ends_at, [each.period_no for each in ended.opened]) == (JULY, [1, 2, 3, 4, 5])
    live_until(services, datetime(2026, 9, 1, tzinfo=UTC))
    assert [status for _, status, _ in rows_of(services)] == ["paid", *["waived"] * 5]


def test_periods_while_a_policy_rests_have_rows_once_the_debt_is_paid(
    services: Services, gateway: ScriptedGateway
) -> None:
    on_sale(services, policy=DunningPolicy(ladder=(), final=FinalAction.PAUSE))
    subscribed(services)
    gateway.answers.append(NO_MONEY)
    collect_due(services)
    live_until(services, datetime(2026, 4, 2, tzinfo=UTC))
    operate.paid_elsewhere(services, charge_rows(services)[0]["key"], *WHO)
    why = "the subscription was paused for a debt"
    assert rows_of(services)[1:] == [(1, "waived", why), (2, "waived", why)]


def test_the_pause_of_a_daily_plan_over_years_is_written_at_once(services: Services) -> None:
    on_sale(services, cadence=Every(1, Unit.DAY))
    key = subscribed(services)
    collect_due(services)
    adjust.pause(services, key, *WHO)
    move(services, days=1000, hours=1)
    assert len(adjust.resume(services, key, *WHO).not_charged) == 1000
    assert len(charge_rows(services)) == 1001


def test_an_end_that_is_taken_back_lets_its_debts_be_tried_again(
    services: Services, gateway: ScriptedGateway
) -> None:
    """The guard: else the debt waits for ever, blocks later periods, and the subscription is canceled for it."""
    on_sale(services, policy=STANDARD)
    key = subscribed(services)
    gateway.answers.append(NO_MONEY)
    collect_due(services)
    move(services, hours=1)
    enrollment.unsubscribe(services, key, *WHO, at_period_end=True)
    live_until(services, START + timedelta(days=10))
    undone = adjust.undo(services, key, *WHO, Undoable.END)
    assert (undone.what, undone.ended_at, undone.debts_tried) == (Undoable.END, FEBRUARY, 1)
    live_until(services, datetime(2026, 3, 5, tzinfo=UTC))
    assert [row["status"] for row in charge_rows(services)] == ["paid", "paid"]


def test_undo_takes_back_what_was_named_and_nothing_else(services: Services, key: str) -> None:
    """The guard: an undo that is delivered twice must not undo a skip after the end."""
    adjust.skip(services, key, *WHO)
    enrollment.unsubscribe(services, key, *WHO, at_period_end=True)
    with pytest.raises(CannotAdjust, match="say which to undo: end or skip"):
        adjust.undo(services, key, *WHO)
    adjust.undo(services, key, *WHO, Undoable.END)
    with pytest.raises(CannotAdjust, match="it has no end"):
        adjust.undo(services, key, *WHO, Undoable.END)
    live_until(services, datetime(2026, 3, 1, tzinfo=UTC))
    assert [row["status"] for row in charge_rows(services)] == ["paid", "waived"]


@pytest.mark.parametrize("is_paid", [True, False])
def test_an_end_while_a_call_is_unknown_says_so_and_a_later_payment_is_told(
    services: Services, gateway: ScriptedGateway, is_paid: bool
) -> None:
    on_sale(services)
    key = subscribed(services)

    def lost(order: ChargeOrder) -> Outcome:
        gateway.remember(order, "paid" if is_paid else "failed", at=services.clock.now())
        return Unknown("ReadTimeout")

    gateway.answers.append(lost)
    collect_due(services)
    ended = enrollment.unsubscribe(services, key, *WHO, at_period_end=False)
    assert (ended.debts.closed, [owed.amount for owed in ended.debts.unclear]) == ((), [9900])
    live_until(services, START + timedelta(days=1))
    assert notices(services).count("charge.paid_after_end") == is_paid
    assert charge_rows(services)[0]["status"] == ("paid" if is_paid else "canceled")


def test_a_payment_whose_answer_comes_after_the_end_is_told(services: Services, gateway: ScriptedGateway) -> None:
    on_sale(services)
    key = subscribed(services)

    def leave_meanwhile(order: ChargeOrder) -> Outcome:
        enrollment.unsubscribe(services, key, *WHO, at_period_end=False)
        return gateway.approve(order)

    gateway.answers.append(leave_meanwhile)
    collect_due(services)
    assert "charge.paid_after_end" in notices(services)


def test_an_ended_subscription_is_refused_every_verb_and_its_end_stays(services: Services, key: str) -> None:
    enrollment.unsubscribe(services, key, *WHO, at_period_end=True)
    live_until(services, FEBRUARY + timedelta(days=1))
    told = notices(services)
    for verb in (adjust.pause, adjust.resume, adjust.skip, adjust.undo):
        with pytest.raises(CannotAdjust, match="it ended at 2026-02-28"):
            verb(services, key, *WHO)
    with pytest.raises(CannotAdjust, match="it ended at 2026-02-28"):
        enrollment.unsubscribe(services, key, *WHO, at_period_end=True)
    assert notices(services) == told
    with services.engine.begin() as db:
        assert db.execute(text("SELECT ends_at FROM subscriptions")).scalar_one() == FEBRUARY
