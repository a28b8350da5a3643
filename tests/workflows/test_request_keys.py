"""Request keys: each verb is carried out once for a key, and the same request gets the same answer again."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from schedules.charging.outcomes import Declined, Refused
from schedules.errors import BadRequest
from schedules.requests.adhoc import VerbRequest
from tests.doubles import ScriptedGateway
from tests.factories import charge_rows, collect_due, move, on_sale, subscribed
from worker import idempotency
from worker.customers import adjust, enrollment, issued_keys, signup
from worker.gateway.port import Card, KeyAnswer, KeyDeclined
from worker.operations import operate
from worker.services import Services
from worker.task_api import answers as task_answers
from worker.task_api import verbs

WHO = {"actor": "shop", "reason": "ticket 4711"}
CARD = Card("4000000000001091", "2030-12", "900101", "12")
SUBSCRIBE = {"customer_uid": "ann", "plan": "monthly", "actor": "shop"}


@pytest.fixture
def context(services: Services) -> verbs.Context:
    """A context of a shop with a plan and a customer."""
    on_sale(services)
    enrollment.add_customer(services, "ann", None, None, None, "test")
    return verbs.Context(services, lambda queued: None)


def sent(context: verbs.Context, asked: Callable[..., dict[str, Any]], key: str, **fields: Any) -> dict[str, Any]:
    """The answer to a task that is sent with a request key."""
    return task_answers.answer(context, asked, (), fields | {"request_key": key})


def count(services: Services, table: str) -> int:
    """How many rows a table has."""
    with services.engine.begin() as db:
        return int(db.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def test_subscribe_sent_again_after_a_cancellation_answers_the_same_and_charges_nothing(
    context: verbs.Context, gateway: ScriptedGateway
) -> None:
    first = sent(context, verbs.subscribe, "order-1", **SUBSCRIBE)
    collect_due(context.services)
    enrollment.unsubscribe(context.services, first["subscription"], "kim", "left", at_period_end=False)
    assert sent(context, verbs.subscribe, "order-1", **SUBSCRIBE) == first
    move(context.services, days=40)
    collect_due(context.services)
    assert count(context.services, "subscriptions") == 1
    assert len(gateway.sent) == 1


def test_subscribe_sent_again_after_a_restore_undid_it_leads_to_the_same_charge_keys(
    context: verbs.Context,
) -> None:
    first = sent(context, verbs.subscribe, "order-1", **SUBSCRIBE)
    with context.services.engine.begin() as db:  # as a restore to a backup from before the request leaves it
        db.execute(text("DELETE FROM subscriptions"))
        db.execute(text("DELETE FROM requests"))
    assert sent(context, verbs.subscribe, "order-1", **SUBSCRIBE)["subscription"] == first["subscription"]


def test_a_trial_signed_up_again_after_a_restore_undid_it_leads_to_the_same_charge_keys(
    services: Services, gateway: ScriptedGateway
) -> None:
    gateway.missing_keys.add("ann")
    on_sale(services, trial_days=14)

    def signed_up() -> str:
        request = signup.sign_up(services, "ann", "monthly", CARD, "kim", "came in", request_key="desk-1")
        return request.subscription

    first = signed_up()
    with services.engine.begin() as db:
        db.execute(text("DELETE FROM subscriptions"))
        db.execute(text("DELETE FROM requests"))
    assert signed_up() == first


def test_another_key_is_another_request(context: verbs.Context) -> None:
    first = sent(context, verbs.subscribe, "order-1", **SUBSCRIBE)
    enrollment.unsubscribe(context.services, first["subscription"], "kim", "left", at_period_end=False)
    second = sent(context, verbs.subscribe, "order-2", **SUBSCRIBE)
    assert second["ok"]
    assert second["subscription"] != first["subscription"]


@pytest.mark.parametrize("changes", [{"plan": "other"}, {"anchor": "2026-03-01"}, {"customer_uid": "bob"}])
def test_a_known_key_with_other_arguments_is_refused_and_named(
    context: verbs.Context, changes: dict[str, str]
) -> None:
    sent(context, verbs.subscribe, "order-1", **SUBSCRIBE)
    answer = sent(context, verbs.subscribe, "order-1", **(SUBSCRIBE | changes))
    assert (answer["error"], answer["errors"][0]["field"]) == ("bad_arguments", "request_key")
    assert "with other arguments" in answer["errors"][0]["words"]


def test_a_known_key_for_another_verb_is_refused(context: verbs.Context) -> None:
    key = sent(context, verbs.subscribe, "order-1", **SUBSCRIBE)["subscription"]
    answer = sent(context, verbs.pause, "order-1", subscription=key, **WHO)
    assert answer["errors"][0]["words"].startswith("'order-1' was used for `subscribe`;")


def test_another_actor_or_an_argument_with_its_default_is_the_same_request(context: verbs.Context) -> None:
    first = sent(context, verbs.subscribe, "order-1", **SUBSCRIBE)
    again = sent(context, verbs.subscribe, "order-1", **(SUBSCRIBE | {"actor": "kim", "another": False}))
    assert again == first


def test_a_request_that_creates_needs_a_key(context: verbs.Context) -> None:
    answer = task_answers.answer(context, verbs.subscribe, (), SUBSCRIBE)
    assert [error["field"] for error in answer["errors"]] == ["request_key"]
    for asked in (verbs.add_customer, verbs.try_charge):
        errors = task_answers.answer(context, asked, (), {})["errors"]
        assert "request_key" in [error["field"] for error in errors]


def test_a_refused_request_leaves_its_key_free(context: verbs.Context) -> None:
    refused = sent(context, verbs.subscribe, "order-1", **(SUBSCRIBE | {"plan": "later"}))
    assert refused["error"] == "refused"
    on_sale(context.services, code="later")
    assert sent(context, verbs.subscribe, "order-1", **(SUBSCRIBE | {"plan": "later"}))["ok"]


def test_many_deliveries_at_once_do_one_thing_and_get_one_answer(context: verbs.Context) -> None:
    with ThreadPoolExecutor(8) as pool:
        begun = [
            pool.submit(sent, context, verbs.subscribe, "order-1", **(SUBSCRIBE | {"another": True}))
            for _ in range(8)
        ]
        answers = [each.result(60) for each in begun]
    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["ok"]
    assert count(context.services, "subscriptions") == 1


def test_what_fails_before_its_answer_is_written_is_not_done(context: verbs.Context) -> None:
    key = subscribed(context.services, "bob")
    collect_due(context.services)
    request = VerbRequest(request_key="pause-1", verb="pause", arguments={"subscription": key})

    def fails(at: Services) -> dict[str, Any]:
        adjust.pause(at, key, "kim", "moving")
        raise OSError("the machine is gone")

    with pytest.raises(OSError, match="the machine is gone"):
        idempotency.once(context.services, request, fails)
    assert count(context.services, "requests") == 0
    adjust.pause(context.services, key, "kim", "it is not paused yet")


def test_a_request_that_was_undone_since_is_not_done_again(context: verbs.Context) -> None:
    """Each verb is delivered, then taken back, then delivered again."""
    services, key = context.services, subscribed(context.services, "bob")
    collect_due(services)
    paused = sent(context, verbs.pause, "k-1", subscription=key, **WHO)
    adjust.resume(services, key, "kim", "back")
    skipped = sent(context, verbs.skip, "k-2", subscription=key, period_no=1, **WHO)
    adjust.undo(services, key, "kim", "not skipped")
    ends = sent(context, verbs.unsubscribe, "k-3", subscription=key, **WHO)
    undone = sent(context, verbs.undo, "k-4", subscription=key, what="end", **WHO)
    before = count(services, "audit")
    assert sent(context, verbs.pause, "k-1", subscription=key, **WHO) == paused
    assert sent(context, verbs.skip, "k-2", subscription=key, period_no=1, **WHO) == skipped
    assert sent(context, verbs.unsubscribe, "k-3", subscription=key, **WHO) == ends
    assert sent(context, verbs.undo, "k-4", subscription=key, what="end", **WHO) == undone
    assert [answer["ok"] for answer in (paused, skipped, ends, undone)] == [True] * 4
    assert count(services, "audit") == before
    with services.engine.begin() as db:
        row = db.execute(text("SELECT status, ends_at, skip_to FROM subscriptions WHERE key = :key"), {"key": key})
        assert row.one() == ("active", None, None)


def test_a_charge_is_tried_once_for_a_key(context: verbs.Context, gateway: ScriptedGateway) -> None:
    gateway.answers.extend([Declined("[CC10]통장 잔액부족")] * 2)
    enrollment.subscribe(context.services, "ann", "monthly", "test")
    collect_due(context.services)
    key = charge_rows(context.services)[0]["key"]
    move(context.services, hours=3)
    first = sent(context, verbs.try_charge, "try-1", charge=key, **WHO)
    assert first["ok"]
    collect_due(context.services)
    move(context.services, hours=3)
    assert sent(context, verbs.try_charge, "try-1", charge=key, **WHO) == first
    collect_due(context.services)
    assert len(gateway.sent) == 2


def test_a_customer_is_added_once_for_a_key(context: verbs.Context, gateway: ScriptedGateway) -> None:
    first = sent(context, verbs.add_customer, "new-1", customer_uid="zoe", actor="shop")
    assert first["ok"]
    assert sent(context, verbs.add_customer, "new-1", customer_uid="zoe", actor="shop") == first
    gateway.missing_keys.add("zoe")
    assert sent(context, verbs.add_customer, "new-1", customer_uid="zoe", actor="shop") == first
    assert sent(context, verbs.add_customer, "new-2", customer_uid="zoe", actor="shop")["error"] == "refused"


def test_a_key_that_looks_like_a_card_number_is_refused_and_not_repeated(context: verbs.Context) -> None:
    answer = sent(context, verbs.subscribe, "4000000000001091", **SUBSCRIBE)
    assert answer["errors"][0]["field"] == "request_key"
    assert "1091" not in str(answer)


@pytest.mark.parametrize("trial_days", [0, 14])
def test_a_signup_said_again_after_a_cancellation_is_the_same(
    services: Services, gateway: ScriptedGateway, trial_days: int
) -> None:
    gateway.missing_keys.add("ann")
    on_sale(services, trial_days=trial_days)

    def signed_up(code: str = "monthly") -> signup.SignedUp:
        return signup.sign_up(services, "ann", code, CARD, "kim", "came in", request_key="desk-1")

    first = signed_up()
    enrollment.unsubscribe(services, first.subscription, "kim", "left", at_period_end=False)
    calls = len(gateway.sent)
    assert signed_up() == first
    assert len(gateway.sent) == calls
    with pytest.raises(BadRequest, match="request_key"):
        signed_up("other")
    assert count(services, "subscriptions") == 1


def typed(services: Services, key: str | None, card: Card = CARD) -> issued_keys.Issued:
    """A card that is typed in for ann, under a request key."""
    return issued_keys.issue(services, "ann", card, "kim", "at the desk", request_key=key)


def issue_calls(gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The customer_uids of the cards that the gateway is sent from now on."""
    calls: list[str] = []
    issue_key = gateway.issue_key

    def count_and_issue(customer_uid: str, card: Card) -> KeyAnswer:
        calls.append(customer_uid)
        return issue_key(customer_uid, card)

    monkeypatch.setattr(gateway, "issue_key", count_and_issue)
    return calls


