"""Each answer is held against the official schema, field by field, where it is at hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.simulator.running import RunningSimulator

SCHEMA = Path(__file__).resolve().parents[3] / "shared/reference/portone-v1.openapi.json"
pytestmark = pytest.mark.skipif(not SCHEMA.exists(), reason=f"the official schema is not at hand: {SCHEMA}")
TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,), "array": (list,),
    "object": (dict,),
}  # fmt: skip
# `null` stands for what is not so in every recorded answer, though the schema has no word for it; fields that the
# schema does not have but recorded answers do.
RECORDED_ONLY: set[str] = set()


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """The official definitions."""
    return dict(json.loads(SCHEMA.read_text())["definitions"])


def faults_of(document: Any, definition: dict[str, Any], schema: dict[str, Any], where: str) -> list[str]:
    """Where a document is not what a definition says."""
    if "$ref" in definition:
        return faults_of(document, schema[definition["$ref"].rsplit("/", 1)[1]], schema, where)
    found: list[str] = []
    for part in definition.get("allOf", ()):
        found += faults_of(document, part, schema, where)
    kind = definition.get("type")
    if kind and (not isinstance(document, TYPES[kind]) or (isinstance(document, bool) and kind != "boolean")):
        return [f"{where} is {document!r}, not {kind}"]
    if isinstance(document, str) and len(document) > int(definition.get("maxLength", 10**6)):
        found.append(f"{where} is longer than {definition['maxLength']}")
    if "enum" in definition and document not in definition["enum"]:
        found.append(f"{where} is {document!r}, not one of {definition['enum']}")
    if kind == "array":
        for place, entry in enumerate(document):
            found += faults_of(entry, definition.get("items", {}), schema, f"{where}[{place}]")
    if isinstance(document, dict) and "properties" in definition:
        found += _faults_of_fields(document, definition, schema, where)
    return found


def _faults_of_fields(
    document: dict[str, Any], definition: dict[str, Any], schema: dict[str, Any], where: str
) -> list[str]:
    fields = definition["properties"]
    required = definition.get("required", [])
    found = [f"{where}.{name} is not there" for name in required if document.get(name) is None]
    found += [
        f"{where}.{name} is in no schema" for name in document if name not in fields and name not in RECORDED_ONLY
    ]
    for name, value in document.items():
        if value is not None and name in fields:
            found += faults_of(value, fields[name], schema, f"{where}.{name}")
    return found


def check(answer: Any, name: str, schema: dict[str, Any]) -> None:
    """The answer's `response` is what the named definition says."""
    body = answer.json()
    assert set(body) == {"code", "message", "response"}
    assert body["code"] == 0, body
    responses = body["response"] if isinstance(body["response"], list) else [body["response"]]
    for response in responses:
        assert faults_of(response, schema[name], schema, name) == []


def test_the_token(simulator: RunningSimulator, schema: dict[str, Any]) -> None:
    body = {"imp_key": "sim_key", "imp_secret": "sim_secret"}
    check(simulator.client.post("/users/getToken", json=body), "AuthAnnotation", schema)


@pytest.mark.parametrize("card", ["approve", "no_money"])
def test_a_payment_paid_or_failed(simulator: RunningSimulator, schema: dict[str, Any], card: str) -> None:
    simulator.card(card=card)
    check(simulator.again(custom_data="{}", buyer_name="앤"), "PaymentAnnotation", schema)
    check(simulator.call("GET", "/payments/find/order1"), "PaymentAnnotation", schema)


def test_a_payment_cancelled_in_part(simulator: RunningSimulator, schema: dict[str, Any]) -> None:
    simulator.card()
    simulator.again()
    body = {"merchant_uid": "order1", "amount": 100, "checksum": 9900, "reason": "a gift"}
    check(simulator.call("POST", "/payments/cancel", json=body), "PaymentAnnotation", schema)


def test_lists_of_payments(simulator: RunningSimulator, schema: dict[str, Any]) -> None:
    simulator.card()
    simulator.again()
    for path in ("findAll/order1", "status/paid"):
        check(simulator.call("GET", f"/payments/{path}"), "PagedPaymentAnnotation", schema)


def test_a_billing_key(simulator: RunningSimulator, schema: dict[str, Any]) -> None:
    card = {"card_number": "5333-1234-5678-1234", "expiry": "2030-12"}
    check(simulator.call("POST", "/subscribe/customers/bob", json=card), "CustomerAnnotation", schema)
    check(simulator.call("GET", "/subscribe/customers/bob"), "CustomerAnnotation", schema)
    check(simulator.call("DELETE", "/subscribe/customers/bob"), "CustomerAnnotation", schema)


def test_a_schedule(simulator: RunningSimulator, schema: dict[str, Any]) -> None:
    simulator.card()
    at = int(simulator.see("clock")["now"]) + 60
    wish = {"merchant_uid": "later1", "schedule_at": at, "amount": 5000, "name": "Later"}
    body = {"customer_uid": "ann", "schedules": [wish]}
    check(simulator.call("POST", "/subscribe/payments/schedule", json=body), "ScheduleResultAnnotation", schema)
    simulator.tell("clock", {"advance": 61})
    check(simulator.call("GET", "/subscribe/payments/schedule/later1"), "ScheduleResultAnnotation", schema)


def test_the_channels(simulator: RunningSimulator, schema: dict[str, Any]) -> None:
    check(simulator.call("GET", "/users/pg"), "PgSettingAnnotation", schema)


def test_an_amount_that_is_prepared(simulator: RunningSimulator, schema: dict[str, Any]) -> None:
    """The official list of required fields is of another object, a list, so only the fields are compared."""
    schema["PaymentPrepareAnnotation"].pop("required", None)
    body = {"merchant_uid": "window1", "amount": 5000}
    check(simulator.call("POST", "/payments/prepare", json=body), "PaymentPrepareAnnotation", schema)
    check(simulator.call("GET", "/payments/prepare/window1"), "PaymentPrepareAnnotation", schema)


def test_several_payments_and_keys_and_a_payment_by_card(
    simulator: RunningSimulator, schema: dict[str, Any]
) -> None:
    card = {"card_number": "5333-1234-5678-1234", "expiry": "2030-12", "customer_uid": "bob"}
    paid = simulator.call(
        "POST", "/subscribe/payments/onetime", json=card | {"merchant_uid": "one1", "amount": 1000}
    )
    check(paid, "PaymentAnnotation", schema)
    check(simulator.call("GET", "/payments?merchant_uid[]=one1"), "PaymentAnnotation", schema)
    check(simulator.call("GET", "/subscribe/customers?customer_uid[]=bob"), "CustomerAnnotation", schema)
    check(simulator.call("GET", "/subscribe/customers/bob/payments"), "PagedPaymentAnnotation", schema)


def test_every_field_of_a_payment_that_the_oldest_recorded_answers_have_is_there(
    simulator: RunningSimulator, schema: dict[str, Any]
) -> None:
    simulator.card()
    payment = simulator.again().json()["response"]
    of_some_gateways_only = {
        "card_issuer_code", "card_issuer_name", "card_publisher_code", "card_publisher_name", "deposit_history",
        "promotion",
    }  # fmt: skip
    assert set(schema["PaymentAnnotation"]["properties"]) - set(payment) == of_some_gateways_only
