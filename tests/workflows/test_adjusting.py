"""Adjusting: what a person changes begins with the next period; each is charged once, or let go, never both."""

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from schedules.calendar.cadence import Every, Unit
from schedules.charging.outcomes import Declined, Unknown
from schedules.dunning.policies import STANDARD, DunningPolicy, FinalAction
from schedules.money.amounts import Money
from tests.doubles import ScriptedGateway
from tests.factories import START, charge_rows, collect_due, move, move_to, on_sale, subscribed
from tests.scenarios.living import live_until, notices
from worker.customers import adjust, enrollment
from worker.customers.admit import CannotAdjust
from worker.customers.enrollment import CannotEnroll
from worker.customers.next_charges import Next
from worker.operations import operate
from worker.operations.operate import CannotOperate
from worker.reporting import billing_forecast
from worker.reporting.billing_forecast import Asked
from worker.services import DryRunChanges, Services

WHO = ("kim", "he asked for it")


@pytest.fixture
def key(services: Services) -> str:
    """A monthly subscription since 31 January, its first period paid."""
    on_sale(services)
    made = subscribed(services)
    collect_due(services)
    move(services, hours=1)
    return made


def row_of(services: Services) -> dict[str, Any]:
    """The subscription as it is."""
    with services.engine.begin() as db:
        return dict(db.execute(text("SELECT * FROM subscriptions ORDER BY id LIMIT 1")).mappings().one())


def dates(services: Services) -> list[tuple[int, str, str]]:
    """Each charge's period number, day in Seoul and status."""
    return [
        (row["period_no"], f"{row['due_at'] + timedelta(hours=9):%m-%d %H:%M}", row["status"])
        for row in charge_rows(services)
    ]


def test_a_paused_subscription_charges_nothing_until_it_goes_on(services: Services, key: str) -> None:
    adjust.pause(services, key, *WHO)
    live_until(services, datetime(2026, 4, 10, tzinfo=UTC))
    assert len(charge_rows(services)) == 1
    resumed = adjust.resume(services, key, *WHO)
    assert resumed.following == Next(3, date(2026, 4, 30), datetime(2026, 4, 30, tzinfo=UTC), 9900, "KRW")
    live_until(services, datetime(2026, 5, 1, tzinfo=UTC))
    assert dates(services) == [
        (0, "01-31 09:00", "paid"), (1, "02-28 09:00", "waived"), (2, "03-31 09:00", "waived"),
        (3, "04-30 09:00", "paid"),
    ]  # fmt: skip
    assert {"subscription.paused", "subscription.resumed"} <= set(notices(services))


def test_what_rests_for_a_debt_is_not_resumed_beside_it(services: Services, gateway: ScriptedGateway) -> None:
    """The guard: a subscription that dunning paused goes on when the debt ends, not before."""
    on_sale(services, policy=DunningPolicy(ladder=(), final=FinalAction.PAUSE))
    key = subscribed(services)
    gateway.answers.append(Declined("[CC10]통장 잔액부족"))
    collect_due(services)
    assert row_of(services)["status"] == "paused"
    with pytest.raises(CannotAdjust, match="is paused until charge"):
        adjust.resume(services, key, *WHO)


def test_skipped_periods_are_waived_and_the_next_is_charged_by_its_number(services: Services, key: str) -> None:
    assert adjust.skip(services, key, *WHO).period_no == 1
    assert adjust.skip(services, key, *WHO).period_no == 2
    live_until(services, datetime(2026, 5, 1, tzinfo=UTC))
    assert dates(services) == [
        (0, "01-31 09:00", "paid"), (1, "02-28 09:00", "waived"), (2, "03-31 09:00", "waived"),
        (3, "04-30 09:00", "paid"),
    ]  # fmt: skip


def test_the_same_skip_said_twice_skips_one_period(services: Services, key: str) -> None:
    """The guard: the period's number. A message that comes twice must not let two payments go."""
    assert adjust.skip(services, key, *WHO, period_no=1).period_no == 1
    assert adjust.skip(services, key, *WHO, period_no=1).period_no == 1
    assert row_of(services)["skip_to"] == 2
    with pytest.raises(CannotAdjust, match="is not the next one, 2"):
        adjust.skip(services, key, *WHO, period_no=3)


def test_an_older_skip_said_again_leaves_the_newer_one(services: Services, key: str) -> None:
    """Guard: a skip that is known writes nothing: the first message, delivered again, keeps the second."""
    adjust.skip(services, key, *WHO, period_no=1)
    adjust.skip(services, key, *WHO, period_no=2)
    assert adjust.skip(services, key, *WHO, period_no=1).period_no == 1
    assert row_of(services)["skip_to"] == 3


