"""Orders, cards and PortOne's payment objects for the gateway's tests."""

import json
from dataclasses import replace

from schedules.money.amounts import Money
from worker.gateway.port import Card, ChargeOrder

UID = "ag1test0123456789abcdefghjkmn00001000100z"[:38]
ORDER = ChargeOrder("cus_1", UID, Money(8900, "KRW"), "Monthly plan")
CARD_NUMBER = "4111111111111111"
CARD = Card("4111-1111-1111-1111", "2031-07", birth="820213", password_2_digits="47")
# G8 of the notes: a recorded answer to `again` (Danal, 2018), with our uid.
PAID: dict[str, object] = {
    "amount": 8900, "apply_num": "06261080", "bank_code": None, "bank_name": None, "buyer_addr": None,
    "buyer_email": None, "buyer_name": None, "buyer_postcode": None, "buyer_tel": None, "cancel_amount": 0,
    "cancel_history": [], "cancel_reason": None, "cancel_receipt_urls": [], "cancelled_at": 0, "card_code": "374",
    "card_name": "하나(구외환)", "card_quota": 0, "cash_receipt_issued": False, "channel": "api",
    "currency": "KRW", "custom_data": None, "escrow": False, "fail_reason": None, "failed_at": 0,
    "imp_uid": "imps_156288298043", "merchant_uid": UID, "name": "SDFSDFSDF", "paid_at": 1524813288,
    "pay_method": "card", "pg_provider": "danal_tpay", "pg_tid": "201804271614461095101400",
    "receipt_url": "https://www.danalpay.com/receipt/creditcard/view.aspx?data=x", "status": "paid",
    "user_agent": "sorry_not_supported_anymore", "vbank_code": None, "vbank_date": 0, "vbank_holder": None,
    "vbank_name": None, "vbank_num": None,
}  # fmt: skip
# G19: no recorded body of this shape is known; built from the field rules.
FAILED = PAID | {
    "status": "failed",
    "fail_reason": "[CC10]통장 잔액부족",
    "failed_at": 1524813290,
    "started_at": 1524813280,
    "paid_at": 0,
    "apply_num": None,
    "receipt_url": None,
    "pg_provider": "kcp",
    "customer_uid_usage": "payment",
}
# G4: a recorded billing key (Nice, 2020).
KEY: dict[str, object] = {
    "card_code": "381", "card_name": "국민KB카드", "card_number": "52728927****2305", "card_type": 1,
    "customer_addr": None, "customer_email": None, "customer_name": None, "customer_postcode": None,
    "customer_tel": None, "customer_uid": "cus_1", "inserted": 1595843345, "pg_id": "nictest04m",
    "pg_provider": "nice", "updated": 1595843453,
}  # fmt: skip
CANCELLED = PAID | {"status": "cancelled", "cancel_amount": 8900, "cancelled_at": 1524813999}


def envelope(response: object = None, code: object = 0, message: object = None) -> bytes:
    """PortOne's envelope, escaped as PortOne does it."""
    return json.dumps({"code": code, "message": message, "response": response}).encode().replace(b"/", b"\\/")


def refusal(message: object, code: int = -1) -> bytes:
    """A refusal: words, and no response."""
    return envelope(None, code, message)


def page(payments: list[dict[str, object]], total: int | None = None, following: int = 0) -> bytes:
    """A page of payments."""
    total = len(payments) if total is None else total
    return envelope({"total": total, "previous": 0, "next": following, "list": payments})


def order(**changes: object) -> ChargeOrder:
    """The order, with changes."""
    return replace(ORDER, **changes)  # type: ignore[arg-type]
