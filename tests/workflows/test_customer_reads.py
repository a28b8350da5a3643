"""What other backends read of a customer: whether to serve, and the subscriptions, charges and cards."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from schedules.charging.outcomes import Declined
from schedules.dunning.policies import DunningPolicy
from tests.doubles import ScriptedGateway
from tests.factories import LADDER, START, collect_due, move, on_sale, subscribed
from tests.store.plans import seen
from worker.customers import adjust, enrollment
from worker.services import Services
from worker.task_api import answers, customer_reads, verbs

NO_MONEY = Declined("[CC10]통장 잔액부족")
GRACE = DunningPolicy(ladder=LADDER.ladder, grace=timedelta(days=5))


@pytest.fixture
def context(services: Services) -> verbs.Context:
    """Ann, whose first charge is paid."""
    on_sale(services, policy=GRACE)
    subscribed(services)
    collect_due(services)
    return verbs.Context(services, lambda queued: None)


def read(context: verbs.Context, verb: Any, **fields: Any) -> dict[str, Any]:
    """The answer of a read that is not refused."""
    answer = answers.answer(context, verb, (), fields)
    assert answer["ok"], answer
    return answer


def standing(context: verbs.Context, **fields: Any) -> tuple[bool, list[tuple[str, bool, str | None]]]:
    """Whether a customer is served, and each subscription's standing."""
    answer = read(context, customer_reads.subscription_standing, **(fields or {"customer_uid": "ann"}))
    found = [(each["standing"], each["served"], each["until"]) for each in answer["subscriptions"]]
    return answer["served"], found


def test_a_customer_who_pays_is_served_without_an_end(context: verbs.Context) -> None:
    assert standing(context) == (True, [("active", True, None)])
    (found,) = read(context, customer_reads.subscription_standing, customer_uid="ann")["subscriptions"]
    assert (found["customer_uid"], found["plan"], found["status"], found["owed"]) == (
        "ann",
        "monthly",
        "active",
        [],
    )
    assert found["next_due_at"] == "2026-02-28T00:00:00Z"


def test_a_debt_is_named_and_the_grace_ends_the_service(context: verbs.Context, gateway: ScriptedGateway) -> None:
    services = context.services
    key = subscribed(services, "dan")
    gateway.answers.append(NO_MONEY)
    collect_due(services)
    grace_ends = (START + timedelta(days=5)).isoformat().replace("+00:00", "Z")
    assert standing(context, subscription=key) == (True, [("in_grace", True, grace_ends)])
    (found,) = read(context, customer_reads.subscription_standing, subscription=key)["subscriptions"]
    (owed,) = found["owed"]
    assert (owed["amount"], owed["currency"], owed["status"], owed["due_at"]) == (
        9900, "KRW", "past_due", "2026-01-31T00:00:00Z",
    )  # fmt: skip
    move(services, days=6)
    assert standing(context, customer_uid="dan") == (False, [("suspended", False, None)])


def test_a_pause_ends_the_service_and_an_end_is_the_known_end(context: verbs.Context) -> None:
    services = context.services
    (found,) = read(context, customer_reads.customer_subscriptions, customer_uid="ann")["subscriptions"]
    adjust.pause(services, found["key"], "test", "on holiday")
    assert standing(context) == (False, [("suspended", False, None)])
    adjust.resume(services, found["key"], "test", "back")
    enrollment.unsubscribe(services, found["key"], "test", "too much", at_period_end=True)
    assert standing(context) == (True, [("active", True, "2026-02-28T00:00:00Z")])
    enrollment.unsubscribe(services, found["key"], "test", "at once", at_period_end=False)
    assert standing(context) == (False, [("ended", False, None)])


def test_a_customer_is_served_by_any_subscription_of_any_card(context: verbs.Context) -> None:
    services = context.services
    on_sale(services, code="large")
    enrollment.add_customer(services, "ann-2", None, None, None, "test", of="ann")
    second = enrollment.subscribe(services, "ann-2", "large", "test", None).key
    adjust.pause(services, second, "test", "on holiday")
    served, found = standing(context, customer_uid="ann-2")
    assert served
    assert sorted(each[0] for each in found) == ["active", "suspended"]


def test_an_external_reference_names_a_subscription(context: verbs.Context) -> None:
    with context.services.engine.begin() as db:
        db.execute(text("UPDATE subscriptions SET external_ref = 'old-7'"))
    assert standing(context, external_ref="old-7") == (True, [("active", True, None)])


def test_a_customer_without_a_subscription_is_not_served(context: verbs.Context) -> None:
    enrollment.add_customer(context.services, "new", None, None, None, "test")
    assert standing(context, customer_uid="new") == (False, [])


def test_charges_and_subscriptions_are_those_of_all_cards_and_no_other_customer(context: verbs.Context) -> None:
    services = context.services
    on_sale(services, code="large")
    enrollment.add_customer(services, "ann-2", None, None, None, "test", of="ann")
    enrollment.subscribe(services, "ann-2", "large", "test", None)
    subscribed(services, "bob")
    collect_due(services)
    for uid in ("ann", "ann-2"):
        charges = read(context, customer_reads.customer_charges, customer_uid=uid)["charges"]
        assert sorted(each["customer_uid"] for each in charges) == ["ann", "ann-2"]
        found = read(context, customer_reads.customer_subscriptions, customer_uid=uid)["subscriptions"]
        assert [each["plan"] for each in found] == ["large", "monthly"]
        cards = read(context, customer_reads.customer_cards, customer_uid=uid)["cards"]
        assert [each["customer_uid"] for each in cards] == ["ann-2", "ann"]
    first = read(context, customer_reads.customer_charges, customer_uid="ann", limit=1)
    second = read(context, customer_reads.customer_charges, customer_uid="ann", limit=1, after=first["next"])
    assert [page["charges"][0]["customer_uid"] for page in (first, second)] == ["ann-2", "ann"]
    assert second["next"] is None


def test_a_cursor_of_another_customer_is_refused(context: verbs.Context) -> None:
    services = context.services
    subscribed(services, "bob")
    on_sale(services, code="large")
    enrollment.subscribe(services, "bob", "large", "test", None)
    collect_due(services)
    first = read(context, customer_reads.customer_charges, customer_uid="bob", limit=1)
    fields = {"customer_uid": "ann", "after": first["next"]}
    refused = answers.answer(context, customer_reads.customer_charges, (), fields)
    assert (refused["ok"], refused["code"]) == (False, "invalid")
    assert "other filters" in refused["errors"][0]["words"]


def test_no_read_locks_a_row(context: verbs.Context) -> None:
    """A reader that asks for each customer who comes may not make a charge wait."""
    reads = (
        customer_reads.customer_charges,
        customer_reads.customer_subscriptions,
        customer_reads.customer_cards,
        customer_reads.subscription_standing,
    )
    with seen(context.services) as plans:
        for verb in reads:
            read(context, verb, customer_uid="ann")
    assert [statement for statement in plans if "FOR UPDATE" in statement or "FOR KEY" in statement] == []
    assert len(plans) >= len(reads)
