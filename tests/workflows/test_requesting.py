"""Requesting: a charge by its request key is one debt, however often it is asked for; a wrong field is named."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from schedules.charging.charges import ChargeKind
from schedules.charging.outcomes import Declined, Unknown
from schedules.dunning.policies import STANDARD
from schedules.errors import BadRequest
from schedules.money.amounts import Money
from schedules.requests.adhoc import ChargeRequest
from tests.doubles import ScriptedGateway
from tests.factories import charge_rows, collect_due, move, on_sale, subscribed
from worker.charging import adhoc, overdue
from worker.charging.adhoc import CannotRequest
from worker.clock import FixedClock
from worker.customers import enrollment
from worker.operations import operate
from worker.renewals import enqueue
from worker.services import DryRunChanges, Services
from worker.store.tables import charges
from worker.task_api import answers, verbs

FEE = ChargeRequest(
    customer_uid="ann", money=Money(3000, "KRW"), name="연체 수수료", request_key="fee-2026-01", reason="late",
    policy="once",
)  # fmt: skip
FIELDS: dict[str, Any] = {
    "customer_uid": "ann", "amount": 3000, "currency": "KRW", "name": "연체 수수료", "request_key": "fee-2026-01",
    "reason": "late", "actor": "shop",
}  # fmt: skip


@pytest.fixture
def context(services: Services) -> verbs.Context:
    """Where requests are carried out; what is published is tried by nobody."""
    enrollment.add_customer(services, "ann", None, None, None, "test")
    return verbs.Context(services, lambda queued: None)


def asked(context: verbs.Context, **changes: Any) -> dict[str, Any]:
    """The answer to a request for a charge, with some of its fields changed, or left out where None."""
    fields = {name: value for name, value in (FIELDS | changes).items() if value is not None}
    return answers.answer(context, verbs.charge_adhoc, (), fields)


def fields_of(answer: dict[str, Any]) -> list[str | None]:
    """The fields that an answer calls wrong."""
    assert not answer["ok"]
    return [error["field"] for error in answer["errors"]]


def test_what_is_asked_for_is_collected_like_any_charge(context: verbs.Context, gateway: ScriptedGateway) -> None:
    answer = asked(context)
    assert answer["ok"]
    assert answer["is_new"]
    collect_due(context.services)
    assert [(order.money, order.name) for order in gateway.sent] == [(Money(3000, "KRW"), "연체 수수료")]
    told = answers.answer(context, verbs.charge_status, (), {"request_key": "fee-2026-01"})
    assert (told["charge"], told["status"], told["attempt_state"]) == (answer["charge"], "paid", "paid")
    assert told["merchant_uid"] == gateway.sent[0].merchant_uid


def test_the_same_asked_again_is_the_same_charge(context: verbs.Context, gateway: ScriptedGateway) -> None:
    first = asked(context)
    collect_due(context.services)
    again = asked(context, actor="somebody else")
    assert (again["charge"], again["is_new"], again["status"]) == (first["charge"], False, "paid")
    collect_due(context.services)
    assert len(gateway.sent) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": 3001},
        {"customer_uid": "ben"},
        {"name": "another"},
        {"reason": "another"},
        {"policy": "standard"},
    ],
)
def test_another_request_under_one_key_is_refused(context: verbs.Context, changes: dict[str, Any]) -> None:
    """The guard: the fingerprint beside the request key."""
    enrollment.add_customer(context.services, "ben", None, None, None, "test")
    asked(context)
    assert fields_of(asked(context, **changes)) == ["request_key"]
    assert len(charge_rows(context.services)) == 1


def test_many_who_ask_at_once_make_one_charge(context: verbs.Context) -> None:
    """The guard: one_charge_for_each_request_key."""
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: adhoc.charge(context.services, FEE, "shop"), range(8)))
    assert len({charge.key for charge in made}) == 1
    assert sum(charge.is_new for charge in made) == 1


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"customer_uid": "zoe"}, "customer_uid"),
        ({"customer_uid": None}, "customer_uid"),
        ({"amount": "3000"}, "amount"),
        ({"amount": 3000.0}, "amount"),
        ({"amount": True}, "amount"),
        ({"amount": 0}, "amount"),
        ({"currency": "XXX"}, "currency"),
        ({"name": ""}, "name"),
        ({"name": "n" * 41}, "name"),
        ({"name": "n\n"}, "name"),
        ({"request_key": "k" * 201}, "request_key"),
        ({"request_key": "4111111111111111"}, "request_key"),
        ({"reason": " "}, "reason"),
        ({"actor": None}, "actor"),
        ({"policy": "nothing"}, "policy"),
        ({"amuont": 3000}, "amuont"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_charged(
    context: verbs.Context, changes: dict[str, Any], field: str
) -> None:
    answer = asked(context, **changes)
    assert fields_of(answer) == [field]
    assert answer["error"] == "bad_arguments"
    assert "4111111111111111" not in str(answer)
    assert not charge_rows(context.services)


def test_arguments_without_names_are_refused(context: verbs.Context) -> None:
    answer = answers.answer(context, verbs.charge_adhoc, ("ann", 3000), {})
    assert fields_of(answer) == ["args"]


def test_every_wrong_field_is_named_at_once(context: verbs.Context) -> None:
    assert set(fields_of(asked(context, amount="x", name=None, reason=None))) == {"amount", "name", "reason"}


def test_a_deleted_billing_key_is_refused(context: verbs.Context) -> None:
    with context.services.engine.begin() as db:
        db.execute(text("UPDATE billing_keys SET deleted_at = now()"))
    assert fields_of(asked(context)) == ["customer_uid"]


def test_a_machine_whose_clock_is_wrong_opens_nothing(context: verbs.Context) -> None:
    now = context.services.clock.now()
    wrong = replace(context.services, clock=FixedClock(now, ahead=timedelta(minutes=5)))
    with pytest.raises(CannotRequest, match="clock"):
        adhoc.charge(wrong, FEE, "shop")
    assert not charge_rows(context.services)


def test_without_a_policy_a_decline_is_the_end(context: verbs.Context, gateway: ScriptedGateway) -> None:
    gateway.answers.append(Declined("[CC10]통장 잔액부족"))
    asked(context)
    collect_due(context.services)
    assert charge_rows(context.services)[0]["status"] == "uncollectible"


def test_with_a_policy_it_is_dunned(context: verbs.Context, gateway: ScriptedGateway) -> None:
    gateway.answers.append(Declined("[CC10]통장 잔액부족"))
    asked(context, policy=STANDARD.code)
    collect_due(context.services)
    row = charge_rows(context.services)[0]
    assert (row["status"], row["next_attempt_at"] is not None) == ("past_due", True)


def test_a_card_that_can_never_pay_ends_it_without_a_call(
    context: verbs.Context, gateway: ScriptedGateway
) -> None:
    with context.services.engine.begin() as db:
        db.execute(text("UPDATE billing_keys SET stopped_as = 'never_again'"))
    asked(context)
    collect_due(context.services)
    move(context.services, minutes=1)
    overdue.look_due(context.services)
    assert not gateway.sent
    assert charge_rows(context.services)[0]["status"] == "uncollectible"


def test_an_unclear_answer_is_asked_about_and_not_sent_again(
    context: verbs.Context, gateway: ScriptedGateway
) -> None:
    gateway.answers.append(Unknown("time-out"))
    asked(context)
    collect_due(context.services)
    asked(context)
    collect_due(context.services)
    assert len(gateway.sent) == 1


def test_it_goes_before_what_waits_to_be_queued(context: verbs.Context) -> None:
    """A thousand older charges may wait for their turn; a person waits for this one."""
    on_sale(context.services)
    subscribed(context.services, "ben")
    published: list[enqueue.Queued] = []
    answer = asked(replace(context, publish=published.extend))
    row = next(row for row in charge_rows(context.services) if row["key"] == answer["charge"])
    assert published == [(row["id"], ChargeKind.ADHOC, "main")]
    assert row["queued_until"] > context.services.clock.now()


def test_a_broker_that_is_away_costs_time_alone(context: verbs.Context) -> None:
    def away(queued: object) -> None:
        raise enqueue.BrokerUnreachable("away")

    assert asked(replace(context, publish=away))["ok"]
    published: list[enqueue.Queued] = []
    enqueue.top_up(context.services, published.extend)
    assert len(published) == 1


def test_a_rehearsal_changes_nothing_and_tells_what_it_would(context: verbs.Context) -> None:
    dry_run = replace(context.services, dry_run=DryRunChanges())
    assert adhoc.charge(dry_run, FEE, "shop").is_new
    assert not charge_rows(context.services)
    with context.services.engine.begin() as db:
        assert not db.execute(text("SELECT 1 FROM audit WHERE verb = 'charge'")).first()


def test_a_person_may_try_it_and_let_it_go_as_any_charge(context: verbs.Context, gateway: ScriptedGateway) -> None:
    gateway.answers.append(Declined("[CC10]통장 잔액부족"))
    key = asked(context, policy=STANDARD.code)["charge"]
    collect_due(context.services)
    fields = {"charge": key, "reason": "he called", "actor": "kim", "request_key": "try-1"}
    told = answers.answer(context, verbs.try_charge, (), fields)
    assert told == {"ok": True, "charge": key}
    gateway.answers.append(Declined("[CC10]통장 잔액부족"))
    collect_due(context.services)
    operate.waive(context.services, key, "kim", "goodwill")
    assert charge_rows(context.services)[0]["status"] == "waived"


def test_what_does_not_fit_the_state_is_refused_in_words(context: verbs.Context) -> None:
    fields = {"charge": "a1", "reason": "x", "actor": "kim", "request_key": "try-1"}
    told = answers.answer(context, verbs.try_charge, (), fields)
    assert (told["error"], fields_of(told)) == ("refused", [None])
    assert "is not known" in told["errors"][0]["words"]


def test_the_columns_say_what_was_asked(context: verbs.Context) -> None:
    asked(context)
    row = charge_rows(context.services)[0]
    assert (row["request_key"], row["kind"], row["period_no"]) == ("fee-2026-01", "adhoc", 0)
    assert row[charges.c.request_fingerprint.name] == FEE.fingerprint


def test_a_request_says_which_field_is_wrong() -> None:
    with pytest.raises(BadRequest, match=r"^name: "):
        replace(FEE, name="")
