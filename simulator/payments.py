"""Payments and billing keys as PortOne shows them, with all fields that are always present."""

from dataclasses import dataclass, field
from typing import Any

from simulator.cards import SimulatedCard

CARD_CODE, CARD_NAME = "361", "BC카드"  # from PortOne's table of codes; all simulated cards are from this company


@dataclass(slots=True)
class Key:
    """A billing key: a card stored under a customer_uid."""

    customer_uid: str
    card: SimulatedCard
    inserted: int
    updated: int
    sandbox: bool = False
    buyer: dict[str, str | None] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The key as the gateway returns it: masked facts only."""
        return {
            "customer_uid": self.customer_uid, "pg_provider": self.card.provider, "pg_id": self.card.pg_id,
            "sandbox": self.sandbox, "customer_id": None, "card_name": CARD_NAME, "card_code": CARD_CODE,
            "card_number": self.card.masked, "card_type": 0, "customer_name": self.buyer.get("name"),
            "customer_tel": self.buyer.get("tel"), "customer_email": self.buyer.get("email"),
            "customer_addr": self.buyer.get("addr"), "customer_postcode": self.buyer.get("postcode"),
            "inserted": self.inserted, "updated": self.updated,
        }  # fmt: skip


@dataclass(slots=True)
class Order:
    """A request to charge."""

    merchant_uid: str
    customer_uid: str | None
    amount: float
    currency: str
    name: str | None
    custom_data: str | None = None
    notice_url: str | None = None
    card_quota: int = 0
    buyer: dict[str, str | None] = field(default_factory=dict)
    usage: str | None = "payment"


@dataclass(slots=True)
class Payment:
    """One payment; several may share a merchant_uid."""

    imp_uid: str
    order: Order
    amount: float  # of the order, unless a fault changed it
    status: str
    started_at: int
    card: SimulatedCard
    sandbox: bool = False
    fail_reason: str | None = None
    paid_at: int = 0
    failed_at: int = 0
    cancelled_at: int = 0
    cancel_amount: float = 0
    cancel_reason: str | None = None
    cancels: list[dict[str, Any]] = field(default_factory=list)
    updated_at: int = 0
    shown_from: float = 0  # find and lists do not show it before
    turns_paid_at: float = 0  # when a payment that was reported failed turns paid; 0 for never
    call_is_open: bool = False  # its call has not been answered yet

    @property
    def merchant_uid(self) -> str:
        """The merchant_uid of its order."""
        return self.order.merchant_uid

    @property
    def customer_uid(self) -> str | None:
        """The billing key that was charged."""
        return self.order.customer_uid

    @property
    def currency(self) -> str:
        """Currency of the order, by default KRW."""
        return self.order.currency

    @property
    def balance(self) -> float:
        """The amount that was not refunded."""
        return self.amount - self.cancel_amount if self.paid_at else 0

    def add_cancel(self, amount: float, now: int, reason: str | None) -> None:
        """Refund a part of it."""
        self.cancel_amount += amount
        number = len(self.cancels) + 1
        self.cancels.append({
            "pg_tid": f"T{self.imp_uid}", "amount": plain(amount), "cancelled_at": now, "reason": reason or "",
            "cancellation_id": f"{self.imp_uid}-{number}",
            "receipt_url": f"https://simulator.invalid/cancel/{self.imp_uid}/{number}",
        })  # fmt: skip

    def balance_as_json(self) -> dict[str, Any]:
        """The balance, split as the gateway splits it, with its history."""
        left, steps = self.amount, [(self.amount, self.paid_at)]
        for cancel in self.cancels:
            left -= cancel["amount"]
            steps.append((left, cancel["cancelled_at"]))
        return {
            "amount": plain(self.amount), **_split(self.balance),
            "histories": [_split(amount) | {"created": at} for amount, at in steps],
        }  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """The payment as the gateway returns it."""
        paid, order, buyer = self.paid_at > 0, self.order, self.order.buyer
        receipt = f"https://simulator.invalid/receipt/{self.imp_uid}" if paid else None
        return {
            "amount": plain(self.amount), "apply_num": self.imp_uid[-8:] if paid else None, "bank_code": None,
            "bank_name": None, "buyer_addr": buyer.get("addr"), "buyer_email": buyer.get("email"),
            "buyer_name": buyer.get("name"), "buyer_postcode": buyer.get("postcode"),
            "buyer_tel": buyer.get("tel"), "cancel_amount": plain(self.cancel_amount),
            "cancel_history": self.cancels, "cancel_reason": self.cancel_reason,
            "cancel_receipt_urls": [cancel["receipt_url"] for cancel in self.cancels],
            "cancelled_at": self.cancelled_at, "card_code": CARD_CODE, "card_name": CARD_NAME,
            "card_number": self.card.masked, "card_quota": order.card_quota, "card_type": 0,
            "cash_receipt_issued": False, "channel": "api", "currency": order.currency,
            "custom_data": order.custom_data, "customer_uid": order.customer_uid,
            "customer_uid_usage": order.usage, "emb_pg_provider": None, "escrow": False,
            "fail_reason": self.fail_reason, "failed_at": self.failed_at, "imp_uid": self.imp_uid,
            "merchant_uid": order.merchant_uid, "name": order.name, "paid_at": self.paid_at, "pay_method": "card",
            "pg_id": self.card.pg_id, "pg_provider": self.card.provider, "pg_tid": f"T{self.imp_uid}",
            "receipt_url": receipt, "sandbox": self.sandbox, "started_at": self.started_at, "status": self.status,
            "user_agent": None, "vbank_code": None, "vbank_date": 0, "vbank_holder": None, "vbank_issued_at": 0,
            "vbank_name": None, "vbank_num": None,
        }  # fmt: skip


def _split(amount: float) -> dict[str, Any]:
    """An amount by kind of tax: a tenth is VAT; no points, discount or cash receipt."""
    vat = round(amount / 11)
    none = {"tax_free": 0, "supply": 0, "vat": 0, "service": 0}
    return {
        "primary": none | {"supply": plain(amount - vat), "vat": vat}, "secondary": none, "discount": none,
        "cash_receipt": none,
    }  # fmt: skip


def plain(amount: float) -> int | float:
    """An amount for JSON: an integer when it has no fraction."""
    return int(amount) if amount == int(amount) else amount
