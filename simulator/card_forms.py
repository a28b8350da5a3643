"""Check the format of the fields of a typed-in card, and refuse the values that the simulated issuer refuses.

The contract of the shop with its gateway decides which fields the issuer compares; the switch `card_contract`
stands for it. The texts are from KCP's published table of result codes.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from simulator import requests
from simulator.cards import KOREA
from simulator.shop import Refusal, Shop

# Other values in the right format are accepted.
WRONG_BIRTH, WRONG_BUSINESS_NUMBER, WRONG_PASSWORD = "991231", "9999999999", "99"
_EXPIRY = re.compile(r"(\d{4})-(0[1-9]|1[0-2])", re.ASCII)
_PASSWORD = re.compile(r"\d{2}", re.ASCII)


def check(fields: Mapping[str, Any], shop: Shop, prefix: str) -> None:
    """Refuse a card with a wrong or past expiry, or a birth date or password that is malformed or not the card's.

    Fields that the contract does not require may be absent, and are not compared. `prefix` is PortOne's sentence
    before the gateway's text.
    """
    contract = shop.faults.card_contract
    expiry = requests.text(fields, "expiry") or ""
    birth, password = requests.text(fields, "birth"), requests.text(fields, "pwd_2digit")
    needs_birth, needs_password = contract != "number", contract == "birth_and_password"
    if not _EXPIRY.fullmatch(expiry):
        reason = "[8109]포맷에러(지불|신용카드|유효기간)"
    elif (birth or needs_birth) and not _is_birth(birth or ""):
        reason = "[8110]포맷에러(지불|신용카드|주민번호)"
    elif (password or needs_password) and not _PASSWORD.fullmatch(password or ""):
        reason = "[8111]포맷에러(지불|신용카드|비밀번호)"
    elif expiry < f"{datetime.fromtimestamp(shop.clock.now(), KOREA):%Y-%m}":
        reason = "[CC54]카드유효기간만료 또는 불일치"
    elif needs_birth and birth == WRONG_BIRTH:
        reason = "[CC66]주민번호 오류"
    elif needs_birth and birth == WRONG_BUSINESS_NUMBER:
        reason = "[CC67]사업자번호 오류(인증)"
    elif needs_password and password == WRONG_PASSWORD:
        reason = "[CC63]비밀번호 오류"
    else:
        return
    raise Refusal(-1, f"{prefix} {reason}")


def _is_birth(text: str) -> bool:
    """Whether this is a birth date YYMMDD, 000000 for a card without one, or a business number."""
    if not (text.isascii() and text.isdecimal()):
        return False
    if len(text) != 6:
        return len(text) == 10
    if text == "000000":
        return True
    try:
        datetime(2000 + int(text[:2]) % 4, int(text[2:4]), int(text[4:]))  # noqa: DTZ001 # only checks that the date exists
    except ValueError:
        return False
    return True
