"""`again find`, and `show` and `why` of what is found: what a text names, whose it is, and how many there are."""

import unicodedata
from datetime import timedelta

import pytest
from sqlalchemy import text

from schedules.charging.identity import merchant_uid
from schedules.charging.outcomes import Declined
from schedules.charging.reasons import Reason
from schedules.errors import BadRequest, Code
from schedules.money.amounts import Money
from schedules.requests.adhoc import ChargeRequest
from schedules.requests.refunds import RefundRequest
from tests.acceptance.again import again, refused, told, told_json
from tests.doubles import ScriptedGateway
from tests.factories import attempt_rows, charge_rows, collect, move, on_sale
from worker.charging import adhoc
from worker.customers import adjust, enrollment
from worker.refunds import refund_payment
from worker.renewals import open_charges
from worker.reporting import customer_story, explain, find
from worker.reporting.customer_story import CustomerStory
from worker.reporting.find import By, Found, Kind, SeveralMatches
from worker.reporting.history import NothingToShow, Story
from worker.services import Services
from worker.task_api import answers, verbs
from worker.task_api.verbs import Context

NFD = unicodedata.normalize("NFD", "김민준")
# customer_uid, name, e-mail address, telephone number
PEOPLE = (
    ("ann", "Ann Kim", "ann@example.com", "010-1234-5678"),
    ("kim-1", "김민준", "minjun@example.kr", "+821098765432"),
    ("kim-2", "김민서", "Minseo@Example.kr", "01055554321"),
    ("o_o", "100% \\ <b>", None, None),
)


@pytest.fixture
def shop(services: Services) -> dict[str, str]:
    """These people, each on a plan with a charge that is due; answers the keys of their subscriptions."""
    on_sale(services)
    for uid, name, email, tel in PEOPLE:
        enrollment.add_customer(services, uid, name, email, tel, "test")
    keys = {uid: enrollment.subscribe(services, uid, "monthly", "test").key for uid, *_ in PEOPLE}
    open_charges.open_due(services)
    return keys


def _found(services: Services, text: str, limit: int = 20) -> list[tuple[Kind, str, By]]:
    return [(match.kind, match.key, match.found_by) for match in find.find(services, text, limit).matches]


def _write(services: Services, statement: str, **values: object) -> None:
    with services.engine.begin() as db:
        db.execute(text(statement), values)


def _charge_of(services: Services, key: str) -> str:
    return next(str(row["key"]) for row in charge_rows(services) if row["key"].startswith(f"r{key}"))


@pytest.mark.parametrize(
    ("query", "uids", "found_by"),
    [
        ("Ann Kim", ["ann"], By.NAME),
        ("ann k", ["ann"], By.NAME),
        ("김민준", ["kim-1"], By.NAME),
        (NFD, ["kim-1"], By.NAME),
        ("김", ["kim-2", "kim-1"], By.NAME),
        ("  김민서  ", ["kim-2"], By.NAME),
        ("MINSEO@example.KR", ["kim-2"], By.EMAIL),
        ("minjun@", ["kim-1"], By.EMAIL),
        ("5678", ["ann"], By.TEL),
        ("+82 10-1234-5678", ["ann"], By.TEL),
        ("010-9876-5432", ["kim-1"], By.TEL),
        ("100%", ["o_o"], By.NAME),
        ("100% \\", ["o_o"], By.NAME),
        ("100% \\ <B>", ["o_o"], By.NAME),
    ],
)
@pytest.mark.usefixtures("shop")
def test_a_customer_is_found_by_name_email_and_telephone(
    services: Services, query: str, uids: list[str], found_by: By
) -> None:
    assert _found(services, query) == [(Kind.CUSTOMER, uid, found_by) for uid in uids]


@pytest.mark.parametrize(
    "query", ["%", "_", "\\", "a%", "김_", "k__-1", "<script>", "'; DROP TABLE customers", "x" * 400]
)
@pytest.mark.usefixtures("shop")
def test_no_character_of_a_text_has_a_meaning(services: Services, query: str) -> None:
    """Guard: a text is compared as it is, so that % finds no whole shop."""
    assert _found(services, query) == []
    with pytest.raises(NothingToShow) as refused, services.one_moment() as db:
        find.one(db, query)
    assert refused.value.code is Code.NOT_FOUND
    assert len(str(refused.value)) < 250


