"""Codes: each refusal of a task has one of a closed set, and says that trying again helps only where it does."""

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

import schedules
import worker
from schedules.charging.outcomes import Declined, NotSent, Refused, Unknown
from schedules.dunning.policies import STANDARD
from schedules.errors import (
    ADVICE,
    REMEDIES,
    WHEN_KNOWN,
    BadRequest,
    Code,
    FixedCode,
    OwnCode,
    Repeat,
    UserError,
)
from schedules.money.amounts import Money
from schedules.subscriptions.verbs import RULES, Verdict
from tests.doubles import ScriptedGateway
from tests.factories import charge_rows, collect_due, on_sale, subscribed, with_settings
from worker.customers import enrollment, issued_keys
from worker.customers import signup as signups
from worker.customers.issued_keys import CannotIssue
from worker.customers.signup import NotSignedUp
from worker.gateway.port import Card, KeyAnswer
from worker.operations import operate
from worker.services import Services
from worker.store import failures
from worker.task_api import answers, verbs
from worker.task_api.verbs import Context

ROOT = Path(__file__).parents[2]
WHO = {"actor": "shop", "reason": "ticket 4711"}
LONG = "u" * 100  # more characters than a customer_uid has at PortOne
ADVISES = re.compile(r"\b(try|ask|look|send|say) (it )?again\b|\bagain later\b|\bsaid again\b|\bthen ask again\b")
FEE = {"customer_uid": "ann", "amount": 3000, "currency": "KRW", "name": "Fee", **WHO}
CARD = Card("4000000000001091", "2030-12", "900101", "12")
NEW = {"actor": "shop", "request_key": "new"}


@pytest.fixture
def context(services: Services, gateway: ScriptedGateway) -> Context:
    """Ann has paid a period, dan owes one after a decline, both of `monthly`; ann-2 is another card of ann."""
    on_sale(services, policy=STANDARD)
    on_sale(services, policy=STANDARD, code="large", price=Money(29_900, "KRW"))
    on_sale(services, policy=STANDARD, code="dollars", price=Money(900, "USD"))
    on_sale(services, policy=STANDARD, code="gone")
    enrollment.archive_plan(services, "gone", "test")
    subscribed(services)
    collect_due(services)
    gateway.answers.append(Declined("[CC10]통장 잔액부족"))
    subscribed(services, "dan")
    collect_due(services)
    enrollment.add_customer(services, "ann-2", None, None, None, "test", of="ann")
    gateway.missing_keys.add("none")
    return Context(services, lambda queued: None)


def keys(services: Services) -> dict[str, str]:
    """The keys that stand in REFUSALS as {ann}, {paid}, {owed}."""
    with services.engine.begin() as db:
        rows = db.execute(
            text(
                "SELECT u.customer_uid, s.key FROM subscriptions s JOIN billing_keys u ON u.id = s.billing_key_id"
            )
        )
        found = {row.customer_uid: row.key for row in rows}
    by_status = {row["status"]: row["key"] for row in charge_rows(services)}
    return found | {"paid": by_status["paid"], "owed": by_status["past_due"]}