def test_a_skip_is_undone(services: Services, key: str) -> None:
    adjust.skip(services, key, *WHO)
    assert adjust.undo(services, key, *WHO).what == "skip"
    live_until(services, datetime(2026, 3, 1, tzinfo=UTC))
    assert dates(services)[1] == (1, "02-28 09:00", "paid")
    with pytest.raises(CannotAdjust, match="nothing to undo"):
        adjust.undo(services, key, *WHO)


def test_an_end_is_undone_before_it_comes_and_not_after(services: Services, key: str) -> None:
    enrollment.unsubscribe(services, key, *WHO, at_period_end=True)
    assert adjust.undo(services, key, *WHO).what == "end"
    live_until(services, datetime(2026, 3, 1, tzinfo=UTC))
    assert dates(services)[1] == (1, "02-28 09:00", "paid")
    enrollment.unsubscribe(services, key, *WHO, at_period_end=True)
    live_until(services, datetime(2026, 4, 1, tzinfo=UTC))
    assert len(charge_rows(services)) == 2
    with pytest.raises(CannotAdjust, match="ended at"):
        adjust.undo(services, key, *WHO)


def test_a_moved_anchor_begins_the_next_period_there_and_numbers_go_on(services: Services, key: str) -> None:
    cursor = adjust.move_anchor(services, key, date(2026, 2, 15), *WHO).next
    assert (cursor.period_no, cursor.period_date) == (1, date(2026, 2, 15))
    live_until(services, datetime(2026, 4, 1, tzinfo=UTC))
    assert dates(services) == [
        (0, "01-31 09:00", "paid"), (1, "02-15 09:00", "paid"), (2, "03-15 09:00", "paid"),
    ]  # fmt: skip


def test_an_anchor_is_moved_twice_and_over_a_pause(services: Services, key: str) -> None:
    adjust.move_anchor(services, key, date(2026, 2, 15), *WHO)
    live_until(services, datetime(2026, 2, 20, tzinfo=UTC))
    adjust.move_anchor(services, key, date(2026, 3, 31), *WHO)
    adjust.pause(services, key, *WHO)
    live_until(services, datetime(2026, 4, 15, tzinfo=UTC))
    adjust.resume(services, key, *WHO)
    live_until(services, datetime(2026, 6, 1, tzinfo=UTC))
    assert dates(services) == [
        (0, "01-31 09:00", "paid"), (1, "02-15 09:00", "paid"), (2, "03-31 09:00", "waived"),
        (3, "04-30 09:00", "paid"), (4, "05-31 09:00", "paid"),
    ]  # fmt: skip


@pytest.mark.parametrize("day", [date(2026, 1, 31), date(2026, 1, 1), date(2032, 1, 1)])
def test_an_anchor_in_the_past_or_far_away_is_refused(services: Services, key: str, day: date) -> None:
    before = row_of(services)
    with pytest.raises(CannotAdjust, match="give a day that comes"):
        adjust.move_anchor(services, key, day, *WHO)
    assert row_of(services) == before


def test_its_own_time_of_day_holds_for_all_that_follow_and_is_given_back(services: Services, key: str) -> None:
    adjust.move_time(services, key, time(21, 30), *WHO)
    live_until(services, datetime(2026, 4, 1, tzinfo=UTC))
    adjust.move_time(services, key, None, *WHO)
    live_until(services, datetime(2026, 5, 1, tzinfo=UTC))
    assert dates(services) == [
        (0, "01-31 09:00", "paid"), (1, "02-28 21:30", "paid"), (2, "03-31 21:30", "paid"),
        (3, "04-30 09:00", "paid"),
    ]  # fmt: skip


def test_a_new_version_of_its_plan_changes_the_price_and_no_date(services: Services, key: str) -> None:
    on_sale(services, price=Money(12900, "KRW"))
    adjust.change_plan(services, key, "monthly", *WHO)
    live_until(services, datetime(2026, 4, 1, tzinfo=UTC))
    assert [(row["period_no"], row["amount"]) for row in charge_rows(services)] == [
        (0, 9900),
        (1, 12900),
        (2, 12900),
    ]
    assert dates(services)[2] == (2, "03-31 09:00", "paid")


def test_another_cadence_counts_from_the_next_date(services: Services, key: str) -> None:
    on_sale(services, code="weekly", cadence=Every(1, Unit.WEEK), price=Money(2500, "KRW"))
    cursor = adjust.change_plan(services, key, "weekly", *WHO).next
    assert cursor == Next(1, date(2026, 2, 28), datetime(2026, 2, 28, tzinfo=UTC), 2500, "KRW")
    live_until(services, datetime(2026, 3, 15, tzinfo=UTC))
    assert dates(services)[1:] == [
        (1, "02-28 09:00", "paid"),
        (2, "03-07 09:00", "paid"),
        (3, "03-14 09:00", "paid"),
    ]
    with pytest.raises(CannotAdjust, match="already"):
        adjust.change_plan(services, key, "weekly", *WHO)