@pytest.mark.usefixtures("shop")
def test_a_name_from_before_normalization_is_found(services: Services) -> None:
    _write(services, "UPDATE customers SET name = :name WHERE reference = 'kim-1'", name=NFD)
    assert _found(services, "김민준") == [(Kind.CUSTOMER, "kim-1", By.NAME)]


def test_each_id_of_a_charge_is_found_and_shown(services: Services, shop: dict[str, str]) -> None:
    key = shop["ann"]
    charge = _charge_of(services, key)
    (charge_id,) = (row["id"] for row in charge_rows(services) if row["key"] == charge)
    collect(services, charge_id)
    (attempt,) = (row for row in attempt_rows(services) if row["charge_id"] == charge_id)
    _write(services, "UPDATE subscriptions SET external_ref = 'Old-77' WHERE key = :key", key=key)
    refund_payment.ask(
        services, RefundRequest(charge=charge, money=None, request_key="back-1", reason="r"), "test"
    )  # fmt: skip
    uid, later = attempt["merchant_uid"], merchant_uid("test", charge, 2)
    expected = {
        key: (Kind.SUBSCRIPTION, key, By.KEY),
        key.upper(): (Kind.SUBSCRIPTION, key, By.KEY),
        key[:10]: (Kind.SUBSCRIPTION, key, By.KEY),
        "Old-77": (Kind.SUBSCRIPTION, key, By.EXTERNAL_REF),
        "old-7": (Kind.SUBSCRIPTION, key, By.EXTERNAL_REF),
        charge: (Kind.CHARGE, charge, By.KEY),
        uid: (Kind.ATTEMPT, uid, By.MERCHANT_UID),
        later: (Kind.CHARGE, charge, By.MERCHANT_UID),
        attempt["imp_uid"]: (Kind.ATTEMPT, uid, By.IMP_UID),
        "back-1": (Kind.CHARGE, charge, By.REFUND),
    }
    for query, match in expected.items():
        assert _found(services, query) == [match], query
        story = customer_story.show(services, query)
        assert isinstance(story, Story)
        assert story.facts["key"] == (key if match[0] is Kind.SUBSCRIPTION else charge)
        assert explain.why(services, query)[0].key == charge


def test_what_was_asked_for_under_a_request_key_is_found_by_it(services: Services, shop: dict[str, str]) -> None:
    request = ChargeRequest(
        customer_uid="ann", money=Money(3000, "KRW"), name="Fee", request_key="Order-18", reason="r", policy="once"
    )
    asked = adhoc.charge(services, request, "test").key
    assert _found(services, "Order-18") == [(Kind.CHARGE, asked, By.REQUEST_KEY)]
    context = Context(services, lambda messages: None)
    paused = {"subscription": shop["kim-1"], "reason": "r", "actor": "test", "request_key": "pause-4711"}
    assert answers.answer(context, verbs.pause, (), paused)["ok"]
    assert _found(services, "pause-4711") == [(Kind.SUBSCRIPTION, shop["kim-1"], By.REQUEST_KEY)]


@pytest.mark.usefixtures("shop")
def test_a_card_is_found_by_its_customer_uid_and_by_its_last_digits(services: Services) -> None:
    enrollment.add_customer(services, "ann-2", None, None, None, "test", of="ann")
    _write(services, "UPDATE billing_keys SET card_number = '5333****9876' WHERE customer_uid = 'ann-2'")
    for query in ("9876", "****9876", "5333-12**-****-9876"):
        assert _found(services, query) == [(Kind.CARD, "ann-2", By.CARD)], query
    assert _found(services, "ann-2") == [(Kind.CARD, "ann-2", By.CUSTOMER_UID)]
    assert _found(services, "ann") == [
        (Kind.CUSTOMER, "ann", By.CUSTOMER_UID),
        (Kind.CARD, "ann-2", By.CUSTOMER_UID),
    ]
    story = customer_story.show(services, "9876")
    assert isinstance(story, CustomerStory)
    assert [card.customer_uid for card in story.cards] == ["ann-2", "ann"]


