"""What PortOne's calls answer, by the documents and by recorded answers."""

import pytest

from tests.simulator.running import RunningSimulator

CARD = {"card_number": "5333-1234-5678-1234", "expiry": "2030-12", "birth": "820213", "pwd_2digit": "00"}


def test_a_token_is_the_same_while_it_lives_and_lives_longer_when_asked_for_at_its_end(
    simulator: RunningSimulator,
) -> None:
    def token() -> dict[str, object]:
        body = {"imp_key": "sim_key", "imp_secret": "sim_secret"}
        return dict(simulator.client.post("/users/getToken", json=body).json()["response"])

    first = token()
    assert int(str(first["expired_at"])) - int(str(first["now"])) in range(1700, 1801)
    simulator.tell("clock", {"advance": 1750})
    extended = token()
    assert extended["access_token"] == first["access_token"]
    simulator.tell("clock", {"advance": 400})
    assert token()["access_token"] != first["access_token"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [({"imp_key": "sim_key", "imp_secret": "no"}, 401, "인증에 실패"), ({"imp_key": "sim_key"}, 400, "누락")],
)
def test_wrong_or_missing_credentials(
    simulator: RunningSimulator, body: dict[str, str], status: int, words: str
) -> None:
    answer = simulator.client.post("/users/getToken", json=body)
    assert (answer.status_code, answer.json()["response"]) == (status, None)
    assert words in answer.json()["message"]


def test_a_call_without_a_living_token_is_refused(simulator: RunningSimulator) -> None:
    simulator.card()
    assert simulator.again().status_code == 200
    simulator.tell("clock", {"advance": 4000})
    assert simulator.again("order2").status_code == 401
    assert len(simulator.movements()) == 1


def test_forms_bare_tokens_slashes_and_numbers_are_taken(simulator: RunningSimulator) -> None:
    simulator.card("95382678")
    simulator.call("GET", "/users/pg")
    answer = simulator.client.post(
        "/subscribe/payments/again/",
        data={"customer_uid": "95382678", "merchant_uid": "12345", "amount": "9900", "name": "Coffee"},
        headers={"Authorization": str(simulator._token)},
    )
    assert answer.json()["response"]["merchant_uid"] == "12345"
    assert answer.json()["response"]["amount"] == 9900


def test_a_paid_charge_is_in_the_ledger_once(simulator: RunningSimulator) -> None:
    simulator.card()
    payment = simulator.again().json()["response"]
    (movement,) = simulator.movements()
    assert (payment["status"], payment["paid_at"] > 0, payment["failed_at"]) == ("paid", True, 0)
    assert (movement["uid"], movement["customer_uid"], movement["amount"]) == ("order1", "ann", 9900)
    assert (movement["imp_uid"], movement["answered"]) == (payment["imp_uid"], True)


def test_a_paid_uid_is_refused_and_a_failed_one_may_be_tried_again(simulator: RunningSimulator) -> None:
    simulator.card(card="approve_on_try", k=2)
    first = simulator.again().json()["response"]
    second = simulator.again().json()["response"]
    third = simulator.again().json()
    assert (first["status"], second["status"]) == ("failed", "paid")
    assert first["imp_uid"] != second["imp_uid"]
    assert (third["code"], third["response"]) == (-1, None)
    assert third["message"].startswith("이미 주문이 이루어진 건입니다.")
    found = simulator.call("GET", "/payments/findAll/order1").json()["response"]
    assert [payment["status"] for payment in found["list"]] == ["paid", "failed"]
    only = simulator.call("GET", "/payments/findAll/order1/paid").json()["response"]["list"]
    assert [payment["imp_uid"] for payment in only] == [second["imp_uid"]]