def test_a_card_is_issued_once_for_a_key_whatever_became_of_it(
    context: verbs.Context, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: said again, it would replace the card that the customer has given since."""
    calls, services = issue_calls(gateway, monkeypatch), context.services
    first = typed(services, "card-1")
    assert (first.is_new, first.card_number) == (True, "40000000****1091")
    newer = replace(CARD, number="5100000000002222")
    typed(services, "card-2", newer)
    again = typed(services, "card-1")
    assert again == replace(first, is_new=False)
    assert calls == ["ann", "ann"]
    assert gateway.keys["ann"].card_number == "51000000****2222"


def test_another_card_under_a_known_key_is_refused(context: verbs.Context, gateway: ScriptedGateway) -> None:
    typed(context.services, "card-1")
    with pytest.raises(BadRequest, match="another card"):
        typed(context.services, "card-1", replace(CARD, number="5100000000002222"))
    with pytest.raises(BadRequest, match="other arguments"):
        issued_keys.issue(context.services, "ann", CARD, "kim", "for another reason", request_key="card-1")


def test_a_card_that_was_not_stored_leaves_its_key_free(context: verbs.Context, gateway: ScriptedGateway) -> None:
    gateway.key_answers.append(KeyDeclined("유효하지 않은 카드"))
    with pytest.raises(issued_keys.CannotIssue, match="not stored"):
        typed(context.services, "card-1")
    assert typed(context.services, "card-1").is_new


def test_a_card_on_another_channel_gets_the_same_answer_again(
    context: verbs.Context, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = issue_calls(gateway, monkeypatch)
    elsewhere = replace(CARD, channel="welcome.M1")
    for _ in range(2):
        with pytest.raises(issued_keys.CannotIssue, match="stored, but on channel kcp"):
            typed(context.services, "card-1", elsewhere)
    assert calls == ["ann"]


DELETE = {"customer_uid": "ann", "end_subscriptions": True, **WHO}


def test_a_card_is_deleted_once_for_a_key_and_not_the_one_that_came_after(
    context: verbs.Context, gateway: ScriptedGateway
) -> None:
    """Guard: delivered again, it would delete the card that the customer has stored since."""
    sent(context, verbs.subscribe, "order-1", **SUBSCRIBE)
    first = sent(context, verbs.delete_card, "gone-1", **DELETE)
    assert (first["subscriptions_ended"], first["at_gateway"]) == (1, "deleted")
    gateway.missing_keys.discard("ann")  # the customer stores a card in the payment window
    assert sent(context, verbs.delete_card, "gone-1", **DELETE) == first
    enrollment.add_customer(context.services, "ann", None, None, None, "test")
    assert sent(context, verbs.delete_card, "gone-1", **DELETE) == first
    assert "ann" not in gateway.missing_keys
    other = sent(context, verbs.delete_card, "gone-1", **(DELETE | {"end_subscriptions": False}))
    assert other["errors"][0]["field"] == "request_key"


def test_a_deletion_that_the_gateway_did_not_answer_goes_on_under_its_key(
    context: verbs.Context, gateway: ScriptedGateway
) -> None:
    sent(context, verbs.subscribe, "order-1", **SUBSCRIBE)
    gateway.key_answers.append(Refused("the token is wrong"))
    first = sent(context, verbs.delete_card, "gone-1", **DELETE)
    assert (first["subscriptions_ended"], first["at_gateway"]) == (1, "the token is wrong")
    assert "ann" not in gateway.missing_keys
    second = sent(context, verbs.delete_card, "gone-1", **DELETE)
    assert second == first | {"at_gateway": "deleted", "code": None}
    assert "ann" in gateway.missing_keys


def test_an_unanswered_deletion_does_not_delete_a_card_that_was_stored_since(
    context: verbs.Context, gateway: ScriptedGateway
) -> None:
    gateway.key_answers.append(Refused("the token is wrong"))
    sent(context, verbs.delete_card, "gone-1", **DELETE)
    enrollment.add_customer(context.services, "ann", None, None, None, "test")
    answer = sent(context, verbs.delete_card, "gone-1", **DELETE)
    assert answer["at_gateway"] == "not deleted: another card was stored since"
    assert "ann" not in gateway.missing_keys


def refused_charges(context: verbs.Context, gateway: ScriptedGateway) -> None:
    """Two charges that the gateway has refused."""
    for uid in ("bob", "eve"):
        enrollment.add_customer(context.services, uid, None, None, None, "test")
        enrollment.subscribe(context.services, uid, "monthly", "test")
        gateway.answers.append(Refused("the contract is missing"))
    collect_due(context.services)


def due(services: Services) -> list[bool]:
    """Whether each charge is due now."""
    return [row["next_attempt_at"] <= services.clock.now() for row in charge_rows(services)]


def test_refused_charges_are_released_once_for_a_key(context: verbs.Context, gateway: ScriptedGateway) -> None:
    """Guard: said again, it would release what was refused since, for another reason."""
    refused_charges(context, gateway)
    first = sent(context, verbs.release_refused, "release-1", **WHO)
    assert first["released"] == 2
    assert first["amounts"] == [{"amount": 19800, "currency": "KRW"}]
    assert due(context.services) == [True, True]
    gateway.answers.extend([Refused("the contract is missing")] * 2)
    collect_due(context.services)
    assert sent(context, verbs.release_refused, "release-1", **WHO) == first
    assert due(context.services) == [False, False]
    assert sent(context, verbs.release_refused, "release-2", **WHO)["released"] == 2


def test_a_release_that_fails_before_its_answer_is_written_releases_nothing(
    context: verbs.Context, gateway: ScriptedGateway
) -> None:
    refused_charges(context, gateway)
    request = VerbRequest(request_key="release-1", verb="release_refused", arguments=WHO)

    def fails(at: Services) -> dict[str, Any]:
        operate.release_refused(at, "kim", "mended")
        raise OSError("the machine is gone")

    with pytest.raises(OSError, match="the machine is gone"):
        idempotency.once(context.services, request, fails)
    assert due(context.services) == [False, False]