@pytest.mark.usefixtures("shop")
def test_names_addresses_and_telephone_numbers_are_masked(services: Services) -> None:
    """Guard: who looks for one person reads nothing of another."""
    story = customer_story.show(services, "ann")
    assert isinstance(story, CustomerStory)
    shown = str(find.find(services, "김", 20).matches) + str(find.find(services, "Ann", 20)) + str(story)
    with pytest.raises(SeveralMatches) as several, services.one_moment() as db:
        find.one(db, "김민")
    shown += str(several.value)
    assert "김*준" in shown
    assert "010-****-5678" in shown
    assert "m***@example.kr" in shown
    for word in ("민준", "민서", "Ann Kim", "ann@example", "minjun", "1234-5678", "9876"):
        assert word not in shown


@pytest.mark.usefixtures("shop")
def test_more_matches_than_wanted_are_told_of(services: Services) -> None:
    assert [len(found.matches) for found in (find.find(services, "김", 1), find.find(services, "김", 2))] == [1, 2]
    assert find.find(services, "김", 1).more
    assert not find.find(services, "김", 2).more


@pytest.mark.usefixtures("shop")
def test_several_matches_are_listed_with_what_to_give(services: Services) -> None:
    for ask in (customer_story.show, explain.why):
        with pytest.raises(SeveralMatches, match=r"kim-2 .*; customer kim-1 ") as several:
            ask(services, "김민")
        assert several.value.code is Code.INVALID
        assert [match.key for match in several.value.found.matches] == ["kim-2", "kim-1"]


def test_an_id_is_shown_although_something_else_begins_with_it(services: Services, shop: dict[str, str]) -> None:
    """Guard: a listed key selects its own row, also when it is the name or the reference of another row."""
    _write(services, "UPDATE subscriptions SET external_ref = 'ann' WHERE key = :key", key=shop["kim-1"])
    _write(services, "UPDATE customers SET name = 'ann' WHERE reference = 'kim-2'")
    assert len(_found(services, "ann")) == 3
    story = customer_story.show(services, "ann")
    assert isinstance(story, CustomerStory)
    assert story.facts.key == "ann"
    assert explain.why(services, "ann")[0].customer_uid == "ann"


@pytest.mark.parametrize("query", ["", "  ", "a\x1b[31m", "x" * 501, "4111-1111-1111-1111"])
@pytest.mark.usefixtures("shop")
def test_a_text_that_cannot_be_found_is_refused(services: Services, query: str) -> None:
    for ask in (lambda: find.find(services, query, 20), lambda: customer_story.show(services, query)):
        with pytest.raises(BadRequest):
            ask()


def test_a_customer_is_shown_with_cards_standing_debts_and_what_comes_next(
    services: Services, gateway: ScriptedGateway, shop: dict[str, str]
) -> None:
    (charge_id,) = (row["id"] for row in charge_rows(services) if row["key"].startswith(f"r{shop['ann']}"))
    gateway.answers.append(Declined("[CC10]통장 잔액부족", "kcp"))
    collect(services, charge_id)
    enrollment.add_customer(services, "ann-2", None, None, None, "test", of="ann")
    move(services, minutes=5)
    story = customer_story.show(services, "ann kim")
    assert isinstance(story, CustomerStory)
    assert (story.facts.name, story.facts.tel) == ("A*n K*m", "010-****-5678")
    assert {card.customer_uid: card.state for card in story.cards} == {"ann": "usable", "ann-2": "usable"}
    (subscription,) = story.subscriptions
    assert (subscription.key, subscription.standing) == (shop["ann"], "in_grace")
    assert subscription.next_due_at is not None
    assert subscription.next_due_at > services.clock.now() + timedelta(days=20)
    (owed,) = story.owed
    assert (owed.amount, owed.currency, owed.charges) == (9900, "KRW", 1)
    assert [charge.status for charge in story.charges] == ["past_due"]
    assert [happening.what for happening in story.happenings] == ["customer.add", "customer.add"]
    assert story.more == []
    reasons = explain.why_of_customer(services, story.customer_id)
    assert [why.reason for why in reasons] == [Reason.SCHEDULED, Reason.OLDER_DEBT]
    assert explain.why(services, "ann kim") == reasons


def test_of_a_customer_the_cards_that_pay_are_explained(services: Services, shop: dict[str, str]) -> None:
    enrollment.add_customer(services, "ann-2", None, None, None, "test", of="ann")
    for charge_id in [row["id"] for row in charge_rows(services) if row["key"].startswith(f"r{shop['ann']}")]:
        collect(services, charge_id)
    assert [why.reason for why in explain.why(services, "Ann Kim")] == [Reason.PAID, Reason.SCHEDULED]
    with services.one_moment() as db:
        customer_id = find.one(db, "ann").customer_id
    assert customer_id is not None
    adjust.change_card(services, shop["ann"], "ann-2", "test", "r")
    (coming,) = explain.why_of_customer(services, customer_id)
    assert (coming.customer_uid, coming.reason) == ("ann-2", Reason.SCHEDULED)


