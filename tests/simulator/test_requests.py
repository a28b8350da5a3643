"""What a client may send, and how, and what is refused."""

from typing import Any
from urllib.parse import urlencode

import pytest

from tests.simulator.running import RunningSimulator

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
ORDER = {"customer_uid": "ann", "merchant_uid": "order1", "amount": 9900, "name": "Coffee"}


@pytest.mark.parametrize("header", ["Authorization", "X-ImpTokenHeader"])
@pytest.mark.parametrize("prefix", ["", "Bearer "])
def test_a_token_comes_in_either_header_with_or_without_bearer(
    simulator: RunningSimulator, header: str, prefix: str
) -> None:
    simulator.call("GET", "/users/pg")
    answer = simulator.client.get("/users/pg", headers={header: f"{prefix}{simulator._token}"})
    assert answer.status_code == 200


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer " + "0" * 40, "토큰"])
def test_any_other_token_is_refused(simulator: RunningSimulator, header: str) -> None:
    simulator.call("GET", "/users/pg")
    answer = simulator.client.get("/users/pg", headers={b"Authorization": header.encode()})
    assert (answer.status_code, answer.json()["response"]) == (401, None)


def test_amounts_and_ids_may_be_numbers_or_text(simulator: RunningSimulator) -> None:
    simulator.card("95382678")
    body = ORDER | {"customer_uid": 95382678, "merchant_uid": 123, "amount": "92500"}
    payment = simulator.call("POST", "/subscribe/payments/again", json=body).json()["response"]
    assert (payment["customer_uid"], payment["merchant_uid"], payment["amount"]) == ("95382678", "123", 92500)


def test_other_currencies_may_have_fractions(simulator: RunningSimulator) -> None:
    simulator.card()
    payment = simulator.again(amount=10.5, currency="USD").json()["response"]
    assert (payment["amount"], payment["currency"]) == (10.5, "USD")


@pytest.mark.parametrize("amount", ["NaN", "inf", True, [], {}, "1e400", 0.5])
def test_what_is_no_amount_is_a_bad_request(simulator: RunningSimulator, amount: object) -> None:
    simulator.card()
    assert simulator.again(amount=amount).status_code == 400
    assert simulator.movements() == []


@pytest.mark.parametrize("missing", ["customer_uid", "merchant_uid", "amount"])
def test_a_field_that_is_missing_is_named(simulator: RunningSimulator, missing: str) -> None:
    simulator.card()
    body = {name: value for name, value in ORDER.items() if name != missing}
    answer = simulator.call("POST", "/subscribe/payments/again", json=body)
    assert answer.status_code == 400
    assert missing in answer.json()["message"]


def test_a_name_is_required_only_when_the_simulator_is_strict(simulator: RunningSimulator) -> None:
    """Older clients send none."""
    simulator.card()
    body = {name: value for name, value in ORDER.items() if name != "name"}
    assert simulator.call("POST", "/subscribe/payments/again", json=body).json()["code"] == 0
    simulator.tell("faults", {"strict": True})
    body["merchant_uid"] = "order2"
    answer = simulator.call("POST", "/subscribe/payments/again", json=body)
    assert (answer.status_code, "name" in answer.json()["message"]) == (400, True)


def test_a_merchant_uid_that_is_too_long_is_cut_when_told_so(simulator: RunningSimulator) -> None:
    simulator.card()
    assert simulator.again("x" * 41).status_code == 400
    simulator.tell("faults", {"over_long_uid": "truncate"})
    assert simulator.again("x" * 41).json()["response"]["merchant_uid"] == "x" * 40
    assert simulator.again("x" * 42).json()["code"] == -1, "cut, both are the same"


