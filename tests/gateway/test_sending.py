"""What is sent for each call, and what is refused before it is."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from schedules.charging.outcomes import Paid, PaymentState, Refused, Unknown
from schedules.money.amounts import Money
from tests.gateway.samples import CANCELLED, CARD, KEY, ORDER, PAID, UID, envelope, order, page
from tests.gateway.scripted import ScriptedServer, answer, client_of, scripted
from worker.gateway.port import BillingKey, Cancellation, Cancelled, Card, ChargeOrder, PaymentPage
from worker.gateway.portone_v1.client import PortOneV1

SINCE = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted() as running:
        yield running


@pytest.fixture
def portone(server: ScriptedServer) -> Iterator[PortOneV1]:
    with client_of(server.url) as client:
        yield client


def test_a_charge_sends_its_fields_and_nothing_else(server: ScriptedServer, portone: PortOneV1) -> None:
    server.will(answer(200, envelope(PAID)))
    assert isinstance(portone.charge(ORDER), Paid)
    request = server.received[0]
    assert (request.method, request.path) == ("POST", "/subscribe/payments/again")
    assert request.fields == {
        "customer_uid": "cus_1",
        "merchant_uid": UID,
        "amount": 8900,
        "currency": "KRW",
        "name": "Monthly plan",
    }
    assert b'"amount": 8900,' in request.body


def test_dollars_are_sent_in_major_units_exactly(server: ScriptedServer, portone: PortOneV1) -> None:
    for cents, written in ((1234, b"12.34,"), (1200, b"12,"), (10**12 - 1, b"9999999999.99,"), (1, b"0.01,")):
        server.will(answer(500))
        portone.charge(order(money=Money(cents, "USD")))
        assert b'"amount": ' + written in server.received[-1].body


def test_buyer_fields_are_sent_whole_or_not_at_all(server: ScriptedServer, portone: PortOneV1) -> None:
    server.will(answer(500), answer(500))
    whole = order(buyer_name="가" * 16, buyer_email="e" * 64, buyer_tel="0" * 16, custom_data='{"a": "\ud800"}')
    portone.charge(whole)
    fields = server.received[0].fields
    assert fields["buyer_name"] == "가" * 16
    assert fields["custom_data"] == '{"a": "\ud800"}'
    assert {"buyer_email", "buyer_tel"} <= fields.keys()
    portone.charge(order(buyer_name="가" * 17, buyer_email="e" * 65, buyer_tel="0" * 17))
    assert not {"buyer_name", "buyer_email", "buyer_tel"} & server.received[1].fields.keys()


@pytest.mark.parametrize(
    "bad",
    [
        order(merchant_uid=""),
        order(merchant_uid="a" * 41),
        order(merchant_uid="order-1"),
        order(merchant_uid="order 1"),
        order(merchant_uid="주문1"),
        order(merchant_uid="order1\n"),
        order(name=""),
        order(name="가" * 41),
        order(customer_uid=""),
        order(customer_uid="c" * 81),
        order(customer_uid=".."),
        order(customer_uid="c\n"),
    ],
    ids=lambda bad: f"{bad.merchant_uid[:10]}|{bad.name[:10]}|{bad.customer_uid[:10]}",
)
def test_an_order_that_portone_would_not_take_is_refused_without_a_call(
    server: ScriptedServer, portone: PortOneV1, bad: ChargeOrder
) -> None:
    assert isinstance(portone.charge(bad), Refused)
    assert isinstance(portone.charge_card(bad, CARD, keep=False), Refused)
    assert server.received == server.token_requests == []


def test_an_order_at_the_limits_is_sent(server: ScriptedServer, portone: PortOneV1) -> None:
    server.will(answer(500))
    assert isinstance(portone.charge(ChargeOrder("c" * 80, "a" * 40, ORDER.money, "가" * 40)), Unknown)
    assert len(server.received) == 1


def test_a_keyed_in_card_is_kept_only_when_asked(server: ScriptedServer, portone: PortOneV1) -> None:
    server.will(answer(200, envelope(PAID)), answer(200, envelope(PAID)))
    card = replace(CARD, number="4111111111111111", channel="kcp.A52LD")
    assert isinstance(portone.charge_card(ORDER, card, keep=False), Paid)
    assert isinstance(portone.charge_card(ORDER, card, keep=True), Paid)
    once, kept = (request.fields for request in server.received)
    assert server.received[0].path == "/subscribe/payments/onetime"
    assert once == {
        "merchant_uid": UID,
        "amount": 8900,
        "currency": "KRW",
        "name": "Monthly plan",
        "card_number": "4111-1111-1111-1111",
        "expiry": "2031-07",
        "birth": "820213",
        "pwd_2digit": "47",
        "pg": "kcp.A52LD",
    }
    assert kept == once | {"customer_uid": "cus_1"}


@pytest.mark.parametrize(
    "bad",
    [
        replace(CARD, number="4111"),
        replace(CARD, number="4111-1111-1111-111a"),
        replace(CARD, number="4" * 20),
        replace(CARD, expiry="07/31"),
        replace(CARD, expiry="2031-13"),
        replace(CARD, birth="1982-02-13"),
        replace(CARD, password_2_digits="4711"),
        replace(CARD, channel=""),
    ],
)
def test_a_card_that_portone_would_not_take_is_refused_without_saying_any_of_it(
    server: ScriptedServer, portone: PortOneV1, bad: Card
) -> None:
    for refused in (portone.issue_key("cus_1", bad), portone.charge_card(ORDER, bad, keep=True)):
        assert isinstance(refused, Refused)
        for secret in (bad.number, bad.expiry, bad.birth, bad.password_2_digits):
            assert secret is None or secret not in refused.reason
    assert server.received == []


def test_a_stored_card_is_issued_read_and_deleted_under_a_quoted_id(
    server: ScriptedServer, portone: PortOneV1
) -> None:
    uid = "고객/1?x=#%2e ü"
    server.will(*[answer(200, envelope(KEY | {"customer_uid": uid}))] * 3)
    assert isinstance(portone.issue_key(uid, CARD), BillingKey)
    assert isinstance(portone.read_key(uid), BillingKey)
    assert isinstance(portone.delete_key(uid), BillingKey)
    path = "/subscribe/customers/%EA%B3%A0%EA%B0%9D%2F1%3Fx%3D%23%252e%20%C3%BC"
    assert [(request.method, request.path) for request in server.received] == [
        ("POST", path),
        ("GET", path),
        ("DELETE", path),
    ]
    assert set(server.received[0].fields) == {"card_number", "expiry", "birth", "pwd_2digit"}
    assert server.received[1].body == server.received[2].body == b""


@pytest.mark.parametrize("uid", ["", ".", "..", "a\nb", "x" * 81])
def test_an_id_that_would_lead_to_another_call_is_refused(
    server: ScriptedServer, portone: PortOneV1, uid: str
) -> None:
    for refused in (
        portone.delete_key(uid),
        portone.read_key(uid),
        portone.issue_key(uid, CARD),
        portone.find_all(uid),
        portone.find_payment(uid),
        portone.cancel(Cancellation(uid, ORDER.money, 8900, "x")),
    ):
        assert isinstance(refused, Refused)
    assert server.received == []


def test_a_key_is_answered_with_the_channel_that_it_was_issued_on(
    server: ScriptedServer, portone: PortOneV1
) -> None:
    server.will(*[answer(200, envelope(KEY))] * 3)
    for pg, is_there in (("nice.nictest04m", True), ("kcp", False), ("nice.other", False)):
        answered = portone.issue_key("cus_1", replace(CARD, channel=pg))
        assert isinstance(answered, BillingKey)
        assert answered.channel == "nice.nictest04m"
        assert answered.is_on(pg) is is_there


def test_a_payment_is_looked_up_by_the_gateway_s_id(server: ScriptedServer, portone: PortOneV1) -> None:
    server.will(answer(200, envelope(PAID)))
    portone.find_payment("imps_156288298043")
    assert [request.path for request in server.received] == ["/payments/imps_156288298043"]


def test_a_list_is_asked_for_oldest_first_in_unix_seconds(server: ScriptedServer, portone: PortOneV1) -> None:
    server.will(answer(200, page([PAID], total=9, following=3)))
    listed = portone.list_payments(PaymentState.PAID, SINCE, SINCE + timedelta(days=90), cursor="2", limit=4)
    assert isinstance(listed, PaymentPage)
    assert listed.next_cursor == "3"
    assert server.received[0].path == (
        "/payments/status/paid?page=2&limit=4&from=1767225600&to=1775001600&sorting=started"
    )


@pytest.mark.parametrize(
    ("state", "days", "cursor", "limit"),
    [
        (PaymentState.OTHER, 1, None, 10),
        (PaymentState.PAID, 91, None, 10),
        (PaymentState.PAID, -1, None, 10),
        (PaymentState.PAID, 1, "0", 10),
        (PaymentState.PAID, 1, "2 OR 1", 10),
        (PaymentState.PAID, 1, "", 10),
        (PaymentState.PAID, 1, None, 0),
        (PaymentState.PAID, 1, None, 1001),
    ],
)
def test_a_list_that_portone_would_not_give_is_refused_without_a_call(
    server: ScriptedServer, portone: PortOneV1, state: PaymentState, days: int, cursor: str | None, limit: int
) -> None:
    until = SINCE + timedelta(days=days)
    assert isinstance(portone.list_payments(state, SINCE, until, cursor=cursor, limit=limit), Refused)
    naive = datetime(2026, 1, 1)  # noqa: DTZ001
    assert isinstance(portone.list_payments(PaymentState.PAID, naive, naive), Refused)
    assert server.received == []


def test_a_refund_always_says_how_much_and_what_is_left(server: ScriptedServer, portone: PortOneV1) -> None:
    server.will(answer(200, envelope(CANCELLED)))
    cancellation = Cancellation("imps_156288298043", Money(3900, "KRW"), 3900, "customer asked")
    assert isinstance(portone.cancel(cancellation), Cancelled)
    assert (server.received[0].method, server.received[0].path) == ("POST", "/payments/cancel")
    assert server.received[0].fields == {
        "imp_uid": "imps_156288298043",
        "amount": 3900,
        "checksum": 3900,
        "reason": "customer asked",
    }


def test_more_than_is_left_is_not_refunded(server: ScriptedServer, portone: PortOneV1) -> None:
    refused = portone.cancel(Cancellation("imps_1", Money(3901, "KRW"), 3900, "x"))
    assert refused == Refused("3,901 KRW are more than the 3,900 KRW left")
    assert server.received == []