def test_the_key_that_is_found_for_a_customer_explains_all_cards(services: Services, shop: dict[str, str]) -> None:
    """Guard: the key of a customer is the customer_uid of the first card, which may pay for nothing any more."""
    enrollment.add_customer(services, "ann-2", None, None, None, "test", of="ann")
    adjust.change_card(services, shop["ann"], "ann-2", "test", "r")
    by_name = explain.why(services, "Ann Kim")
    assert by_name
    assert explain.why(services, find.find(services, "Ann Kim", 20).matches[0].key) == by_name


@pytest.mark.parametrize("query", ["Nobody Knows", "nobody@example.com", "010-9999-1111"])
def test_no_log_has_what_was_looked_for(services: Services, query: str, caplog: pytest.LogCaptureFixture) -> None:
    """Guard: names, e-mail addresses and telephone numbers reach no log."""
    answered = answers.answer(Context(services, lambda _: None), verbs.why, (), {"key": query})
    assert (answered["ok"], answered["code"]) == (False, Code.NOT_FOUND)
    assert "again.why is not done, not_found" in caplog.text
    assert query not in caplog.text


@pytest.mark.usefixtures("shop")
def test_a_task_finds_as_the_command_does(services: Services) -> None:
    answer = answers.answer(Context(services, lambda messages: None), verbs.find, (), {"query": "김민준"})
    assert answer["ok"]
    assert answer["more"] is False
    assert answer["matches"] == [
        {
            "kind": "customer", "key": "kim-1", "found_by": "name", "is_exact": False, "customer_uid": "kim-1",
            "name": "김*준", "state": "1 active", "about": "m***@example.kr, +821*****5432",
        }
    ]  # fmt: skip


@pytest.mark.usefixtures("shop")
def test_a_match_says_how_many_subscriptions_there_are_and_whether_a_card_is_usable(
    services: Services,
) -> None:
    enrollment.add_customer(services, "ann-2", None, None, None, "test", of="ann")
    enrollment.add_customer(services, "ann-3", None, None, None, "test", of="ann")
    _write(services, "UPDATE billing_keys SET stopped_as = 'never_again' WHERE customer_uid = 'ann-2'")
    _write(services, "UPDATE billing_keys SET deleted_at = now() WHERE customer_uid = 'ann-3'")
    matches = find.find(services, "ann", 20).matches
    assert [(match.key, match.state) for match in matches] == [
        ("ann", "1 active"), ("ann-2", "never_again"), ("ann-3", "deleted"),
    ]  # fmt: skip


@pytest.mark.usefixtures("shop")
def test_matches_are_printed_and_listed_by_a_command_that_needs_one(database: str) -> None:
    settings = {
        "AGAIN_DATABASE_URL": database, "AGAIN_ENVIRONMENT": "test", "AGAIN_PORTONE_KEY": "key",
        "AGAIN_PORTONE_URL": "http://127.0.0.1:1", "AGAIN_PORTONE_SECRET": "secret",
        "AGAIN_BROKER_URL": "redis://127.0.0.1:1/0",
    }  # fmt: skip
    table = told("find", "김", "--limit", "1", settings=settings)
    assert "김*서" in table
    assert "there are more" in table
    answer = told_json("find", "김", settings=settings)
    assert ([match["key"] for match in answer["matches"]], answer["more"]) == (["kim-2", "kim-1"], False)
    assert "nothing is found" in told("find", "%", settings=settings)
    assert "customer kim-1" in told("show", "minjun@", settings=settings)
    for command in ("show", "why"):
        done = again(command, "김민", settings=settings)
        assert done.returncode == 1
        assert "kim-1" in done.stdout
        assert "give the key of one: customer kim-2" in done.stderr
        assert "is not known" in refused(command, "nobody", settings=settings)
    assert "it is empty" in refused("find", " ", settings=settings)
    assert "at most 500" in refused("find", "x" * 501, settings=settings)


def test_a_found_list_without_matches_is_empty(services: Services) -> None:
    assert find.find(services, "nobody", 20) == Found([], more=False)
