"""Opening: each due period gets its charge once, whatever rings and however often."""

from datetime import UTC, date, datetime
from threading import Thread

import pytest

from schedules.subscriptions.plans import CatchUp
from tests.factories import charge_rows, move, move_to, on_sale, subscribed
from worker.customers import enrollment
from worker.renewals import open_charges
from worker.services import Services
from worker.store.customers import subscriptions


def test_a_period_that_is_due_is_opened_once_however_often_it_is_rung(services: Services) -> None:
    on_sale(services)
    subscribed(services)
    assert [open_charges.open_due(services) for _ in range(3)] == [1, 0, 0]
    (charge,) = charge_rows(services)
    assert (charge["status"], charge["amount"], charge["period_no"]) == ("open", 9900, 0)


def test_the_unique_key_refuses_a_second_charge_when_the_cursor_was_set_back(services: Services) -> None:
    """Guard: one_charge_for_each_period; a restored cursor, or two beats, come to this."""
    on_sale(services)
    key = subscribed(services)
    open_charges.open_due(services)
    with services.engine.begin() as db:
        row = subscriptions.by_key(db, key)
        assert row is not None
        now = services.clock.now()
        subscriptions.change(
            db, row.id, next_period_no=0, next_period_date=row.anchor, next_due_at=now, open_at=now
        )
    assert open_charges.open_due(services) == 0
    assert len(charge_rows(services)) == 1


def test_two_openers_at_once_open_each_charge_once(services: Services) -> None:
    on_sale(services)
    for number in range(60):
        subscribed(services, f"customer-{number}")
    openers = [Thread(target=open_charges.open_due, args=(services,)) for _ in range(4)]
    for opener in openers:
        opener.start()
    for opener in openers:
        opener.join()
    assert len(charge_rows(services)) == 60


def test_months_without_a_31st_are_charged_on_their_last_day(services: Services) -> None:
    on_sale(services)
    subscribed(services)
    days = []
    for month in (1, 2, 3, 4):
        move_to(services, datetime(2026, month, 28 if month == 2 else 30, 23, 59, tzinfo=UTC))
        move(services, days=1)
        open_charges.open_due(services)
    days = [charge["due_at"].date() for charge in charge_rows(services)]
    assert days == [date(2026, 1, 31), date(2026, 2, 28), date(2026, 3, 31), date(2026, 4, 30)]


def test_one_plan_is_opened_and_the_other_is_left(services: Services) -> None:
    on_sale(services)
    on_sale(services, code="other")
    key = subscribed(services, "ann", "monthly")
    subscribed(services, "bob", "other")
    with services.engine.begin() as db:
        row = subscriptions.by_key(db, key)
    assert row is not None
    assert open_charges.open_due(services, row.plan_id) == 1


@pytest.mark.parametrize(
    ("catch_up", "statuses"),
    [
        (CatchUp.ALL, ["open", "open", "open"]),
        (CatchUp.LATEST, ["waived", "waived", "open"]),
        (CatchUp.NONE, ["waived", "waived", "waived"]),
        (CatchUp.ASK, ["open", "open", "open"]),
    ],
)
def test_three_missed_months_are_caught_up_as_the_plan_says(
    services: Services, catch_up: CatchUp, statuses: list[str]
) -> None:
    on_sale(services, catch_up=catch_up)
    subscribed(services)
    move_to(services, datetime(2026, 4, 15, tzinfo=UTC))
    open_charges.open_due(services)
    charges = charge_rows(services)
    assert [charge["status"] for charge in charges] == statuses
    assert all((charge["held_why"] is not None) == (catch_up is CatchUp.ASK) for charge in charges)


def test_the_cap_leaves_the_rest_of_a_long_outage_to_the_next_day(services: Services) -> None:
    on_sale(services, catch_up=CatchUp.ALL, catch_up_cap=2)
    subscribed(services)
    move_to(services, datetime(2026, 6, 15, tzinfo=UTC))
    assert [open_charges.open_due(services) for _ in range(2)] == [2, 0]
    move(services, days=1)
    assert open_charges.open_due(services) == 2
    move(services, days=1)
    assert open_charges.open_due(services) == 1
    assert [charge["period_no"] for charge in charge_rows(services)] == [0, 1, 2, 3, 4]


def test_nothing_is_opened_after_a_subscription_has_ended(services: Services) -> None:
    on_sale(services)
    key = subscribed(services)
    open_charges.open_due(services)
    enrollment.unsubscribe(services, key, "test", "moved away", at_period_end=True)
    move(services, days=90)
    assert open_charges.open_due(services) == 0


def test_a_price_change_leaves_running_subscriptions_alone(services: Services) -> None:
    from schedules.money.amounts import Money

    on_sale(services)
    subscribed(services, "ann")
    on_sale(services, price=Money(12000, "KRW"))
    subscribed(services, "bob")
    open_charges.open_due(services)
    assert sorted(charge["amount"] for charge in charge_rows(services)) == [9900, 12000]