TASKS = {verb.__name__: verb for verb in verbs.VERBS}
REFUSALS: list[tuple[str, dict[str, Any], Code]] = [
    ("charge_adhoc", FEE, Code.INVALID),  # no request key
    ("charge_adhoc", FEE | {"request_key": "k", "amount": "3000"}, Code.INVALID),
    ("charge_adhoc", FEE | {"request_key": "k", "amount": -1}, Code.INVALID),
    ("charge_adhoc", FEE | {"request_key": "k", "amount": 10**30}, Code.INVALID),
    ("charge_adhoc", FEE | {"request_key": "k", "currency": "XXX"}, Code.INVALID),
    ("charge_adhoc", FEE | {"request_key": "k", "customer_uid": LONG}, Code.INVALID),
    ("charge_adhoc", FEE | {"request_key": "k", "name": "n" * 600}, Code.INVALID),
    ("charge_adhoc", FEE | {"request_key": "k", "name": "\x00"}, Code.INVALID),
    ("charge_adhoc", FEE | {"request_key": "k", "name": "\ud800"}, Code.INVALID),
    ("charge_adhoc", FEE | {"request_key": "k", "name": "4000000000001091"}, Code.INVALID),
    ("charge_adhoc", FEE | {"request_key": "k", "colour": "red"}, Code.INVALID),
    ("charge_adhoc", FEE | {"request_key": "k", "customer_uid": "zoe"}, Code.NOT_FOUND),
    ("charge_adhoc", FEE | {"request_key": "k", "policy": "none"}, Code.NOT_FOUND),
    ("find", {"query": "  "}, Code.INVALID),
    ("find", {"query": "4111-1111-1111-1111"}, Code.INVALID),
    ("why", {"key": "nobody"}, Code.NOT_FOUND),
    ("charge_status", {}, Code.INVALID),
    ("charge_status", {"request_key": "never"}, Code.NOT_FOUND),
    ("charge_status", {"charge": "never"}, Code.NOT_FOUND),
    ("subscription_standing", {}, Code.INVALID),
    ("subscription_standing", {"subscription": "{ann}", "customer_uid": "ann"}, Code.INVALID),
    ("subscription_standing", {"subscription": "never"}, Code.NOT_FOUND),
    ("subscription_standing", {"external_ref": "never"}, Code.NOT_FOUND),
    ("subscription_standing", {"customer_uid": "zoe"}, Code.NOT_FOUND),
    ("customer_subscriptions", {"customer_uid": "zoe"}, Code.NOT_FOUND),
    ("customer_subscriptions", {"customer_uid": "ann", "after": "no cursor"}, Code.INVALID),
    ("customer_charges", {"customer_uid": "zoe"}, Code.NOT_FOUND),
    ("customer_charges", {"customer_uid": "ann", "limit": 0}, Code.INVALID),
    ("customer_charges", {"customer_uid": "ann", "limit": 10**9}, Code.INVALID),
    ("customer_charges", {}, Code.INVALID),
    ("customer_cards", {"customer_uid": "zoe"}, Code.NOT_FOUND),
    ("customer_cards", {"customer_uid": "ann", "limit": "10"}, Code.INVALID),
    ("try_charge", WHO | {"charge": "never", "request_key": "k"}, Code.NOT_FOUND),
    ("try_charge", WHO | {"charge": "{paid}", "request_key": "k"}, Code.CONFLICT),
    ("release", WHO | {"key": "never"}, Code.NOT_FOUND),
    ("release", WHO | {"key": "{paid}"}, Code.CONFLICT),
    ("release", WHO | {"key": "{owed}"}, Code.ALREADY_DONE),
    ("release", WHO | {"key": "{ann}"}, Code.ALREADY_DONE),
    ("release_refused", {"actor": "shop"}, Code.INVALID),
    ("waive", WHO | {"charge": "never"}, Code.NOT_FOUND),
    ("waive", WHO | {"charge": "{paid}"}, Code.CONFLICT),
    ("cancel_charge", WHO | {"charge": "never"}, Code.NOT_FOUND),
    ("cancel_charge", WHO | {"charge": "{paid}"}, Code.CONFLICT),
    ("paid_elsewhere", WHO | {"charge": "never"}, Code.NOT_FOUND),
    ("paid_elsewhere", WHO | {"charge": "{paid}"}, Code.CONFLICT),
    ("add_customer", NEW | {"customer_uid": "ann"}, Code.ALREADY_DONE),
    ("add_customer", NEW | {"customer_uid": "none"}, Code.NOT_FOUND),
    ("add_customer", NEW | {"customer_uid": "new", "of": "zoe"}, Code.NOT_FOUND),
    ("add_customer", NEW | {"customer_uid": "new", "account": "zoe"}, Code.NOT_FOUND),
    ("add_customer", NEW | {"customer_uid": LONG}, Code.INVALID),
    ("add_customer", NEW | {"customer_uid": " "}, Code.INVALID),
    ("add_customer", NEW | {"customer_uid": "new", "tel": "1" * 17}, Code.INVALID),
    ("card_changed", WHO | {"customer_uid": "zoe"}, Code.NOT_FOUND),
    ("delete_card", WHO | {"customer_uid": "zoe"}, Code.NOT_FOUND),
    ("delete_card", WHO | {"customer_uid": "ann"}, Code.CONFLICT),
    ("subscribe", NEW | {"customer_uid": "zoe", "plan": "monthly"}, Code.NOT_FOUND),
    ("subscribe", NEW | {"customer_uid": "ann", "plan": "none"}, Code.NOT_FOUND),
    ("subscribe", NEW | {"customer_uid": "ann", "plan": "gone"}, Code.CONFLICT),
    ("subscribe", NEW | {"customer_uid": "ann", "plan": "monthly"}, Code.CONFLICT),
    ("subscribe", NEW | {"customer_uid": "ann", "plan": "large", "anchor": "2040-01-01"}, Code.INVALID),
    ("subscribe", NEW | {"customer_uid": "ann", "plan": "large", "anchor": "2026-13-01"}, Code.INVALID),
    ("unsubscribe", WHO | {"subscription": "never"}, Code.NOT_FOUND),
    ("pause", WHO | {"subscription": "never"}, Code.NOT_FOUND),
    ("resume", WHO | {"subscription": "{ann}"}, Code.ALREADY_DONE),
    ("undo", WHO | {"subscription": "{ann}", "what": "end"}, Code.ALREADY_DONE),
    ("undo", WHO | {"subscription": "{ann}", "what": None}, Code.INVALID),
    ("skip", WHO | {"subscription": "{ann}", "period_no": 9}, Code.CONFLICT),
    ("skip", WHO | {"subscription": "{ann}", "period_no": None}, Code.INVALID),
    ("move_anchor", WHO | {"subscription": "{ann}", "anchor": "2040-01-01"}, Code.INVALID),
    ("move_time", WHO | {"subscription": "{ann}", "time": "25:00"}, Code.INVALID),
    ("move_time", WHO | {"subscription": "never", "time": None}, Code.NOT_FOUND),
    ("change_plan", WHO | {"subscription": "{ann}", "plan": "none"}, Code.NOT_FOUND),
    ("change_plan", WHO | {"subscription": "{ann}", "plan": "monthly"}, Code.ALREADY_DONE),
    ("change_plan", WHO | {"subscription": "{ann}", "plan": "dollars"}, Code.CONFLICT),
    ("change_card", WHO | {"subscription": "{ann}", "customer_uid": "zoe"}, Code.NOT_FOUND),
    ("change_card", WHO | {"subscription": "{ann}", "customer_uid": "dan"}, Code.CONFLICT),
    ("change_card", WHO | {"subscription": "{ann}", "customer_uid": "ann"}, Code.ALREADY_DONE),
    ("refund_charge", WHO | {"charge": "never", "request_key": "k"}, Code.NOT_FOUND),
    ("refund_charge", WHO | {"charge": "{owed}", "request_key": "k"}, Code.CONFLICT),
    ("refund_charge", WHO | {"charge": "{paid}", "request_key": "k", "amount": 1}, Code.INVALID),
    (
        "refund_charge",
        WHO | {"charge": "{paid}", "request_key": "k", "amount": 99_000, "currency": "KRW"},
        Code.CONFLICT,
    ),
    ("refund_status", {"request_key": "never"}, Code.NOT_FOUND),
]


