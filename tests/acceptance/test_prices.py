"""Prices: a command that shows or changes one says it with its currency, before and after."""

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from schedules.charging.outcomes import Declined
from schedules.money.amounts import Money
from tests.acceptance.again import refused, told, told_json
from tests.doubles import ScriptedGateway
from tests.factories import charge_rows, collect_due, move_to, on_sale, subscribed
from worker.cli.terminal.output import with_currency
from worker.customers import adjust, enrollment
from worker.customers.admit import CannotAdjust
from worker.customers.enrollment import CannotEnroll
from worker.services import Services

CENTS = Money(990, "USD")


@pytest.fixture
def settings(database: str) -> dict[str, str]:
    """The settings of commands on the test's own database."""
    return {
        "AGAIN_ENVIRONMENT": "test", "AGAIN_DATABASE_URL": database, "AGAIN_BROKER_URL": "redis://127.0.0.1:1/0",
        "AGAIN_PORTONE_URL": "http://127.0.0.1:1", "AGAIN_PORTONE_KEY": "key", "AGAIN_PORTONE_SECRET": "secret",
    }  # fmt: skip


def test_amounts_for_people_have_their_currency(
    services: Services, gateway: ScriptedGateway, settings: dict[str, str]
) -> None:
    on_sale(services, price=CENTS)
    key = subscribed(services)
    gateway.answers.append(Declined("[CC10]통장 잔액부족"))
    collect_due(services)
    charge = charge_rows(services)[0]["key"]
    with services.engine.begin() as db:
        db.exec_driver_sql("UPDATE charges SET held_why = 'a person must look'")
    shown = {
        words: told(*words, settings=settings)
        for words in (("plan", "show", "monthly"), ("show", key), ("show", charge), ("held",))
    }
    assert "price: 9.90 USD" in shown["plan", "show", "monthly"]
    assert "price: 9.90 USD" in shown["show", key]
    assert "amount: 9.90 USD" in shown["show", charge]
    assert all("9.90 USD" in text and " 990" not in text for text in shown.values())
    assert told_json("plan", "show", "monthly", settings=settings)[0]["price"] == 990
    assert told_json("show", charge, settings=settings)["amount"] == 990


def test_a_change_of_plan_and_its_dry_run_show_both_prices_and_the_date(
    services: Services, settings: dict[str, str]
) -> None:
    move_to(services, datetime(2089, 12, 31, tzinfo=UTC))
    on_sale(services)
    key = subscribed(services, anchor=date(2090, 1, 31))
    on_sale(services, code="dear", price=Money(29900, "KRW"))
    arguments = ("change-plan", key, "dear", "--why", "wants more", "--actor", "kim")
    words = "plan dear version 1, 9,900 KRW -> 29,900 KRW, from period 0 on, due 2090-01-31 00:00Z"
    assert f"nothing is done; it would charge by {words}" in told(*arguments, "--dry-run", settings=settings)
    assert f"subscription {key} is charged by {words}" in told(*arguments, settings=settings)
    assert "its first charge is period 0, 9,900 KRW, due " in told(
        "subscribe", "ann", "monthly", settings=settings
    )


def test_no_currency_is_changed_without_being_asked_for(services: Services, settings: dict[str, str]) -> None:
    move_to(services, datetime(2089, 12, 31, tzinfo=UTC))
    on_sale(services)
    key = subscribed(services, anchor=date(2090, 1, 31))
    on_sale(services, code="abroad", price=CENTS)
    change = ("change-plan", key, "abroad", "--why", "moves")
    words = refused(*change, settings=settings)
    assert "costs 9.90 USD, subscription" in words
    assert "costs 9,900 KRW; say --other-currency" in words
    told(*change, "--other-currency", settings=settings)
    assert "price: 9.90 USD" in told("show", key, settings=settings)
    add = ("plan", "add", "monthly", "--price", "9.90", "--currency", "USD", "--name", "Monthly", "--every", "1",
           "--unit", "month")  # fmt: skip
    assert "version 1 costs 9,900 KRW, the new version 9.90 USD" in refused(*add, settings=settings)
    assert "plan monthly version 2 is on sale: 9.90 USD" in told(*add, "--other-currency", settings=settings)


def test_a_new_version_in_another_currency_moves_nobody_unasked(services: Services) -> None:
    plan = on_sale(services)
    key = subscribed(services)
    collect_due(services)
    with pytest.raises(CannotEnroll, match=r"version 1 costs 9,900 KRW, the new version 9\.90 USD"):
        on_sale(services, price=CENTS)
    abroad = replace(plan, price=CENTS)
    stored, is_new = enrollment.put_plan(services, abroad, "standard", "kim", other_currency=True)
    assert (stored.plan.version, is_new) == (2, True)
    with pytest.raises(CannotAdjust, match="say --other-currency"):
        adjust.change_plan(services, key, "monthly", "kim", "newest")


def test_the_same_plan_again_is_the_same_version(services: Services, settings: dict[str, str]) -> None:
    add = ("plan", "add", "tea", "--price", "5000", "--name", "Tea", "--every", "1", "--unit", "month")
    told(*add, settings=settings)
    assert "plan tea version 1 is on sale" in (terms := told(*add, settings=settings))
    assert "at 09:00 Asia/Seoul" in terms
    assert (again := told_json(*add, settings=settings))["version"] == 1
    assert again["is_new"] is False
    assert told_json(*add, "--catch-up", "latest", settings=settings)["version"] == 2
    assert told_json(*add, "--ladder", "1d", settings=settings)["version"] == 3
    told("plan", "archive", "tea", settings=settings)
    assert told_json(*add, "--ladder", "1d", settings=settings)["version"] == 4


def test_facts_without_a_currency_stay_as_they_are() -> None:
    assert with_currency({"amount": 990, "currency": None}) == {"amount": 990, "currency": None}
    facts = {"amount": 990, "refunded": 0, "period_no": 3, "currency": "USD", "price": None}
    assert with_currency(facts) == {"amount": "9.90 USD", "refunded": "0.00 USD", "period_no": 3, "price": None}
