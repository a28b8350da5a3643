"""Every call of the client against the real simulator, over HTTP, as a program of its own."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import httpx
import pytest

from schedules.charging.outcomes import (
    Declined,
    GatewayPayment,
    NotSent,
    Outcome,
    Paid,
    PaymentState,
    Refused,
    Unknown,
)
from schedules.money.amounts import Money
from tests.gateway.samples import CARD, ORDER
from worker.clock import wait_until
from worker.gateway.port import (
    BillingKey,
    Cancellation,
    Cancelled,
    ChargeOrder,
    Found,
    KeyDeclined,
    KeyMissing,
    PaymentPage,
)
from worker.gateway.portone_v1.client import PortOneV1
from worker.gateway.portone_v1.settings import PortOneSettings
from worker.gateway.portone_v1.tokens import MemoryTokens
from worker.gateway.timeouts import Timeouts

ROOT = Path(__file__).parents[2]
TIMEOUTS = Timeouts(connect=2, read=5, write=2, deadline=8)
_numbers = count(1)


@pytest.fixture(scope="module")
def simulator() -> Iterator[str]:
    """The simulator's address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "simulator", "--host", "127.0.0.1", "--port", str(port)]
    program = subprocess.Popen([*command, "--key", "sim_key", "--secret", "sim_secret"], cwd=ROOT)
    try:
        assert wait_until(lambda: program.poll() is not None or _answers(url), 20)
        assert program.poll() is None, "the simulator ended by itself"
        yield url
    finally:
        program.terminate()
        program.wait(10)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/_simulator/clock", timeout=1, trust_env=False).is_success
    except httpx.TransportError:
        return False


@pytest.fixture
def portone(simulator: str) -> Iterator[PortOneV1]:
    client = PortOneV1(PortOneSettings(simulator, "sim_key", "sim_secret", TIMEOUTS), MemoryTokens())
    yield client
    client.close()


@pytest.fixture
def new_order(portone: PortOneV1) -> ChargeOrder:
    """An order with a uid and a stored card of its own."""
    number = next(_numbers)
    customer_uid = f"cus_{number}"
    assert isinstance(portone.issue_key(customer_uid, CARD), BillingKey)
    return replace(ORDER, customer_uid=customer_uid, merchant_uid=f"ag1simtest{number:04d}")


def test_a_card_is_stored_read_and_forgotten(portone: PortOneV1, new_order: ChargeOrder) -> None:
    uid = new_order.customer_uid
    key = portone.read_key(uid)
    assert isinstance(key, BillingKey)
    assert key.customer_uid == uid
    assert key.card_number is not None
    assert "4111111111111111" not in key.card_number
    assert isinstance(portone.delete_key(uid), BillingKey)
    assert portone.read_key(uid) == KeyMissing(uid)
    assert portone.delete_key(uid) == KeyMissing(uid)


def test_a_charge_is_paid_and_found_in_every_way(portone: PortOneV1, new_order: ChargeOrder) -> None:
    paid = portone.charge(new_order)
    assert isinstance(paid, Paid)
    assert paid.paid_at is not None
    found = portone.find_all(new_order.merchant_uid)
    assert isinstance(found, Found)
    (payment,) = found.payments
    assert (payment.imp_uid, payment.state, payment.amount) == (paid.imp_uid, "paid", 8900)
    assert payment.customer_uid == new_order.customer_uid
    assert portone.find_payment(paid.imp_uid) == payment


def test_a_paid_uid_cannot_be_charged_again_and_is_to_be_asked_about(
    portone: PortOneV1, new_order: ChargeOrder
) -> None:
    assert isinstance(portone.charge(new_order), Paid)
    again = portone.charge(new_order)
    assert isinstance(again, Unknown)
    assert again.reason.startswith("uid already used")
    found = portone.find_all(new_order.merchant_uid)
    assert isinstance(found, Found)
    assert [payment.state for payment in found.payments] == ["paid"]


def test_a_customer_without_a_card_is_declined_and_leaves_no_payment(portone: PortOneV1) -> None:
    uid = f"ag1simtest{next(_numbers):04d}"
    assert isinstance(portone.charge(replace(ORDER, customer_uid="nobody", merchant_uid=uid)), Declined)
    assert portone.find_all("ag1simtestnever") == Found(())
    assert portone.find_payment("imps_000000000000") is None