def refused(context: Context, verb: str, fields: dict[str, Any]) -> dict[str, Any]:
    """The answer to a task that is refused."""
    answer = answers.answer(context, TASKS[verb], (), fields)
    assert not answer["ok"], answer
    return answer


def advised(answer: dict[str, Any]) -> bool:
    """Whether an answer tells its reader to try again."""
    return any(ADVISES.search(error["words"]) for error in answer["errors"])


def test_each_refusal_of_a_task_has_its_code_and_does_not_advise_to_try_again(context: Context) -> None:
    named, wrong = keys(context.services), []
    for verb, fields, code in REFUSALS:
        filled = {
            name: value.format(**named) if isinstance(value, str) else value for name, value in fields.items()
        }
        answer = refused(context, verb, filled)
        if (answer["code"], advised(answer)) != (code.value, False):
            wrong.append((verb, fields, code.value, answer))
    assert wrong == []


def test_every_task_is_refused_above() -> None:
    assert {verb for verb, _, _ in REFUSALS} == {asked.__name__ for asked in verbs.VERBS}


def test_a_request_key_of_another_request_is_a_conflict(context: Context) -> None:
    first = FEE | {"request_key": "fee"}
    assert answers.answer(context, verbs.charge_adhoc, (), first)["ok"]
    answer = refused(context, "charge_adhoc", first | {"amount": 4000})
    assert (answer["code"], answer["errors"][0]["field"]) == ("conflict", "request_key")


