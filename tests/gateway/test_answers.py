"""What each shape of answer comes to, from PortOne's recorded and documented payloads."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime

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
from schedules.charging.unknown_outcomes import TEST_CHANNEL
from schedules.money.amounts import Money
from tests.gateway.samples import (
    CANCELLED,
    FAILED,
    KEY,
    ORDER,
    PAID,
    UID,
    envelope,
    order,
    page,
    refusal,
)
from worker.gateway.port import BillingKey, Cancellation, Cancelled, KeyDeclined, KeyMissing, PaymentPage
from worker.gateway.portone_v1.answers import (
    others_than,
    read_cancel,
    read_charge,
    read_found_one,
    read_found_page,
    read_issued,
    read_key,
    read_list,
    read_token,
)
from worker.gateway.portone_v1.payments import read_payment
from worker.gateway.portone_v1.tokens import Issued

USED = "이미 주문이 이루어진 건입니다. (동일한 merchant_uid로 결제 또는 취소된 기록이 있습니다)"
PAID_OUTCOME = Paid(
    "imps_156288298043",
    datetime(2018, 4, 27, 7, 14, 48, tzinfo=UTC),
    "danal_tpay",
    "201804271614461095101400",
    "https://www.danalpay.com/receipt/creditcard/view.aspx?data=x",
)


def charged(body: bytes, status: int = 200) -> Outcome:
    return read_charge(status, body, ORDER)


@dataclass(frozen=True)
class Case:
    name: str
    body: bytes
    outcome: Outcome
    status: int = 200


PAID_CASES = [
    Case("the recorded answer", envelope(PAID), PAID_OUTCOME),
    Case("an amount as a numeric string", envelope(PAID | {"amount": "8900"}), PAID_OUTCOME),
    Case("an amount with a point", envelope(PAID).replace(b'"amount": 8900', b'"amount": 8900.00'), PAID_OUTCOME),
    Case("an amount as a power", envelope(PAID).replace(b'"amount": 8900', b'"amount": 8.9E+3'), PAID_OUTCOME),
    Case("keys that nobody knows", envelope(PAID | {"promotion": {"id": "x"}, "neu": [1]}), PAID_OUTCOME),
    Case("a code as a string", envelope(PAID, code="0"), PAID_OUTCOME),
    Case("a message beside it", envelope(PAID, message="ok"), PAID_OUTCOME),
    Case("HTTP 201", envelope(PAID), PAID_OUTCOME, 201),
]


@pytest.mark.parametrize("case", PAID_CASES, ids=lambda case: case.name)
def test_paid_is_code_0_status_paid_and_all_that_we_asked_for(case: Case) -> None:
    assert charged(case.body, case.status) == case.outcome


def test_ids_become_strings_and_zero_times_become_none() -> None:
    bare = PAID | {"imp_uid": 156288298043, "paid_at": 0, "pg_tid": None, "receipt_url": ""}
    assert charged(envelope(bare)) == Paid("156288298043", None, "danal_tpay", None, None)


def test_dollars_are_compared_in_cents() -> None:
    asked = order(money=Money(1234, "USD"))
    for amount in (12.34, "12.34", "12.340"):
        body = envelope(PAID | {"amount": amount, "currency": "USD"})
        assert isinstance(read_charge(200, body, asked), Paid), amount
    wrong = read_charge(200, envelope(PAID | {"amount": 1234, "currency": "USD"}), asked)
    assert wrong == Unknown("amount: asked 12.34 USD, answered 1,234.00 USD", mismatch=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"amount": 8901}, "amount: asked 8,900 KRW, answered 8,901 KRW"),
        ({"amount": "100"}, "amount: asked 8,900 KRW, answered 100 KRW"),
        ({"amount": 0}, "amount: asked 8,900 KRW, answered 0 KRW"),
        ({"currency": "JPY"}, "amount: asked 8,900 KRW, answered 8,900 JPY"),
        ({"merchant_uid": "other"}, f"merchant_uid: asked {UID}, answered other"),
        ({"merchant_uid": UID.upper()}, f"merchant_uid: asked {UID}, answered {UID.upper()}"),
        ({"merchant_uid": "other", "status": "failed"}, f"merchant_uid: asked {UID}, answered other"),
    ],
    ids=str,
)
def test_another_amount_currency_or_uid_is_a_mismatch_with_both_values(
    changes: dict[str, object], words: str
) -> None:
    assert charged(envelope(PAID | changes)) == Unknown(words, mismatch=True)


DECLINES = [
    Case(
        "shape A: code 0 and status failed",
        envelope(FAILED),
        Declined("[CC10]통장 잔액부족", "CC10", "imps_156288298043", "kcp"),
    ),
    Case(
        "shape A without a reason",
        envelope(FAILED | {"fail_reason": None}),
        Declined("failed, without a reason", None, "imps_156288298043", "kcp"),
    ),
    Case(
        "shape A with another amount, for no money moved",
        envelope(FAILED | {"amount": 0}),
        Declined("[CC10]통장 잔액부족", "CC10", "imps_156288298043", "kcp"),
    ),
    Case(
        "shape B: a decline in the message",
        refusal("결제승인에 실패하였습니다. [2116]개인 월 한도금액 초과"),
        Declined("결제승인에 실패하였습니다. [2116]개인 월 한도금액 초과", "2116"),
    ),
    Case(
        "shape C: bad card data",
        refusal("카드정보 인증에 실패하였습니다. [F113]거래거절 카드번호틀림"),
        Declined("카드정보 인증에 실패하였습니다. [F113]거래거절 카드번호틀림", "F113"),
    ),
    Case(
        "a long code",
        refusal("[REJECT_CARD_PAYMENT]거절"),
        Declined("[REJECT_CARD_PAYMENT]거절", "REJECT_CARD_PAYMENT"),
    ),
    Case("words without a code", refusal("한도초과", 1), Declined("한도초과", None)),
    Case("Korean in the bracket", refusal("[승인거절] 본인확인 요망"), Declined("[승인거절] 본인확인 요망", None)),
    Case(
        "a code before a bar",
        refusal("실패 [500626|기 취소 거래]"),
        Declined("실패 [500626|기 취소 거래]", "500626"),
    ),
    Case(
        "a bare number that means something else at another PG",
        envelope(FAILED | {"pg_provider": "kakaopay", "fail_reason": "[3008]유효기간미입력"}),
        Declined("[3008]유효기간미입력", "3008", "imps_156288298043", "kakaopay"),
    ),
    Case("a sum that looks like a code", refusal("8041원 결제 한도초과"), Declined("8041원 결제 한도초과", None)),
]


@pytest.mark.parametrize("case", DECLINES, ids=lambda case: case.name)
def test_a_decline_is_read_in_both_shapes_with_the_pg_s_code(case: Case) -> None:
    assert charged(case.body) == case.outcome


# G15, and what the notes say of a key that is not there.
NO_CARD = [
    ("등록되지 않은 구매자입니다.", 1),
    ("등록된 고객정보가 없습니다.", 1),
    ("요청하신 customer_uid(000000)로 등록된 정보를 찾을 수 없습니다.", -1),
]


@pytest.mark.parametrize("status", [200, 400, 404])
@pytest.mark.parametrize(("words", "code"), NO_CARD, ids=lambda value: str(value))
def test_a_customer_without_a_card_is_declined_and_no_fault_of_our_set_up(
    words: str, code: int, status: int
) -> None:
    """Counted as refusals, a few such customers would stop the whole account."""
    assert charged(refusal(words, code), status) == Declined(words)


def test_portone_s_own_refusal_says_nothing_about_the_card() -> None:
    words = "인증에 실패하였습니다. API키와 secret을 확인하세요."
    assert charged(refusal(words, -1)) == Refused(words)


def test_a_payment_gateway_s_own_code_is_its_answer_though_the_status_is_400() -> None:
    words = "결제승인에 실패하였습니다. [2116]개인 월 한도금액 초과"
    assert charged(refusal(words), 400) == Declined(words, "2116")


def test_a_payment_on_a_test_channel_is_not_paid_unless_the_account_is_one_for_tests() -> None:
    body = envelope(PAID | {"sandbox": True})
    assert charged(body) == Refused(TEST_CHANNEL)
    assert isinstance(read_charge(200, body, ORDER, sandbox=True), Paid)


def test_a_payment_of_another_customer_is_for_a_person() -> None:
    answer = charged(envelope(PAID | {"customer_uid": "somebody-else"}))
    assert isinstance(answer, Unknown)
    assert answer.mismatch


@pytest.mark.parametrize("code", [1, -1, 500])
def test_a_used_uid_is_no_decline_but_something_to_ask_about_whatever_its_code(code: int) -> None:
    assert charged(refusal(USED, code)) == Unknown(f"uid already used: {USED}")


def test_a_used_uid_is_known_by_its_words_in_every_status_and_shape() -> None:
    line = "서버에 연결할 수 없습니다."
    assert charged(refusal(line), 400) == Unknown(f"HTTP 400: {line}")
    assert charged(refusal(USED), 400) == Unknown(f"HTTP 400: {USED}")
    assert isinstance(charged(envelope(FAILED | {"fail_reason": USED})), Unknown)
    assert isinstance(charged(refusal("이미 결제가 이루어진 거래건입니다.")), Unknown)


UNCLEAR = [
    "[CC72]카드사 TIMEOUT",
    "[CC98]카드사 시스템 장애",
    "[CC99]KCP 시스템 장애",
    "[3008]데이터 수신",
    "[3009]데이타 수신",
    "[7512]GW 처리",
    "[7R01]결제기관",
    "[8041]",
    "[8042]",
    "[8043]",
    "[8044]",
    "[8128]신용카드 중복거래 요청 거절",
    "[CCSC]안전결제|이중 거래",
    "[EE00]",
    "[EE01]",
    "[EE02]",
    "[cc72]",
    "CC72 카드사",
    "결제승인에 실패하였습니다. [8041|시스템]",
    "승인 실패 [PG][CC72] 카드사",
    "거래 TIME-OUT (잠시 후 다시 결제)",
    "밴사 통신 타임 아웃입니다.",
    "승인응답허용시간초과",
    "카드사로부터 응답을 받을 수 없습니다",
    "카드사 통신장애(잠시 후 다시 결제)",
    "Internal Server Error",
    "(PG사 결제 장애) Internal error",
]


@pytest.mark.parametrize("words", UNCLEAR)
def test_a_failure_that_names_a_time_out_or_a_line_fault_is_unknown_in_both_shapes(words: str) -> None:
    expected = Unknown(f"unclear failure: {words}")
    assert charged(refusal(words)) == expected
    assert charged(envelope(FAILED | {"fail_reason": words, "pg_provider": "kcp_billing"})) == expected


@pytest.mark.parametrize("words", ["[CC72]카드사", "[CC98]카드사", "[CC99]", "[EE01]", "통신 타임아웃"])
def test_codes_that_mean_one_thing_everywhere_need_no_pg(words: str) -> None:
    assert isinstance(charged(envelope(FAILED | {"fail_reason": words, "pg_provider": "nice"})), Unknown)


def test_an_unclear_word_counts_even_where_the_kept_words_are_cut() -> None:
    words = "거절 " * 200 + "TIMEOUT"
    outcome = charged(refusal(words))
    assert isinstance(outcome, Unknown)
    assert len(outcome.reason) <= 300
    failed = charged(envelope(FAILED | {"fail_reason": words}))
    assert isinstance(failed, Unknown)


UNREADABLE: list[tuple[str, bytes]] = [
    ("an empty body", b""),
    ("an HTML page", b"<html><body>502 Bad Gateway</body></html>"),
    ("truncated JSON", envelope(PAID)[:-20]),
    ("JSON that is a list", b"[]"),
    ("JSON that is a string", b'"paid"'),
    ("JSON null", b"null"),
    ("no code", b'{"message": null, "response": {}}'),
    ("a code that is no number", b'{"code": "ok", "message": null, "response": {}}'),
    ("a code that is true", b'{"code": false, "message": null, "response": {}}'),
    ("a code that is a fraction", b'{"code": 0.5, "message": null, "response": {}}'),
    ("NaN for a code", b'{"code": NaN, "message": null, "response": {}}'),
    ("no message", b'{"code": 0, "response": {}}'),
    ("bytes that are no text", b"\xff\xfe\x00\x80" * 10),
    ("EUC-KR", '{"code": 0, "message": "결제"}'.encode("euc-kr")),
    ("nesting without end", b'{"code":0,"message":null,"response":' + b"[" * 100_000),
    ("a number without end", b'{"code":0,"message":null,"response":' + b"9" * 5000 + b"}"),
    ("a huge body of nothing", b" " * 2**20),
]


@pytest.mark.parametrize("body", [body for _, body in UNREADABLE], ids=[name for name, _ in UNREADABLE])
def test_a_2xx_that_cannot_be_read_is_unknown(body: bytes) -> None:
    outcome = charged(body)
    assert outcome == Unknown(f"HTTP 200 with {len(body)} bytes that cannot be read as an answer")


@pytest.mark.parametrize(
    "body",
    [
        envelope(None),
        envelope([]),
        envelope([PAID]),
        envelope("paid"),
        envelope({}),
        envelope({"status": "paid"}),
        envelope({key: value for key, value in PAID.items() if key != "amount"}),
        envelope(PAID | {"amount": None}),
        envelope(PAID | {"amount": True}),
        envelope(PAID | {"amount": "8,900"}),
        envelope(PAID | {"amount": -8900}),
        envelope(PAID | {"amount": 8900.5}),
        envelope(PAID).replace(b'"amount": 8900', b'"amount": 1e999999'),
        envelope(PAID).replace(b'"amount": 8900', b'"amount": 1e-999999'),
        envelope(PAID | {"currency": None}),
        envelope(PAID | {"merchant_uid": None}),
        envelope(PAID | {"imp_uid": None}),
        envelope(PAID | {"imp_uid": {"id": 1}}),
        envelope(PAID | {"status": None}),
        envelope(PAID | {"status": "ready"}),
        envelope(PAID | {"status": "cancelled"}),
        envelope(PAID | {"status": "PAID"}),
        envelope(PAID | {"status": "authorized"}),
        envelope(PAID, code=-1, message="결제승인에 실패하였습니다."),
        refusal(None),
        refusal(""),
        refusal("   "),
    ],
    ids=lambda body: body[:150].decode(),
)
def test_what_is_surely_neither_paid_nor_declined_is_unknown(body: bytes) -> None:
    outcome = charged(body)
    assert isinstance(outcome, Unknown)
    assert not outcome.mismatch


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, Unknown) for status in (100, 101, 408, 409, 423, 499, 500, 502, 503, 504, 520, 599)),
        *((status, Refused) for status in (301, 302, 307, 400, 401, 403, 404, 405, 413, 415, 422, 418)),
        (429, NotSent),
    ],
)
def test_any_other_status_is_read_by_whether_the_charge_was_processed(status: int, kind: type) -> None:
    for body in (b"", b"<html>Gateway</html>", refusal("말씀"), envelope(PAID)):
        assert type(charged(body, status)) is kind, body


def test_the_body_s_words_are_kept_for_they_are_all_that_helps() -> None:
    words = "이니시스 빌링결제는 상품명이 필수입니다."
    assert charged(refusal(words), 400) == Refused(f"HTTP 400: {words}")
    assert charged(b"<html><h1>Request  Entity\nToo Large</h1></html>", 413) == Refused(
        "HTTP 413: Request Entity Too Large"
    )
    assert charged(b"", 502) == Unknown("HTTP 502: no words")


def test_a_reason_is_never_longer_than_300_characters() -> None:
    for outcome in (
        charged(refusal("가" * 1000)),
        charged(refusal("가" * 1000), 400),
        charged(refusal("등록되지 않은 구매자입니다" + "가" * 1000)),
        charged(refusal(USED + "가" * 1000)),
        charged(b"x" * 5000, 502),
        charged(envelope(FAILED | {"fail_reason": "가" * 1000})),
        charged(envelope(PAID | {"merchant_uid": "x" * 1000})),
    ):
        assert not isinstance(outcome, Paid)
        assert len(outcome.reason) <= 300


def test_nothing_that_a_table_cannot_hold_gets_through() -> None:
    body = envelope(FAILED | {"fail_reason": "a\x00b\ud800c", "imp_uid": "imp\x00s"})
    assert charged(body) == Declined("a b c", None, "imp s", "kcp")


@pytest.mark.parametrize(
    ("words", "masked"),
    [
        ("카드번호 4111111111111111 오류", "카드번호 ********1111 오류"),
        ("카드4111111111111111오류", "카드********1111오류"),
        ("카드 4111-1111-1111-1111", "카드 ********1111"),
        ("카드 4111 1111 1111 1111", "카드 ********1111"),
        ("카드 4111 - 1111 - 1111 - 1111", "카드 ********1111"),
        ("카드 4111.1111.1111.1111", "카드 ********1111"),
        ("amex 378282246310005", "amex ********0005"),
        ("41111111111111112031071", "********1071"),
        ("95404900****1569", "95404900****1569"),
        ("[8178] 20261123 1234", "[8178] 20261123 1234"),
    ],
)
def test_what_looks_like_a_card_number_is_masked_in_every_text(words: str, masked: str) -> None:
    assert charged(refusal(words)) == Declined(masked, "8178" if "8178" in words else None)
    failed = charged(envelope(FAILED | {"fail_reason": words}))
    assert isinstance(failed, Declined)
    assert failed.reason == masked
    assert charged(refusal(words), 403) == Refused(f"HTTP 403: {masked}")


def test_a_payment_is_read_with_every_field_and_tolerates_more_and_fewer() -> None:
    paid = read_payment(PAID | {"started_at": "1524813280", "customer_uid": 95382678, "sandbox": True})
    assert paid == GatewayPayment(
        imp_uid="imps_156288298043",
        merchant_uid=UID,
        state=PaymentState.PAID,
        amount=8900,
        cancelled_amount=0,
        currency="KRW",
        started_at=datetime(2018, 4, 27, 7, 14, 40, tzinfo=UTC),
        paid_at=datetime(2018, 4, 27, 7, 14, 48, tzinfo=UTC),
        failed_at=None,
        cancelled_at=None,
        fail_reason=None,
        pg_provider="danal_tpay",
        pg_tid="201804271614461095101400",
        receipt_url="https://www.danalpay.com/receipt/creditcard/view.aspx?data=x",
        customer_uid="95382678",
        sandbox=True,
    )
    # G6 of the notes: zero and null fields left out.
    few = {"amount": 1000, "currency": "KRW", "imp_uid": "i", "merchant_uid": "m", "status": "paid"}
    payment = read_payment(few)
    assert payment is not None
    assert (payment.amount, payment.cancelled_amount, payment.paid_at) == (1000, 0, None)


@pytest.mark.parametrize("status", ["a status of next year", "other", "PAID", "partial_cancelled"])
def test_a_status_that_portone_does_not_document_is_kept_apart(
    status: str, caplog: pytest.LogCaptureFixture
) -> None:
    payment = read_payment(PAID | {"status": status})
    assert payment is not None
    assert caplog.messages == [f"payment {payment.imp_uid} has a status that Again does not know: {status}"]
    assert (payment.state, payment.was_paid) == (PaymentState.OTHER, False)


def test_a_partial_cancel_leaves_a_balance() -> None:
    payment = read_payment(PAID | {"status": "cancelled", "amount": 100, "cancel_amount": 30})
    assert payment is not None
    assert payment.balance == 70


@pytest.mark.parametrize(
    ("status", "reason", "unclear"),
    [
        ("failed", "[CC72]카드사 TIMEOUT", True),
        ("failed", "[8041]", True),
        ("failed", "[CC10]통장 잔액부족", False),
        ("failed", None, False),
        ("paid", "[CC72]카드사 TIMEOUT", False),
    ],
)
def test_only_a_failure_in_words_that_name_a_time_out_is_unclear(
    status: str, reason: str | None, unclear: bool
) -> None:
    payment = read_payment(FAILED | {"status": status, "fail_reason": reason})
    assert payment is not None
    assert payment.unclear is unclear


def test_times_beyond_any_calendar_are_passed_over() -> None:
    payment = read_payment(PAID | {"paid_at": 10**14, "started_at": -5, "failed_at": "soon"})
    assert payment is not None
    assert (payment.paid_at, payment.started_at, payment.failed_at) == (None, None, None)


NOT_FOUND = refusal("존재하지 않는 결제정보입니다.")  # G16


def test_a_look_up_finds_a_payment_none_or_no_answer() -> None:
    assert read_found_one(200, envelope(PAID)) == read_payment(PAID)
    assert read_found_one(404, NOT_FOUND) is None
    assert read_found_one(404, b"<p>nginx</p>") == Unknown("HTTP 404, but not PortOne's: nginx")
    assert isinstance(read_found_one(404, b'{"message": "Not Found"}'), Unknown)
    assert isinstance(read_found_one(200, envelope(None)), Unknown)
    assert isinstance(read_found_one(200, NOT_FOUND), Unknown)
    assert isinstance(read_found_one(200, envelope({"imp_uid": "x"})), Unknown)
    assert isinstance(read_found_one(503, b""), Unknown)


def test_a_uid_without_payments_is_an_empty_page_only_when_portone_says_so() -> None:
    assert read_found_page(404, NOT_FOUND, 1) == PaymentPage((), 0, None)
    assert read_found_page(404, NOT_FOUND, 2) == Unknown("page 2 has gone")
    assert isinstance(read_found_page(404, b"<html>nginx</html>", 1), Unknown)
    assert isinstance(read_found_page(404, b'{"message": "Not Found"}', 1), Unknown)
    assert isinstance(read_found_page(200, page([PAID]), 1), PaymentPage)
    assert isinstance(read_found_page(200, NOT_FOUND, 1), Unknown)
    assert isinstance(read_found_page(400, refusal("page"), 2), Refused)


def test_a_page_of_payments_is_read_with_its_successor() -> None:
    listed = read_list(200, page([PAID, FAILED], total=7, following=2), 1)
    assert isinstance(listed, PaymentPage)
    assert [payment.state for payment in listed.payments] == ["paid", "failed"]
    assert (listed.total, listed.next_cursor) == (7, "2")
    assert read_list(200, page([]), 1) == PaymentPage((), 0, None)
    without_counts = read_list(200, envelope({"list": [PAID]}), 1)
    assert isinstance(without_counts, PaymentPage)
    assert (without_counts.total, without_counts.next_cursor) == (1, None)


def test_a_page_past_the_end_is_empty_but_a_bad_question_is_refused() -> None:
    assert read_list(400, refusal("페이지 범위를 벗어났습니다."), 3) == PaymentPage((), 0, None)
    assert read_list(400, refusal("데이터 범위를 넘어선 page"), 1) == PaymentPage((), 0, None)
    assert read_list(400, refusal("지원되지 않는 상태값입니다."), 1) == Refused(
        "HTTP 400: 지원되지 않는 상태값입니다."
    )
    assert isinstance(read_list(400, b"<html>nginx</html>", 3), Refused)


@pytest.mark.parametrize("broken", [{"imp_uid": "x"}, None, "paid", PAID | {"amount": "viel"}], ids=str)
def test_one_payment_that_cannot_be_read_spoils_the_page(broken: object) -> None:
    body = envelope({"total": 2, "next": 0, "list": [PAID, broken]})
    assert read_list(200, body, 1) == Unknown("payment 2 of 2 on the page cannot be read")


def test_a_page_without_a_list_is_unknown() -> None:
    assert isinstance(read_list(200, envelope({"total": 0}), 1), Unknown)
    assert isinstance(read_list(200, envelope(None), 1), Unknown)
    assert isinstance(read_list(200, refusal("x"), 1), Unknown)


def test_payments_of_another_uid_are_noticed() -> None:
    payment = read_payment(PAID | {"merchant_uid": "other"})
    assert payment is not None
    assert others_than("mine", [payment]) == Unknown("merchant_uid: asked mine, answered other", mismatch=True)
    assert others_than("other", [payment]) is None


def test_a_billing_key_is_read_as_masked_facts() -> None:
    key = BillingKey(
        "cus_1",
        "nice",
        "nictest04m",
        "국민KB카드",
        "52728927****2305",
        datetime(2020, 7, 27, 9, 49, 5, tzinfo=UTC),
        datetime(2020, 7, 27, 9, 50, 53, tzinfo=UTC),
    )
    for read in (read_key, read_issued):
        assert read(200, envelope(KEY), "cus_1") == key
        # The shape of 2017 has neither pg nor number.
        old = read(200, envelope({"customer_uid": "cus_1", "card_name": "현대카드"}), "cus_1")
        assert old == BillingKey("cus_1", None, None, "현대카드", None, None, None)
        other = read(200, envelope(KEY | {"customer_uid": "cus_2"}), "cus_1")
        assert other == Unknown("customer_uid: asked cus_1, answered cus_2", mismatch=True)
        assert isinstance(read(200, envelope(None), "cus_1"), Unknown)
        assert isinstance(read(200, b"", "cus_1"), Unknown)
        assert isinstance(read(500, b"", "cus_1"), Unknown)
        assert isinstance(read(429, b"", "cus_1"), NotSent)


@pytest.mark.parametrize(
    "shown", ["4111111111111111", "4111-1111-1111-1111", "41111111*11111111", "411111111111*111"]
)
def test_a_card_number_that_comes_back_unmasked_is_masked_by_us(shown: str) -> None:
    key = read_key(200, envelope(KEY | {"card_number": shown}), "cus_1")
    assert isinstance(key, BillingKey)
    assert key.card_number == "********1111"


NO_KEY = refusal("요청하신 customer_uid(000000)로 등록된 정보를 찾을 수 없습니다.")


def test_a_key_that_is_not_there_is_missing_by_http_200_and_by_404() -> None:
    assert read_key(200, NO_KEY, "cus_1") == KeyMissing("cus_1")
    assert read_key(404, NO_KEY, "cus_1") == KeyMissing("cus_1")
    assert isinstance(read_key(404, b"<html>nginx</html>", "cus_1"), Unknown)
    assert read_key(200, refusal("삭제할 수 없는 빌링키입니다."), "cus_1") == Refused(
        "code -1: 삭제할 수 없는 빌링키입니다."
    )
    assert isinstance(read_key(200, refusal("통신 오류"), "cus_1"), Unknown)


# G5
F112 = "카드정보 인증 및 빌키 발급에 실패하였습니다. [F112]유효하지않은 카드번호를 입력하셨습니다. (card_bin 없음)"


def test_a_card_that_is_not_taken_is_declined_in_the_gateway_s_words() -> None:
    assert read_issued(200, refusal(F112), "cus_1") == KeyDeclined(F112, "F112")
    assert isinstance(read_issued(200, refusal("[CC72]카드사 TIMEOUT"), "cus_1"), Unknown)
    assert isinstance(read_issued(400, refusal("channel_key 필수"), "cus_1"), Refused)


FULL = Cancellation("imps_156288298043", Money(8900, "KRW"), 8900, "refund")
PART = Cancellation("imps_156288298043", Money(3000, "KRW"), 5000, "refund")


def test_a_refund_is_made_when_the_balance_is_what_it_must_be_now() -> None:
    full = read_cancel(200, envelope(CANCELLED), FULL)
    assert isinstance(full, Cancelled)
    assert full.payment.balance == 0
    part = read_cancel(200, envelope(CANCELLED | {"cancel_amount": 6900}), PART)
    assert isinstance(part, Cancelled)
    assert part.payment.balance == 2000


def test_a_refund_that_left_another_balance_or_hit_another_payment_is_a_mismatch() -> None:
    for changes in ({"cancel_amount": 8900}, {"cancel_amount": 6900, "imp_uid": "x"}, {"cancel_amount": 3000}):
        answer = read_cancel(200, envelope(CANCELLED | changes), PART)
        assert isinstance(answer, Unknown)
        assert answer.mismatch


# G15, for cancelling
@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("취소할 결제건이 존재하지 않습니다.", 1),
        ("이미 전액취소된 주문입니다.", 1),
        ("결제취소에 실패하였습니다. [500626|기 취소 거래]", -1),
        ("[8178] 취소 요청한 금액보다 상계가능한 정산예정금액이 부족하여 취소가 불가합니다", -1),
    ],
)
def test_a_refund_that_is_not_made_is_refused_in_the_gateway_s_words(words: str, code: int) -> None:
    assert read_cancel(200, refusal(words, code), FULL) == Refused(f"code {code}: {words}")


def test_an_unclear_refund_is_unknown() -> None:
    for status, body in (
        (200, envelope(None)),
        (200, envelope({})),
        (200, envelope(PAID | {"cancel_amount": 8900})),
        (200, refusal("[CC72]카드사 TIMEOUT")),
        (200, refusal(None)),
        (200, b"{"),
        (502, b"<html>"),
        (408, b""),
    ):
        assert isinstance(read_cancel(status, body, FULL), Unknown), body
    assert isinstance(read_cancel(429, b"", FULL), NotSent)


def token_body(**changes: object) -> bytes:
    return envelope({"access_token": "a1", "now": 1508000158, "expired_at": 1508001239} | changes)


def test_a_token_lives_by_the_gateway_s_own_clock() -> None:
    assert read_token(200, token_body(), ()) == Issued("a1", 1081.0)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, refusal("인증에 실패하였습니다. API키와 secret을 확인하세요."), Refused),
        (200, refusal("인증에 실패하였습니다. API키와 secret을 확인하세요."), Refused),
        (400, refusal("imp_key, imp_secret 파라메터가 누락되었습니다."), Refused),
        (403, b"", Refused),
        (500, b"", NotSent),
        (503, b"<html>", NotSent),
        (429, b"", NotSent),
        (408, b"", NotSent),
        (200, b"", NotSent),
        (200, envelope(None), NotSent),
        (200, token_body(access_token=None), NotSent),
        (200, token_body(access_token="a\nb"), NotSent),
        (200, token_body(access_token=""), NotSent),
        (200, token_body(now=None), NotSent),
        (200, token_body(expired_at=1508000158), NotSent),
    ],
)
def test_without_a_token_nothing_was_sent_and_wrong_credentials_are_our_fault(
    status: int, body: bytes, kind: type
) -> None:
    answer = read_token(status, body, ())
    assert type(answer) is kind
    if isinstance(answer, Refused):
        assert "credentials" in answer.reason


def test_a_token_server_that_repeats_the_secret_is_not_repeated() -> None:
    answer = read_token(401, refusal("bad secret s3cr3t of k3y"), ("s3cr3t", "k3y"))
    assert answer == Refused("credentials or set-up refused: HTTP 401: bad secret … of …")


def test_portone_s_escapes_are_what_the_samples_use() -> None:
    assert b"\\/" in envelope(PAID)
    assert json.loads(envelope(PAID))["response"] == PAID