@pytest.mark.parametrize("keep", [True, False])
def test_a_keyed_in_card_is_charged_and_kept_only_when_asked(portone: PortOneV1, keep: bool) -> None:
    number = next(_numbers)
    order = replace(ORDER, customer_uid=f"cus_{number}", merchant_uid=f"ag1simtest{number:04d}")
    assert isinstance(portone.charge_card(order, CARD, keep=keep), Paid)
    assert isinstance(portone.read_key(order.customer_uid), BillingKey if keep else KeyMissing)


def test_payments_are_listed_oldest_first_to_the_last_page(portone: PortOneV1, new_order: ChargeOrder) -> None:
    uids = [f"{new_order.merchant_uid}n{n}" for n in range(3)]
    for uid in uids:
        assert isinstance(portone.charge(replace(new_order, merchant_uid=uid)), Paid)
    until = datetime.now(UTC) + timedelta(days=1)
    seen: list[GatewayPayment] = []
    cursor: str | None = None
    for _ in range(100):
        listed = portone.list_payments(
            PaymentState.PAID, until - timedelta(days=30), until, cursor=cursor, limit=2
        )
        assert isinstance(listed, PaymentPage)
        seen += listed.payments
        last, cursor = int(cursor or 1), listed.next_cursor
        if cursor is None:
            break
    assert cursor is None
    assert [payment.merchant_uid for payment in seen][-3:] == uids
    assert [p.started_at for p in seen if p.started_at] == sorted(p.started_at for p in seen if p.started_at)
    past = portone.list_payments(
        PaymentState.PAID, until - timedelta(days=30), until, cursor=str(last + 5), limit=2
    )
    assert past == PaymentPage((), 0, None)


def test_money_is_given_back_in_parts_guarded_by_the_balance(portone: PortOneV1, new_order: ChargeOrder) -> None:
    paid = portone.charge(new_order)
    assert isinstance(paid, Paid)
    part = Cancellation(paid.imp_uid, Money(3000, "KRW"), 8900, "part")
    first = portone.cancel(part)
    assert isinstance(first, Cancelled)
    assert (first.payment.state, first.payment.balance) == ("cancelled", 5900)
    # The balance that we believe in is no longer right, so nothing is done.
    assert isinstance(portone.cancel(part), Refused)
    rest = portone.cancel(Cancellation(paid.imp_uid, Money(5900, "KRW"), 5900, "rest"))
    assert isinstance(rest, Cancelled)
    assert rest.payment.balance == 0
    found = portone.find_all(new_order.merchant_uid)
    assert isinstance(found, Found)
    assert [payment.balance for payment in found.payments] == [0]


def test_wrong_credentials_are_refused(simulator: str) -> None:
    client = PortOneV1(PortOneSettings(simulator, "sim_key", "wrong", TIMEOUTS), MemoryTokens())
    refused = client.charge(ORDER)
    client.close()
    assert isinstance(refused, Refused)
    assert "credentials" in refused.reason


def test_a_token_that_the_simulator_does_not_know_is_replaced_once(simulator: str) -> None:
    tokens = MemoryTokens()
    tokens.write("0" * 40, 1800)
    client = PortOneV1(PortOneSettings(simulator, "sim_key", "sim_secret", TIMEOUTS), tokens)
    answer = client.find_all("ag1simtestnever")
    client.close()
    assert answer == Found(())
    shared = tokens.read()
    assert shared is not None
    assert shared[0] != "0" * 40


def tell(simulator: str, path: str, document: object) -> None:
    """Set something on the simulator's own side."""
    httpx.post(f"{simulator}/_simulator/{path}", json=document, timeout=5, trust_env=False).raise_for_status()


def charged_there(simulator: str, uid: str) -> int:
    """How often the simulator's ledger says that a uid was charged."""
    answer = httpx.get(f"{simulator}/_simulator/ledger", timeout=5, trust_env=False).json()
    return sum(m["kind"] == "charge" and m["uid"] == uid for m in answer["movements"])


# fault, what the client makes of it, and how often money moved
FAULTS: list[tuple[str, Outcome | type[Paid], int]] = [
    ("timeout_before", Unknown("ReadTimeout"), 0),
    ("timeout_after", Unknown("ReadTimeout"), 1),
    ("reset_before", Unknown("Error"), 0),
    ("reset_after", Unknown("Error"), 1),
    ("reset_in_body", Unknown("Error"), 1),
    ("http_500_before", Unknown("500"), 0),
    ("http_500_after", Unknown("500"), 1),
    ("http_502_before", Unknown("502"), 0),
    ("http_502_after", Unknown("502"), 1),
    ("http_429", NotSent("429"), 0),
    ("garbage", Unknown("cannot be read"), 1),
    ("truncated", Unknown(""), 1),
    ("wrong_amount", Unknown("asked 8,900 KRW, answered 9,000 KRW", mismatch=True), 1),
    ("late_paid", Declined("점검중"), 0),
    ("token_expired", Paid, 1),
]