@pytest.mark.parametrize(("shape", "code"), [("A", 0), ("B", -1)])
def test_a_decline_has_two_shapes(simulator: RunningSimulator, shape: str, code: int) -> None:
    simulator.card(card="no_money", shape=shape)
    answer = simulator.again()
    assert (answer.status_code, answer.json()["code"]) == (200, code)
    words = answer.json()["message"] if shape == "B" else answer.json()["response"]["fail_reason"]
    assert "[CC10]통장 잔액부족" in words
    assert simulator.movements() == []


def test_an_unknown_customer_is_refused(simulator: RunningSimulator) -> None:
    assert simulator.again(customer_uid="nobody").json() == {
        "code": 1, "message": "등록되지 않은 구매자입니다.", "response": None,
    }  # fmt: skip


@pytest.mark.parametrize("amount", [0, -5, "abc", 99.5])
def test_an_amount_that_cannot_be_is_a_bad_request(simulator: RunningSimulator, amount: object) -> None:
    simulator.card()
    assert simulator.again(amount=amount).status_code == 400


def test_a_field_that_is_missing_or_too_long_is_a_bad_request(simulator: RunningSimulator) -> None:
    simulator.card()
    assert simulator.again("x" * 41).status_code == 400
    assert simulator.call("POST", "/subscribe/payments/again", json={"customer_uid": "ann"}).status_code == 400


def test_a_key_is_issued_replaced_and_deleted_and_shows_no_card_number(simulator: RunningSimulator) -> None:
    issued = simulator.call("POST", "/subscribe/customers/bob", json=CARD).json()["response"]
    assert issued["card_number"] == "53331234****1234"
    simulator.tell("clock", {"advance": 100})
    replaced = simulator.call("POST", "/subscribe/customers/bob", json=CARD).json()["response"]
    assert (replaced["inserted"], replaced["updated"] > issued["updated"]) == (issued["inserted"], True)
    several = simulator.call("GET", "/subscribe/customers?customer_uid[]=bob&customer_uid[]=nobody")
    assert (several.status_code, len(several.json()["response"])) == (207, 1)
    assert simulator.call("DELETE", "/subscribe/customers/bob").json()["code"] == 0
    gone = simulator.call("GET", "/subscribe/customers/bob")
    assert (gone.status_code, gone.json()["code"]) == (200, 1)


def test_a_card_number_says_what_the_card_does(simulator: RunningSimulator) -> None:
    """Gateway 01 (nice), scenario 003 (monthly_limit), shape B."""
    simulator.call("POST", "/subscribe/customers/bob", json=CARD | {"card_number": "4000-0001-0031-0000"})
    assert "[2116]개인 월 한도금액 초과" in simulator.again(customer_uid="bob").json()["message"]
    refused = simulator.call(
        "POST", "/subscribe/customers/eve", json=CARD | {"card_number": "4000-0000-0150-0000"}
    )
    assert refused.json()["code"] == -1


def test_onetime_keeps_the_card_only_with_a_customer_uid(simulator: RunningSimulator) -> None:
    body = CARD | {"merchant_uid": "one1", "amount": 1000}
    assert simulator.call("POST", "/subscribe/payments/onetime", json=body).json()["response"]["status"] == "paid"
    kept = body | {"merchant_uid": "one2", "customer_uid": "bob"}
    simulator.call("POST", "/subscribe/payments/onetime", json=kept)
    assert simulator.again(customer_uid="bob").json()["response"]["status"] == "paid"


def test_cancels_are_guarded_and_a_partial_one_is_cancelled_too(simulator: RunningSimulator) -> None:
    simulator.card()
    imp_uid = simulator.again().json()["response"]["imp_uid"]

    def cancel(**body: object) -> dict[str, object]:
        return dict(simulator.call("POST", "/payments/cancel", json={"imp_uid": imp_uid, **body}).json())

    assert cancel(amount=100, checksum=1)["code"] == 1
    part = cancel(amount=900, checksum=9900)["response"]
    assert isinstance(part, dict)
    assert (part["status"], part["cancel_amount"], part["paid_at"] > 0) == ("cancelled", 900, True)
    assert cancel(amount=9001)["code"] == 1
    whole = cancel()["response"]
    assert isinstance(whole, dict)
    assert (whole["cancel_amount"], len(whole["cancel_history"])) == (9900, 2)
    assert cancel()["message"] == "이미 전액취소된 주문입니다."
    assert [movement["amount"] for movement in simulator.movements()] == [9900, 900, 9000]