MONTHS = {"monthly": Every(1, Unit.MONTH), "two": Every(2, Unit.MONTH), "yearly": Every(1, Unit.YEAR)}


@pytest.mark.parametrize(
    ("begins", "plans", "expected"),
    [
        (date(2026, 1, 31), ("monthly", "yearly", "monthly"), ["02-28", "03-31", "04-30", "05-31"]),
        (date(2026, 1, 31), ("monthly", "weekly", "monthly"), ["02-28", "03-31", "04-30", "05-31"]),
        (date(2025, 12, 31), ("two", "monthly"), ["02-28", "03-31", "04-30", "05-31"]),
        (date(2025, 12, 31), ("two", "yearly", "two"), ["02-28", "04-30"]),
        (date(2025, 12, 30), ("two", "yearly", "monthly"), ["02-28", "03-30", "04-30", "05-30"]),
        (date(2026, 1, 31), ("monthly", "yearly", "two", "monthly"), ["02-28", "03-31", "04-30", "05-31"]),
    ],
)
def test_a_plan_change_keeps_the_day_of_the_month(
    services: Services, begins: date, plans: tuple[str, ...], expected: list[str]
) -> None:
    sell_cadences(services)
    key = subscribed(services, code=plans[0], anchor=begins)
    collect_due(services)
    paid = len(charge_rows(services))
    move(services, hours=1)
    for plan in plans[1:]:
        adjust.change_plan(services, key, plan, *WHO)
    asked = Asked(date(2026, 2, 1), date(2026, 6, 1), "Asia/Seoul")
    assert [f"{coming.day:%m-%d}" for coming in billing_forecast.foresee(services, asked)] == expected
    live_until(services, datetime(2026, 6, 1, tzinfo=UTC))
    assert [day[1][:5] for day in dates(services)[paid:]] == expected


def sell_cadences(services: Services) -> None:
    """Plans that count months and weeks, of one price."""
    for code, cadence in {**MONTHS, "weekly": Every(1, Unit.WEEK)}.items():
        on_sale(services, code=code, cadence=cadence)


def test_a_yearly_plan_of_29_february_keeps_its_day_through_a_monthly_one(services: Services) -> None:
    sell_cadences(services)
    move_to(services, datetime(2024, 2, 28, tzinfo=UTC))
    key = subscribed(services, code="yearly", anchor=date(2024, 2, 29))
    live_until(services, datetime(2026, 2, 1, tzinfo=UTC))
    adjust.change_plan(services, key, "monthly", *WHO)
    adjust.change_plan(services, key, "yearly", *WHO)
    live_until(services, datetime(2028, 3, 2, tzinfo=UTC))
    assert [f"{row['due_at']:%Y-%m-%d}" for row in charge_rows(services)] == [
        "2024-02-29", "2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29",
    ]  # fmt: skip


def test_the_day_of_the_month_is_kept_over_a_pause_after_a_plan_change(services: Services, key: str) -> None:
    sell_cadences(services)
    adjust.change_plan(services, key, "two", *WHO)
    adjust.pause(services, key, *WHO)
    move_to(services, datetime(2026, 3, 10, tzinfo=UTC))
    adjust.resume(services, key, *WHO)
    live_until(services, datetime(2026, 7, 1, tzinfo=UTC))
    assert dates(services)[1:] == [
        (1, "02-28 09:00", "waived"), (2, "04-30 09:00", "paid"), (3, "06-30 09:00", "paid"),
    ]  # fmt: skip


def test_another_day_is_another_day_after_a_plan_change(services: Services, key: str) -> None:
    """The guard: who asks for the 28th has it, though the 31st was asked for before."""
    sell_cadences(services)
    adjust.change_plan(services, key, "two", *WHO)
    adjust.move_anchor(services, key, date(2026, 2, 28), *WHO)
    adjust.change_plan(services, key, "monthly", *WHO)
    live_until(services, datetime(2026, 4, 1, tzinfo=UTC))
    assert [day[1][:5] for day in dates(services)[1:]] == ["02-28", "03-28"]


def test_a_plan_that_the_customer_is_on_already_is_refused(services: Services, key: str) -> None:
    on_sale(services, code="other")
    other = enrollment.subscribe(services, "ann", "other", "kim").key
    with pytest.raises(CannotAdjust, match=other):
        adjust.change_plan(services, key, "other", *WHO)


def test_another_card_pays_what_is_open_at_once_and_all_that_comes(
    services: Services, gateway: ScriptedGateway
) -> None:
    on_sale(services)
    key = subscribed(services)
    gateway.answers.append(Declined("[CC10]통장 잔액부족"))
    collect_due(services)
    enrollment.add_customer(services, "ann-2", None, None, None, "kim", of="ann")
    assert list(adjust.change_card(services, key, "ann-2", *WHO).counts.values()) == [1, 0, 0, 0]
    live_until(services, datetime(2026, 3, 1, tzinfo=UTC))
    assert [order.customer_uid for order in gateway.sent] == ["ann", "ann-2", "ann-2"]
    assert [row["status"] for row in charge_rows(services)] == ["paid", "paid"]