@pytest.mark.parametrize(("fault", "expected", "moved"), FAULTS, ids=[fault for fault, _, _ in FAULTS])
def test_what_a_fault_hides_is_never_taken_for_an_answer(
    simulator: str, new_order: ChargeOrder, fault: str, expected: Outcome | type[Paid], moved: int
) -> None:
    rule = {"call": "again", "merchant_uid": new_order.merchant_uid, "fault": fault, "times": 1}
    tell(simulator, "faults", {"rules": [rule]})
    brief = replace(TIMEOUTS, read=0.5, deadline=4)
    client = PortOneV1(PortOneSettings(simulator, "sim_key", "sim_secret", brief), MemoryTokens())
    outcome = client.charge(new_order)
    found = client.find_all(new_order.merchant_uid)
    client.close()
    if isinstance(expected, type):
        assert isinstance(outcome, expected)
    else:
        assert type(outcome) is type(expected)
        assert isinstance(outcome, Declined | Unknown | NotSent)
        assert expected.reason in outcome.reason  # type: ignore[union-attr]
        assert getattr(outcome, "mismatch", False) is getattr(expected, "mismatch", False)
    assert charged_there(simulator, new_order.merchant_uid) == moved
    assert isinstance(found, Found)
    assert [payment.state for payment in found.payments].count(PaymentState.PAID) == moved


# Card numbers of the simulator: 4000 00PP SSSB KKKK (gateway, scenario, shape, k).
DECLINES = [
    ("4000-0000-0010-0000", Declined("[CC10]통장 잔액부족", "CC10", pg_provider="kcp")),
    ("4000-0000-0011-0000", Declined("결제승인에 실패하였습니다. [CC10]통장 잔액부족", "CC10")),
    ("4000-0001-0031-0000", Declined("결제승인에 실패하였습니다. [2116]개인 월 한도금액 초과", "2116")),
    (
        "4000-0003-0010-0000",
        Declined(
            "[REJECT_ACCOUNT_PAYMENT]잔액부족으로 결제에 실패했습니다.",
            "REJECT_ACCOUNT_PAYMENT",
            pg_provider="tosspayments",
        ),
    ),
    ("4000-0000-0110-0000", Unknown("unclear failure: [CC72]카드사 TIMEOUT")),
    ("4000-0000-0111-0000", Unknown("unclear failure: 결제승인에 실패하였습니다. [CC72]카드사 TIMEOUT")),
]


@pytest.mark.parametrize(("number", "expected"), DECLINES, ids=[number for number, _ in DECLINES])
def test_a_card_that_declines_is_read_in_both_shapes(
    portone: PortOneV1, new_order: ChargeOrder, number: str, expected: Outcome
) -> None:
    assert isinstance(portone.issue_key(new_order.customer_uid, replace(CARD, number=number)), BillingKey)
    outcome = portone.charge(new_order)
    if isinstance(outcome, Declined):
        outcome = replace(outcome, imp_uid=None)
    assert outcome == expected
    found = portone.find_all(new_order.merchant_uid)
    assert isinstance(found, Found)
    assert [payment.unclear for payment in found.payments] == [isinstance(expected, Unknown)]


def test_a_card_that_is_refused_makes_no_key(portone: PortOneV1) -> None:
    declined = portone.issue_key("cus_refused", replace(CARD, number="4000-0000-0150-0000"))
    assert isinstance(declined, KeyDeclined)
    assert declined.pg_code == "F112"
    assert portone.read_key("cus_refused") == KeyMissing("cus_refused")


def test_a_payment_of_a_test_channel_is_found_when_the_settings_say_so(simulator: str, portone: PortOneV1) -> None:
    tell(simulator, "faults", {"sandbox": True})
    settings = PortOneSettings(simulator, "sim_key", "sim_secret", TIMEOUTS, include_sandbox=True)
    client = PortOneV1(settings, MemoryTokens())
    uid = f"ag1simtest{next(_numbers):04d}"
    paid = client.charge_card(replace(ORDER, merchant_uid=uid), CARD, keep=False)
    tell(simulator, "faults", {})
    assert isinstance(paid, Paid)
    assert portone.find_payment(paid.imp_uid) is None
    found = portone.find_all(uid)
    assert isinstance(found, Found)
    assert [payment.sandbox for payment in found.payments] == [True]
    assert isinstance(client.find_payment(paid.imp_uid), GatewayPayment)
    client.close()