def test_lists_are_paged_and_a_page_past_the_end_is_a_bad_request(simulator: RunningSimulator) -> None:
    simulator.card()
    for number in range(5):
        simulator.again(f"order{number}")
    query = {"limit": "2", "page": "3", "sorting": "started"}
    last = simulator.call("GET", "/payments/status/paid", params=query).json()["response"]
    assert (last["total"], last["previous"], last["next"], len(last["list"])) == (5, 2, 0, 1)
    assert simulator.call("GET", "/payments/status/paid", params=query | {"page": "4"}).status_code == 400
    assert simulator.call("GET", "/payments/status/ready").json()["response"]["list"] == []
    assert simulator.call("GET", "/payments/status/lost").status_code == 400
    wide = {"from": "0", "to": str(91 * 86400)}
    assert simulator.call("GET", "/payments/status/all", params=wide).status_code == 400


def test_what_is_not_there_is_not_found(simulator: RunningSimulator) -> None:
    for path in ("find/none", "findAll/none", "imps_none"):
        answer = simulator.call("GET", f"/payments/{path}")
        assert (answer.status_code, answer.json()["response"]) == (404, None)


def test_a_sandbox_payment_is_hidden_from_one_call_only(simulator: RunningSimulator) -> None:
    simulator.tell("faults", {"sandbox": True})
    simulator.card()
    imp_uid = simulator.again().json()["response"]["imp_uid"]
    assert simulator.call("GET", f"/payments/{imp_uid}").status_code == 404
    assert simulator.call("GET", f"/payments/{imp_uid}?include_sandbox=true").status_code == 200
    assert simulator.call("GET", "/payments/find/order1").status_code == 200


def test_a_schedule_runs_when_the_clock_reaches_it(simulator: RunningSimulator) -> None:
    simulator.card()
    at = int(simulator.see("clock")["now"]) + 3600
    form = {
        "customer_uid": "ann", "schedules[0][merchant_uid]": "later1", "schedules[0][schedule_at]": str(at),
        "schedules[0][amount]": "5000", "schedules[0][name]": "Later",
    }  # fmt: skip
    booked = simulator.call("POST", "/subscribe/payments/schedule", data=form).json()["response"]
    assert [entry["schedule_status"] for entry in booked] == ["scheduled"]
    assert simulator.movements() == []
    simulator.tell("clock", {"advance": 3700})
    assert [movement["uid"] for movement in simulator.movements()] == ["later1"]


def test_a_schedule_that_was_revoked_never_runs(simulator: RunningSimulator) -> None:
    simulator.card()
    at = int(simulator.see("clock")["now"]) + 3600
    wish = {"merchant_uid": "later1", "schedule_at": at, "amount": 5000, "name": "Later"}
    simulator.call("POST", "/subscribe/payments/schedule", json={"customer_uid": "ann", "schedules": [wish]})
    revoked = simulator.call("POST", "/subscribe/payments/unschedule", json={"customer_uid": "ann"}).json()
    assert revoked["response"][0]["schedule_status"] == "revoked"
    simulator.tell("clock", {"advance": 3700})
    assert simulator.movements() == []


def test_no_answer_and_no_ledger_shows_a_whole_card_number(simulator: RunningSimulator) -> None:
    number = "5333123456781234"
    told = simulator.call("POST", "/subscribe/customers/bob", json=CARD).text
    told += simulator.again(customer_uid="bob").text + str(simulator.see("ledger")) + str(simulator.see("cards"))
    assert number not in told.replace("-", "")
