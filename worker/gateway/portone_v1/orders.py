"""Requests to PortOne, checked against its limits; a violation is reported and not sent."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal

from schedules.charging.outcomes import PaymentState
from schedules.money.amounts import MINOR_DIGITS, amount_words
from worker.gateway.masking import shortened
from worker.gateway.port import Cancellation, Card, ChargeOrder
from worker.gateway.portone_v1.payments import STATES

PAGE_LIMIT = 1000
LONGEST_WINDOW = timedelta(days=90)
BUYER_LIMITS = {"buyer_name": 16, "buyer_email": 64, "buyer_tel": 16}  # characters
# Letters and digits only, because Smartro refuses anything else; cut at 40, uids would run together.
_UID = re.compile(r"[A-Za-z0-9]{1,40}")
_DIGITS = re.compile(r"[0-9]{13,19}")
_EXPIRY = re.compile(r"20[0-9]{2}-(0[1-9]|1[0-2])")
_BIRTH = re.compile(r"[0-9]{6}|[0-9]{10}")
_PAGE_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_PASSWORD = re.compile(r"[0-9]{2}")

Fields = Mapping[str, str | int | float | list[str]]


def wrong_with_order(order: ChargeOrder) -> str | None:
    """What PortOne would refuse in this order, or None."""
    if not _UID.fullmatch(order.merchant_uid):
        return f"merchant_uid {shortened(order.merchant_uid, 60)!r} is not 1 to 40 letters and digits"
    if not 1 <= len(order.name) <= 40:
        return f"name of {len(order.name)} characters is not 1 to 40 long"
    return wrong_with_path_id("customer_uid", order.customer_uid)


def wrong_with_path_id(what: str, uid: str, longest: int = 80) -> str | None:
    """What is wrong with an id that becomes a part of a path, or None."""
    if not 1 <= len(uid) <= longest:
        return f"{what} of {len(uid)} characters is not 1 to {longest} long"
    # Dots alone would be taken as steps in the path, and lead to another call.
    if not uid.isprintable() or not uid.strip("."):
        return f"{what} {uid!r} cannot stand in an address"
    return None


def wrong_with_card(card: Card) -> str | None:
    """What PortOne would refuse in this card, without any of its digits, or None."""
    if not _DIGITS.fullmatch(_plain_number(card)):
        return "card number is not 13 to 19 digits"
    if not _EXPIRY.fullmatch(card.expiry):
        return "expiry is not YYYY-MM"
    if card.birth is not None and not _BIRTH.fullmatch(card.birth):
        return "birth is neither YYMMDD nor a business number of 10 digits"
    if card.password_2_digits is not None and not _PASSWORD.fullmatch(card.password_2_digits):
        return "password is not 2 digits"
    if card.channel is not None and not 1 <= len(card.channel) <= 80:
        return f"pg of {len(card.channel)} characters is not 1 to 80 long"
    return None


def wrong_with_cancellation(cancellation: Cancellation) -> str | None:
    """What is wrong with this refund, or None."""
    if cancellation.money.amount > cancellation.balance:
        left = amount_words(cancellation.balance, cancellation.money.currency)
        return f"{cancellation.money} are more than the {left} left"
    return wrong_with_path_id("imp_uid", cancellation.imp_uid)


def wrong_with_window(
    state: PaymentState, since: datetime, until: datetime, cursor: str | None, limit: int
) -> str | None:
    """What is wrong with this request for a list, or None."""
    if state not in STATES:
        return f"PortOne has no list of the payments that are {state}"
    if since.tzinfo is None or until.tzinfo is None:
        return "a window's ends need a time zone"
    if not timedelta(0) <= until - since <= LONGEST_WINDOW:
        return f"a window from {since} to {until} is not 0 to {LONGEST_WINDOW.days} days long"
    if cursor is not None and not _PAGE_NUMBER.fullmatch(cursor):
        return f"cursor {cursor!r} is not the number of a page"
    if not 1 <= limit <= PAGE_LIMIT:
        return f"a page of {limit} payments: pages hold 1 to {PAGE_LIMIT}"
    return None


def charge_fields(order: ChargeOrder) -> dict[str, str | int | float]:
    """A charge in PortOne's fields, without the card. A buyer's field that is too long is left out, not cut."""
    fields: dict[str, str | int | float] = {
        "merchant_uid": order.merchant_uid,
        "amount": _major(order.money.amount, order.money.currency),
        "currency": order.money.currency,
        "name": order.name,
    }
    for name, longest in BUYER_LIMITS.items():
        value: str | None = getattr(order, name)
        if value and len(value) <= longest:
            fields[name] = value
    if order.custom_data is not None:
        fields["custom_data"] = order.custom_data
    return fields


def card_fields(card: Card) -> dict[str, str | int | float]:
    """A card in PortOne's fields: dddd-dddd-dddd-dddd."""
    digits = _plain_number(card)
    fields: dict[str, str | int | float] = {
        "card_number": "-".join(digits[at : at + 4] for at in range(0, len(digits), 4)),
        "expiry": card.expiry,
    }
    optional = {"birth": card.birth, "pwd_2digit": card.password_2_digits, "pg": card.channel}
    return fields | {name: value for name, value in optional.items() if value is not None}


def card_secrets(card: Card) -> tuple[str | None, ...]:
    """The strings that must not be stored even if the gateway repeats them; two digits are in every text."""
    digits = _plain_number(card)
    return (card.number, digits, card.birth, card.expiry)


def cancel_fields(cancellation: Cancellation) -> Fields:
    """A refund in PortOne's fields; an amount of 0 or none means all of it, and Money is never 0."""
    currency = cancellation.money.currency
    return {
        "imp_uid": cancellation.imp_uid,
        "amount": _major(cancellation.money.amount, currency),
        "checksum": _major(cancellation.balance, currency),
        "reason": cancellation.reason,
    }


def _plain_number(card: Card) -> str:
    return card.number.replace("-", "").replace(" ", "")


def _major(minor: int, currency: str) -> int | float:
    """An amount as a JSON number: whole if it can be. A float of up to 15 digits is written as it was read."""
    major = Decimal(minor).scaleb(-MINOR_DIGITS[currency])
    return int(major) if major == major.to_integral_value() else float(major)
