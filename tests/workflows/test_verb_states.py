"""Verbs look at the state of a subscription: what is due is opened before, and an answer names what it changes."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from schedules.outcomes import Declined, Outcome, Unknown
from schedules.policies import STANDARD
from tests.doubles import ScriptedGateway
from tests.factories import START, charge_rows, collect_due, move, move_to, on_sale, subscribed
from tests.scenarios.living import live_until, notices
from worker.gateway.port import ChargeOrder
from worker.workflows import adjusting, enrolling
from worker.workflows.adjusting import Undoable
from worker.workflows.admitting import CannotAdjust
from worker.workflows.services import Services

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
    ended = enrolling.unsubscribe(services, key, *WHO, at_period_end=True)
    assert [(each.period_no, each.amount) for each in ended.opened] == [(1, 9900)]
    assert ended.ends_at == datetime(2026, 3, 31, tzinfo=UTC)
    live_until(services, datetime(2026, 5, 1, tzinfo=UTC))
    assert [(row["period_no"], row["status"]) for row in charge_rows(services)] == [(0, "paid"), (1, "paid")]


def test_a_pause_over_a_backlog_charges_each_missed_period_at_the_pace_of_the_cap(
    services: Services, key: str
) -> None:
    """The guard: beyond the catch-up cap nothing is dropped; the cap's own days are kept."""
    move_to(services, datetime(2026, 7, 1, tzinfo=UTC))
    paused = adjusting.pause(services, key, *WHO)
    assert [each.period_no for each in paused.opened] == [1, 2, 3, 4, 5]
    collect_due(services)
    assert [row["status"] for row in charge_rows(services)] == ["paid"] * 4 + ["open"] * 2
    live_until(services, datetime(2026, 7, 3, tzinfo=UTC))
    assert [row["status"] for row in charge_rows(services)] == ["paid"] * 6


def test_an_end_that_is_taken_back_lets_its_debts_be_tried_again(
    services: Services, gateway: ScriptedGateway
) -> None:
    """The guard: else the debt waits for ever, blocks later periods, and the subscription is canceled for it."""
    on_sale(services, policy=STANDARD)
    key = subscribed(services)
    gateway.answers.append(NO_MONEY)
    collect_due(services)
    move(services, hours=1)
    enrolling.unsubscribe(services, key, *WHO, at_period_end=True)
    live_until(services, START + timedelta(days=10))
    undone = adjusting.undo(services, key, *WHO, Undoable.END)
    assert (undone.what, undone.ended_at, undone.debts_tried) == (Undoable.END, FEBRUARY, 1)
    live_until(services, datetime(2026, 3, 5, tzinfo=UTC))
    assert [row["status"] for row in charge_rows(services)] == ["paid", "paid"]


def test_undo_takes_back_what_was_named_and_nothing_else(services: Services, key: str) -> None:
    """The guard: an undo that is delivered twice must not undo a skip after the end."""
    adjusting.skip(services, key, *WHO)
    enrolling.unsubscribe(services, key, *WHO, at_period_end=True)
    with pytest.raises(CannotAdjust, match="say which to undo: end or skip"):
        adjusting.undo(services, key, *WHO)
    adjusting.undo(services, key, *WHO, Undoable.END)
    with pytest.raises(CannotAdjust, match="it has no end"):
        adjusting.undo(services, key, *WHO, Undoable.END)
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
    ended = enrolling.unsubscribe(services, key, *WHO, at_period_end=False)
    assert (ended.debts.closed, [owed.amount for owed in ended.debts.unclear]) == ((), [9900])
    live_until(services, START + timedelta(days=1))
    assert notices(services).count("charge.paid_after_end") == is_paid
    assert charge_rows(services)[0]["status"] == ("paid" if is_paid else "canceled")


def test_a_payment_whose_answer_comes_after_the_end_is_told(services: Services, gateway: ScriptedGateway) -> None:
    on_sale(services)
    key = subscribed(services)

    def leave_meanwhile(order: ChargeOrder) -> Outcome:
        enrolling.unsubscribe(services, key, *WHO, at_period_end=False)
        return gateway.approve(order)

    gateway.answers.append(leave_meanwhile)
    collect_due(services)
    assert "charge.paid_after_end" in notices(services)


def test_an_ended_subscription_is_refused_every_verb_and_its_end_stays(services: Services, key: str) -> None:
    enrolling.unsubscribe(services, key, *WHO, at_period_end=True)
    live_until(services, FEBRUARY + timedelta(days=1))
    told = notices(services)
    for verb in (adjusting.pause, adjusting.resume, adjusting.skip, adjusting.undo):
        with pytest.raises(CannotAdjust, match="it ended at 2026-02-28"):
            verb(services, key, *WHO)
    with pytest.raises(CannotAdjust, match="it ended at 2026-02-28"):
        enrolling.unsubscribe(services, key, *WHO, at_period_end=True)
    assert notices(services) == told
    with services.engine.begin() as db:
        assert db.execute(text("SELECT ends_at FROM subscriptions")).scalar_one() == FEBRUARY