@pytest.mark.parametrize(
    ("gateway_answer", "code", "helps"),
    [
        (NotSent("ConnectTimeout"), Code.UNAVAILABLE, True),
        (Unknown("HTTP 502"), Code.UNAVAILABLE, True),
        (Refused("customer_uid cannot be"), Code.DECLINED, False),
    ],
)
def test_the_gateways_answer_decides_whether_trying_again_helps(
    context: Context, monkeypatch: pytest.MonkeyPatch, gateway_answer: KeyAnswer, code: Code, helps: bool
) -> None:
    """Guard: a person and a backend that try a refused request again and again never get what they want."""
    monkeypatch.setattr(context.services.gateway("main"), "read_key", lambda customer_uid: gateway_answer)
    answer = refused(context, "add_customer", NEW | {"customer_uid": "new"})
    assert (answer["code"], advised(answer)) == (code.value, helps), answer["errors"]


def test_what_is_deleted_here_and_not_at_the_gateway_has_the_code_of_its_answer(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = WHO | {"customer_uid": "ann-2"}
    with monkeypatch.context() as patched:
        patched.setattr(context.services.gateway("main"), "delete_key", lambda customer_uid: Refused("no rights"))
        answer = answers.answer(context, verbs.delete_card, (), delete)
        assert (answer["ok"], answer["code"], answer["at_gateway"]) == (True, "declined", "no rights")
    assert answers.answer(context, verbs.delete_card, (), delete)["code"] is None


def test_a_card_whose_call_was_not_answered_is_not_to_be_typed_in_again(
    context: Context, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: the payment may be made; the same card typed in under another request key is a second payment."""
    gateway.missing_keys.add("eve")
    gateway.answers.append(Unknown("ReadTimeout"))
    with pytest.raises(NotSignedUp) as signup:
        signups.sign_up(context.services, "eve", "monthly", CARD, "kim", "at the desk")
    gateway.missing_keys.add("fay")
    monkeypatch.setattr(gateway, "issue_key", lambda customer_uid, card: Unknown("ReadTimeout"))
    with pytest.raises(CannotIssue) as issue:
        issued_keys.issue(context.services, "fay", CARD, "kim", "at the desk")
    assert [signup.value.code, issue.value.code] == [Code.UNKNOWN] * 2
    assert ADVICE not in f"{signup.value} {issue.value}"


def test_a_person_who_asked_cannot_release_what_is_above_the_limit(context: Context) -> None:
    limited = replace(context, services=with_settings(context.services, charge_limit="KRW=1000"))
    asked = answers.answer(limited, verbs.charge_adhoc, (), FEE | {"request_key": "fee"})
    assert asked["held_why"]
    assert refused(limited, "release", WHO | {"key": asked["charge"]})["code"] == "not_allowed"
    held = refused(limited, "try_charge", WHO | {"charge": asked["charge"], "request_key": "t"})
    assert (held["code"], advised(held)) == ("held", False)


def test_another_refund_that_is_under_way_is_busy_and_may_be_asked_for_later(context: Context) -> None:
    refund = WHO | {"charge": keys(context.services)["paid"], "amount": 900, "currency": "KRW"}
    assert answers.answer(context, verbs.refund_charge, (), refund | {"request_key": "one"})["ok"]
    answer = refused(context, "refund_charge", refund | {"request_key": "two"})
    assert (answer["code"], advised(answer)) == ("busy", True)


def test_an_ended_charge_is_done_already_for_the_verb_that_ended_it(context: Context) -> None:
    charge = keys(context.services)["owed"]
    operate.waive(context.services, charge, "kim", "goodwill")
    assert refused(context, "waive", WHO | {"charge": charge})["code"] == "already_done"
    assert refused(context, "cancel_charge", WHO | {"charge": charge})["code"] == "conflict"


def test_a_database_error_has_a_code_that_says_whether_it_passes() -> None:
    class Cause(Exception):
        sqlstate = "23505"

    lost = DBAPIError("SELECT 1", None, Cause())
    assert failures.code_of(lost) is Code.FAILED
    Cause.sqlstate = "57P01"
    assert failures.code_of(lost) is Code.UNAVAILABLE


def errors_of(base: type[UserError]) -> Iterator[type[UserError]]:
    """All classes below one."""
    for below in base.__subclasses__():
        yield below
        yield from errors_of(below)


def test_every_error_that_a_person_meets_has_a_code_by_its_construction() -> None:
    for package in (schedules, worker):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    assert set(UserError.__subclasses__()) == {FixedCode, OwnCode}
    assert [each.__name__ for each in errors_of(FixedCode) if not isinstance(vars(each).get("code"), Code)] == []
    assert [each.__name__ for each in errors_of(OwnCode) if hasattr(each, "code")] == []  # each raise gives it


def test_every_refusal_of_a_verb_has_a_code_and_nothing_else_has() -> None:
    for rulings in RULES.values():
        for ruling in rulings.values():
            assert (ruling.code is not None) is (ruling.verdict is Verdict.REFUSED), ruling


def test_the_code_says_whether_the_sentence_advises_to_try_again() -> None:
    assert set(REMEDIES) == set(Code)
    for code, remedy in REMEDIES.items():
        helps = remedy.repeat is Repeat.LATER
        assert (str(OwnCodeOfATest(code, "no")) == f"no{ADVICE}") is helps
        assert (BadRequest(code, "amount", "no").words == f"no{ADVICE}") is helps
    assert str(OwnCodeOfATest(Code.BUSY, f"no{WHEN_KNOWN}")) == f"no{WHEN_KNOWN}", "one advice, not two"


class OwnCodeOfATest(OwnCode):
    """An error of these tests."""


def texts_of_errors(path: Path) -> Iterator[tuple[int, str]]:
    """The texts that stand in what a module raises, with their lines."""
    for raised in ast.walk(ast.parse(path.read_text())):
        if isinstance(raised, ast.Raise) and isinstance(raised.exc, ast.Call):
            texts = [
                each.value
                for each in ast.walk(raised.exc)
                if isinstance(each, ast.Constant) and isinstance(each.value, str)
            ]
            yield raised.lineno, " ".join(texts)


def test_no_error_advises_to_try_again_but_by_its_code() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {words}"
        for folder in ("schedules", "worker")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, words in texts_of_errors(path)
        if ADVISES.search(words)
    ]
    assert found == []