@pytest.mark.parametrize(("switch", "status"), [(200, 200), (404, 404)])
def test_a_key_that_is_not_there_has_the_status_of_the_switch(
    simulator: RunningSimulator, switch: int, status: int
) -> None:
    simulator.tell("faults", {"unknown_key": switch})
    for method in ("GET", "DELETE"):
        answer = simulator.call(method, "/subscribe/customers/nobody")
        assert (answer.status_code, answer.json()["code"]) == (status, 1)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("{", "application/json"),
        ("[]", "application/json"),
        ("schedules[999999999][amount]=1", FORM["Content-Type"]),
        ("schedules[0]=1&schedules[0][amount]=1", FORM["Content-Type"]),
        ("schedules=1&schedules[a]=1", FORM["Content-Type"]),
        ("schedules=x&customer_uid=ann", FORM["Content-Type"]),
    ],
)
def test_a_body_that_cannot_be_read_is_a_bad_request(simulator: RunningSimulator, content: str, kind: str) -> None:
    simulator.card()
    headers = {"Content-Type": kind}
    simulator.call("GET", "/users/pg")
    headers["Authorization"] = str(simulator._token)
    answer = simulator.client.post("/subscribe/payments/schedule", content=content, headers=headers)
    assert (answer.status_code, answer.json()["response"]) == (400, None)


def test_several_payments_are_asked_for_at_once(simulator: RunningSimulator) -> None:
    simulator.card()
    imp_uid = simulator.again().json()["response"]["imp_uid"]
    simulator.again("order2")
    ask = [("imp_uid[]", imp_uid), ("merchant_uid[]", "order2")]
    whole = simulator.call("GET", f"/payments?{urlencode(ask)}")
    assert (whole.status_code, len(whole.json()["response"])) == (200, 2)
    part = simulator.call("GET", f"/payments?{urlencode([*ask, ('imp_uid[]', 'imps_none')])}")
    assert (part.status_code, len(part.json()["response"])) == (207, 2)
    assert simulator.call("GET", "/payments?imp_uid[]=imps_none").status_code == 404


def test_the_payments_of_a_customer_are_listed(simulator: RunningSimulator) -> None:
    simulator.card("ann")
    simulator.card("bob")
    simulator.again("order1")
    simulator.again("order2", customer_uid="bob")
    found = simulator.call("GET", "/subscribe/customers/ann/payments").json()["response"]
    assert [payment["merchant_uid"] for payment in found["list"]] == ["order1"]
    assert simulator.call("GET", "/subscribe/customers/nobody/payments").json()["response"]["list"] == []


def test_a_list_by_status_goes_by_the_time_of_that_status(simulator: RunningSimulator) -> None:
    simulator.card()
    simulator.tell("clock", {"now": 1_800_000_000})
    simulator.forget_token()
    simulator.again("order1")
    simulator.again("order2")
    simulator.tell("clock", {"now": 1_800_100_000})
    simulator.forget_token()
    simulator.call("POST", "/payments/cancel", json={"merchant_uid": "order1"})

    def listed(status: str, since: int, until: int) -> list[str]:
        query: dict[str, Any] = {"from": since, "to": until, "sorting": "started"}
        page = simulator.call("GET", f"/payments/status/{status}", params=query).json()["response"]
        return [payment["merchant_uid"] for payment in page["list"]]

    assert listed("paid", 1_799_999_000, 1_800_001_000) == ["order2"]
    assert listed("cancelled", 1_799_999_000, 1_800_001_000) == []
    assert listed("cancelled", 1_800_099_000, 1_800_101_000) == ["order1"]
    assert listed("all", 1_799_999_000, 1_800_101_000) == ["order1", "order2"]


def test_an_amount_can_be_prepared_changed_and_read(simulator: RunningSimulator) -> None:
    body = {"merchant_uid": "window1", "amount": 5000}
    assert simulator.call("GET", "/payments/prepare/window1").status_code == 404
    assert simulator.call("PUT", "/payments/prepare", json=body).status_code == 404
    assert simulator.call("POST", "/payments/prepare", json=body).json()["response"]["amount"] == 5000
    assert simulator.call("POST", "/payments/prepare", json=body).json()["code"] == 1
    simulator.call("PUT", "/payments/prepare", json=body | {"amount": "6000"})
    assert simulator.call("GET", "/payments/prepare/window1").json()["response"] == {
        "merchant_uid": "window1", "amount": 6000, "currency": "KRW",
    }  # fmt: skip
