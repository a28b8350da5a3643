"""Answers: each verb names the dates and the amounts that it changes, and the periods that it opened first."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schedules.charging.outcomes import Declined
from schedules.dunning.policies import STANDARD
from schedules.money.amounts import Money
from tests.doubles import ScriptedGateway
from tests.factories import charge_rows, collect_due, move, move_to, on_sale, subscribed
from worker.customers import enrollment
from worker.services import Services
from worker.task_api import answers, verbs
from worker.task_api.verbs import Context

WHO = {"actor": "shop", "reason": "ticket 4711"}
FEBRUARY = datetime(2026, 2, 28, tzinfo=UTC)
NEXT = {"period_no": 1, "due_at": "2026-02-28T00:00:00Z", "amount": 9900, "currency": "KRW"}


@pytest.fixture
def context(services: Services) -> Context:
    """Where requests are carried out."""
    return Context(services, lambda queued: None)


@pytest.fixture
def key(services: Services) -> str:
    """A monthly subscription since 31 January, its first period paid."""
    on_sale(services, policy=STANDARD)
    on_sale(services, policy=STANDARD, code="large", price=Money(29_900, "KRW"))
    made = subscribed(services)
    enrollment.add_customer(services, "ann-2", None, None, None, "test", of="ann")
    collect_due(services)
    move(services, hours=1)
    return made


def told(context: Context, verb: str, key: str, **fields: Any) -> dict[str, Any]:
    """The answer to a task."""
    answer = answers.answer(context, getattr(verbs, verb), (), {"subscription": key, **WHO, **fields})
    assert answer["ok"], answer
    return answer


CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("pause", {}),
    ("unsubscribe", {}),
    ("unsubscribe", {"now": True}),
    ("skip", {"period_no": 2}),
    ("move_anchor", {"anchor": "2026-03-15"}),
    ("move_time", {"time": "21:30"}),
    ("change_plan", {"plan": "large"}),
    ("change_card", {"customer_uid": "ann-2"}),
]


@pytest.mark.parametrize(("verb", "fields"), CHANGES)
def test_each_verb_names_the_period_that_it_opened_first(
    context: Context, key: str, verb: str, fields: dict[str, Any]
) -> None:
    move_to(context.services, FEBRUARY + timedelta(seconds=1))
    (opened,) = told(context, verb, key, **fields)["opened"]
    charge = charge_rows(context.services)[1]
    assert opened["charge"] == charge["key"]
    names = ("period_no", "due_at", "amount", "currency")
    assert {name: opened[name] for name in names} == NEXT
    assert (opened["status"], opened["closed_why"]) == ("open", None)


@pytest.mark.parametrize(("verb", "fields"), [("pause", {}), ("unsubscribe", {}), ("unsubscribe", {"now": True})])
def test_a_stop_names_the_charge_that_does_not_come(
    context: Context, key: str, verb: str, fields: dict[str, Any]
) -> None:
    assert told(context, verb, key, **fields)["stops"] == NEXT


def test_an_end_of_a_paused_subscription_stops_no_charge(context: Context, key: str) -> None:
    told(context, "pause", key)
    assert told(context, "unsubscribe", key, now=True)["stops"] is None


def test_a_stop_names_the_charge_after_those_that_are_skipped(context: Context, key: str) -> None:
    told(context, "skip", key, period_no=1)
    stops = {"period_no": 2, "due_at": "2026-03-31T00:00:00Z", "amount": 9900, "currency": "KRW"}
    assert told(context, "pause", key)["stops"] == stops


@pytest.mark.parametrize(
    ("verb", "fields", "after"),
    [
        ("move_anchor", {"anchor": "2026-02-15"}, ("2026-02-15", "2026-02-15T00:00:00Z", 9900)),
        ("move_time", {"time": "21:30"}, ("2026-02-28", "2026-02-28T12:30:00Z", 9900)),
        ("change_plan", {"plan": "large"}, ("2026-02-28", "2026-02-28T00:00:00Z", 29900)),
    ],
)
def test_a_change_names_the_next_charge_after_it_and_before(
    context: Context, key: str, verb: str, fields: dict[str, Any], after: tuple[str, str, int]
) -> None:
    answer = told(context, verb, key, **fields)
    assert (answer["period_date"], answer["next_due_at"], answer["amount"]) == after
    assert (answer["period_no"], answer["currency"]) == (1, "KRW")
    before = (answer["due_at_before"], answer["amount_before"], answer["currency_before"])
    assert before == ("2026-02-28T00:00:00Z", 9900, "KRW")
    assert answer["opened"] == []


def test_a_change_of_card_names_each_debt_and_the_next_charge(
    context: Context, gateway: ScriptedGateway, key: str
) -> None:
    move_to(context.services, FEBRUARY)
    gateway.answers.append(Declined("[CC10]통장 잔액부족"))
    collect_due(context.services)
    answer = told(context, "change_card", key, customer_uid="ann-2")
    owed = charge_rows(context.services)[1]["key"]
    assert answer["debts"] == [
        {"charge": owed, "due_at": "2026-02-28T00:00:00Z", "amount": 9900, "currency": "KRW", "became": "tried"}
    ]
    assert [answer[name] for name in ("tried", "moved", "under_way", "left")] == [1, 0, 0, 0]
    assert (answer["next_period_no"], answer["next_due_at"]) == (2, "2026-03-31T00:00:00Z")
    assert (answer["next_amount"], answer["currency"]) == (9900, "KRW")


def test_a_skip_names_its_period_also_where_none_was_named(context: Context, key: str) -> None:
    skipped = told(context, "skip", key, period_no=None, request_key="skip-1")
    named = ("period_no", "period_date", "due_at", "not_charged", "currency")
    assert tuple(skipped[name] for name in named) == (1, "2026-02-28", "2026-02-28T00:00:00Z", 9900, "KRW")
    assert (skipped["following_period_no"], skipped["next_due_at"]) == (2, "2026-03-31T00:00:00Z")


def test_a_skip_of_no_named_period_that_is_delivered_twice_is_one_skip(context: Context, key: str) -> None:
    """Guard: without a number or a request key each delivery would skip one more period."""
    first = told(context, "skip", key, period_no=None, request_key="skip-1")
    assert told(context, "skip", key, period_no=None, request_key="skip-1") == first
    numbered = told(context, "skip", key, period_no=2)
    assert told(context, "skip", key, period_no=2) == numbered
    for verb, field in (("skip", "period_no"), ("undo", "what")):
        fields = {"subscription": key, field: None, **WHO}
        answer = answers.answer(context, getattr(verbs, verb), (), fields)
        assert (answer["error"], answer["errors"][0]["field"]) == ("bad_arguments", field)
    assert told(context, "pause", key)["stops"]["period_no"] == 3


def test_an_undone_end_names_the_charge_that_comes_again(context: Context, key: str) -> None:
    told(context, "unsubscribe", key)
    undone = told(context, "undo", key, what="end")
    assert (undone["ended_at"], undone["next_due_at"]) == ("2026-02-28T00:00:00Z", "2026-02-28T00:00:00Z")
    assert (undone["next_amount"], undone["opened"]) == (9900, [])
