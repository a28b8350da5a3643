"""What clients that others wrote send: old protocol versions, odd bytes, paths and methods that there are not."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.simulator.running import RunningSimulator

ORDER = {"customer_uid": "ann", "merchant_uid": "order1", "amount": 9900, "name": "Coffee"}
CARD = {"card_number": "5333-1234-5678-1234", "expiry": "2030-12"}


def is_envelope(answer: Any) -> bool:
    """Whether an answer has the three fields that every PortOne client reads."""
    return set(answer.json()) == {"code", "message", "response"}


@pytest.mark.parametrize("version", [10, 11], ids=["HTTP/1.0", "Connection: close"])
def test_a_charge_is_answered_although_the_connection_closes_with_the_answer(
    simulator: RunningSimulator, version: int
) -> None:
    simulator.card()
    simulator.call("GET", "/users/pg")
    address = urlsplit(simulator.url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=5)
    connection._http_vsn = version  # type: ignore[attr-defined] # the standard library has no public name for it
    connection._http_vsn_str = f"HTTP/1.{version % 10}"  # type: ignore[attr-defined] # as above
    headers = {"Authorization": str(simulator._token), "Content-Type": "application/json", "Connection": "close"}
    connection.request("POST", "/subscribe/payments/again", json.dumps(ORDER), headers)
    assert json.loads(connection.getresponse().read())["response"]["status"] == "paid"
    connection.close()
    assert [movement["answered"] for movement in simulator.movements()] == [True]


@pytest.mark.parametrize("name", ["imp_key", "imp_secret"])
def test_a_key_outside_ascii_is_a_wrong_key(simulator: RunningSimulator, name: str) -> None:
    body = {"imp_key": "sim_key", "imp_secret": "sim_secret"} | {name: "열쇠"}
    answer = simulator.client.post("/users/getToken", json=body)
    assert (answer.status_code, is_envelope(answer)) == (401, True)


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"a":' * 50_000, b'{"merchant_uid": "\\ud800"}', b"\xff\xfe{", b"5"]
)
def test_json_that_cannot_be_read_is_a_bad_request(simulator: RunningSimulator, body: bytes) -> None:
    json_type = {"Content-Type": "application/json"}
    answer = simulator.client.post("/users/getToken", content=body, headers=json_type)
    assert (answer.status_code, is_envelope(answer)) == (400, True)
    told = simulator.client.post("/_simulator/clock", content=body, headers=json_type)
    assert (told.status_code, set(told.json())) == (400, {"error"})


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=b; charset=none-such"])
def test_multipart_that_cannot_be_read_is_a_bad_request(simulator: RunningSimulator, kind: str) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="imp_key"\r\n\r\nkey\r\n--b--\r\n'
    answer = simulator.client.post("/users/getToken", content=body, headers={"Content-Type": kind})
    assert (answer.status_code, is_envelope(answer)) == (400, True)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/no/such/path", 404), ("DELETE", "/users/getToken", 405), ("PUT", "/payments/imps_1/balance", 405)],
)
def test_paths_and_methods_that_there_are_not_are_answered_in_the_envelope(
    simulator: RunningSimulator, method: str, path: str, status: int
) -> None:
    answer = simulator.call(method, path)
    assert (answer.status_code, is_envelope(answer)) == (status, True)


def test_a_path_that_there_is_not_on_the_side_of_the_tester_is_an_error(simulator: RunningSimulator) -> None:
    answer = simulator.client.get("/_simulator/legder")
    assert (answer.status_code, answer.json()) == (404, {"error": "GET /_simulator/legder: Not Found"})


@pytest.mark.parametrize("uid", ["team/ann", "50%", "a%2Fb", "김 앤", "what?", "ann/payments"])
def test_an_id_may_hold_any_character(simulator: RunningSimulator, uid: str) -> None:
    path = f"/subscribe/customers/{''.join(f'%{byte:02X}' for byte in uid.encode())}"
    issued = simulator.call("POST", path, json=CARD)
    assert issued.json()["response"]["customer_uid"] == uid
    simulator.again(customer_uid=uid)
    found = simulator.call("GET", f"{path}/payments").json()["response"]["list"]
    assert [payment["customer_uid"] for payment in found] == [uid]


def test_a_token_may_come_in_the_query_as_old_clients_send_it(simulator: RunningSimulator) -> None:
    simulator.call("GET", "/users/pg")
    assert simulator.client.get(f"/users/pg?_token={simulator._token}").status_code == 200
    assert simulator.client.get("/users/pg?_token=another").status_code == 401


@pytest.mark.parametrize(
    ("path", "missing"),
    [
        ("/subscribe/payments/schedule?schedule_to=1", "schedule_from"),
        ("/subscribe/payments/schedule?schedule_from=1", "schedule_to"),
        ("/subscribe/payments/schedule/customers/ann?to=1", "from"),
        ("/subscribe/customers/ann/schedules?from=1", "to"),
    ],
)
def test_lists_of_schedules_require_both_ends(simulator: RunningSimulator, path: str, missing: str) -> None:
    answer = simulator.call("GET", path)
    assert (answer.status_code, f"({missing})" in answer.json()["message"]) == (400, True)


def test_the_balance_of_a_payment_follows_its_refunds(simulator: RunningSimulator) -> None:
    simulator.card()
    imp_uid = simulator.again(amount=11_000).json()["response"]["imp_uid"]
    simulator.call("POST", "/payments/cancel", json={"imp_uid": imp_uid, "amount": 5_500})
    balance = simulator.call("GET", f"/payments/{imp_uid}/balance").json()["response"]
    assert (balance["amount"], balance["primary"]["supply"], balance["primary"]["vat"]) == (11_000, 5_000, 500)
    assert [step["primary"]["supply"] + step["primary"]["vat"] for step in balance["histories"]] == [11_000, 5_500]


@pytest.mark.parametrize(("provider", "card"), [("nice", "approve"), ("kcp", "no_money")])
def test_only_kcp_tells_the_balance_and_only_of_what_was_paid(
    simulator: RunningSimulator, provider: str, card: str
) -> None:
    simulator.card(card=card, pg=provider)
    imp_uid = simulator.again().json()["response"]["imp_uid"]
    answer = simulator.call("GET", f"/payments/{imp_uid}/balance")
    assert (answer.status_code, "PAYCO, KCP" in answer.json()["message"]) == (404, True)


@pytest.mark.parametrize("advance", [1e300, -1e12])
def test_the_clock_stays_within_the_years_that_it_can_show(simulator: RunningSimulator, advance: float) -> None:
    answer = simulator.client.post("/_simulator/clock", json={"advance": advance})
    assert (answer.status_code, "1970" in answer.json()["error"]) == (400, True)


# ── the fields of a card ─────────────────────────────────────────────────────────────────────────────────────────

NOT_THE_CARDS = {"birth": "991231", "pwd_2digit": "99"}


@pytest.mark.parametrize(
    ("contract", "fields", "code"),
    [
        ("number", {"expiry": "12/30"}, "8109"),
        ("number", {"expiry": "2030-13"}, "8109"),
        ("number", {"expiry": "2019-01"}, "CC54"),
        ("number", {"birth": "991332"}, "8110"),
        ("number", {"pwd_2digit": "0"}, "8111"),
        ("number", NOT_THE_CARDS, None),
        ("birth", {}, "8110"),
        ("birth", {"birth": "910131"}, None),
        ("birth", {"birth": "1208812345"}, None),
        ("birth", {"birth": "991231"}, "CC66"),
        ("birth", {"birth": "9999999999"}, "CC67"),
        ("birth_and_password", {"birth": "910131"}, "8111"),
        ("birth_and_password", {"birth": "910131", "pwd_2digit": "99"}, "CC63"),
        ("birth_and_password", {"birth": "910131", "pwd_2digit": "12"}, None),
    ],
)
@pytest.mark.parametrize("way", ["issue", "onetime", "schedule"])
def test_a_card_is_held_to_what_the_contract_asks_for(
    simulator: RunningSimulator, way: str, contract: str, fields: dict[str, str], code: str | None
) -> None:
    simulator.tell("faults", {"card_contract": contract})
    card: dict[str, Any] = CARD | fields
    match way:
        case "issue":
            answer = simulator.call("POST", "/subscribe/customers/bob", json=card)
        case "onetime":
            answer = simulator.call("POST", "/subscribe/payments/onetime", json=ORDER | card)
        case _:
            at = simulator.see("clock")["now"] + 60
            wish = {"merchant_uid": "later1", "schedule_at": at, "amount": 5000}
            body = card | {"customer_uid": "bob", "schedules": [wish]}
            answer = simulator.call("POST", "/subscribe/payments/schedule", json=body)
    assert answer.status_code == 200
    assert (answer.json()["code"] == 0) is (code is None)
    assert code is None or f"[{code}]" in answer.json()["message"]
    assert len(simulator.movements()) == (way == "onetime" and code is None)