def test_a_debt_whose_attempt_is_under_way_stays_with_its_card(
    services: Services, gateway: ScriptedGateway
) -> None:
    """The guard: the answer of the old card must not be read as one of the new."""
    on_sale(services)
    key = subscribed(services)
    gateway.answers.append(Unknown("time-out"))
    collect_due(services)
    enrollment.add_customer(services, "ann-2", None, None, None, "kim", of="ann")
    assert list(adjust.change_card(services, key, "ann-2", *WHO).counts.values()) == [0, 0, 1, 0]
    assert charge_rows(services)[0]["billing_key_id"] != row_of(services)["billing_key_id"]


def test_another_customers_card_is_refused(services: Services, key: str) -> None:
    """The guard: a slip of the finger must not charge somebody else."""
    enrollment.add_customer(services, "ben", None, None, None, "kim")
    with pytest.raises(CannotAdjust, match="another customer's"):
        adjust.change_card(services, key, "ben", *WHO)
    with pytest.raises(CannotEnroll, match="is not known"):
        enrollment.add_customer(services, "cho", None, None, None, "kim", of="zoe")


def test_a_canceled_one_is_left_alone(services: Services, key: str) -> None:
    enrollment.unsubscribe(services, key, *WHO, at_period_end=False)
    for change in (
        lambda: adjust.pause(services, key, *WHO),
        lambda: adjust.resume(services, key, *WHO),
        lambda: adjust.undo(services, key, *WHO),
        lambda: adjust.skip(services, key, *WHO),
        lambda: adjust.move_anchor(services, key, date(2026, 3, 1), *WHO),
        lambda: adjust.move_time(services, key, time(10), *WHO),
        lambda: adjust.change_plan(services, key, "monthly", *WHO),
        lambda: adjust.change_card(services, key, "ann", *WHO),
    ):
        with pytest.raises(CannotAdjust, match="it ended at"):
            change()


def test_what_ends_is_not_moved_before_that_is_undone(services: Services, key: str) -> None:
    enrollment.unsubscribe(services, key, *WHO, at_period_end=True)
    with pytest.raises(CannotAdjust, match="`again undo` that first"):
        adjust.move_anchor(services, key, date(2026, 3, 1), *WHO)


def test_a_rehearsal_tells_what_would_change_and_changes_nothing(services: Services, key: str) -> None:
    before, told = row_of(services), notices(services)
    dry_run = DryRunChanges()
    adjust.move_anchor(replace(services, dry_run=dry_run), key, date(2026, 2, 15), *WHO)
    assert dry_run.changes["anchor"] == (date(2026, 1, 31), date(2026, 2, 15))
    assert dry_run.changes["next_due_at"][1] == datetime(2026, 2, 15, tzinfo=UTC)
    assert (row_of(services), notices(services)) == (before, told)


def test_a_change_is_told_and_written_down_with_its_reason(services: Services, key: str) -> None:
    adjust.skip(services, key, *WHO)
    with services.engine.begin() as db:
        payload = db.execute(text("SELECT payload FROM outbox WHERE kind = 'subscription.changed'")).scalar_one()
        act = db.execute(text("SELECT actor, why, details FROM audit WHERE verb = 'skip'")).one()
    assert (payload["what"], payload["next_due_at"]) == ("skip", "2026-03-31T00:00:00Z")
    assert tuple(act) == ("kim", "he asked for it", {"period_no": 1, "due_at": "2026-02-28T00:00:00Z"})


def test_a_skipped_charge_is_not_announced(services: Services) -> None:
    on_sale(services, policy=STANDARD)
    key = subscribed(services)
    collect_due(services)
    move(services, hours=1)
    adjust.skip(services, key, *WHO)
    live_until(services, START + timedelta(days=54))
    assert "charge.upcoming" not in notices(services)
    live_until(services, START + timedelta(days=60))
    assert notices(services).count("charge.upcoming") == 1


def test_a_charge_that_should_not_be_is_canceled_and_told(services: Services, gateway: ScriptedGateway) -> None:
    on_sale(services)
    subscribed(services)
    gateway.answers.append(Declined("[CC10]통장 잔액부족"))
    collect_due(services)
    charge = charge_rows(services)[0]["key"]
    operate.cancel_charge(services, charge, *WHO)
    assert charge_rows(services)[0]["status"] == "canceled"
    assert "charge.canceled" in notices(services)
    with pytest.raises(CannotOperate, match="nothing is owed"):
        operate.waive(services, charge, *WHO)
