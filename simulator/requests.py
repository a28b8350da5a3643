"""Read the body of a request: JSON or form, numbers or numeric strings, lists and maps in form names."""

import itertools
import json
import math
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request

from simulator.faults import Faults
from simulator.payments import Order
from simulator.shop import Refusal

# Maximum length of each field in characters, by the official schema.
LENGTHS = {
    "customer_uid": 80, "merchant_uid": 40, "name": 40, "buyer_name": 16, "buyer_email": 64, "buyer_tel": 16,
    "buyer_addr": 128, "buyer_postcode": 8, "customer_name": 20, "customer_tel": 20, "customer_email": 200,
    "customer_addr": 200, "customer_postcode": 8, "pg": 80, "channel_key": 55,
}  # fmt: skip
BUYER_FIELDS = ("name", "email", "tel", "addr", "postcode")
MOST_ENTRIES = 1000  # entries of a list in a form
MOST = 10**15  # upper bound of numbers
BAD_JSON = "JSON 형식이 올바르지 않습니다."
_INDEX = re.compile(r"\[([^\]]*)\]")


async def read_body(request: Request) -> dict[str, Any]:
    """The fields of a JSON or form body."""
    kind = request.headers.get("content-type", "")
    if "multipart/form-data" in kind:
        try:
            form = await request.form()
        except (HTTPException, LookupError, UnicodeError):  # no boundary, a broken part, an unknown charset
            raise Refusal(-1, "multipart/form-data 형식이 올바르지 않습니다.", 400) from None
        return _fields((name, str(value)) for name, value in form.multi_items())
    body = await request.body()
    if "x-www-form-urlencoded" in kind:
        return _fields(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    document = read_json(body) if body else {}
    if not isinstance(document, dict):
        raise Refusal(-1, BAD_JSON, 400)
    return document


def read_json(body: bytes) -> Any:
    """Parse a JSON document; refused when it is malformed, too deeply nested, or has a lone surrogate."""
    try:
        document = json.loads(body)
        if b"\\ud" in body.lower():  # an escaped surrogate, which may lack its other half
            json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise Refusal(-1, BAD_JSON, 400) from None
    return document


def _fields(pairs: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in pairs:
        try:
            _put(fields, name, value)
        except (TypeError, ValueError, IndexError, AttributeError):
            raise Refusal(-1, f"{name} 형식이 올바르지 않습니다.", 400) from None
    return fields


def _put(fields: dict[str, Any], name: str, value: str) -> None:
    """Write a form field, for example schedules[0][merchant_uid], into nested lists and maps."""
    place: Any = fields
    path = [name.split("[", 1)[0], *_INDEX.findall(name)]
    for step, following in itertools.pairwise(path):
        fresh: Any = [] if following.isdecimal() or not following else {}
        place = _descend(place, step, fresh)
    if isinstance(place, list):
        place.append(value)
    else:
        place[path[-1]] = value


def _descend(place: Any, step: str, fresh: Any) -> Any:
    if isinstance(place, list):
        index = int(step or len(place))
        if index >= MOST_ENTRIES:
            raise ValueError(step)
        while len(place) <= index:
            place.append(type(fresh)())
        return place[index]
    return place.setdefault(step, fresh)


def required(fields: Mapping[str, Any], *names: str) -> None:
    """Refuse a request without one of these fields."""
    missing = [name for name in names if fields.get(name) in (None, "")]
    if missing:
        raise Refusal(-1, f"필수 파라메터가 누락되었습니다. ({', '.join(missing)})", 400)


def text(fields: Mapping[str, Any], name: str) -> str | None:
    """A field as text; numbers become text, and too long values are refused."""
    value = fields.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, dict | list | bool):
        raise Refusal(-1, f"{name} 값이 올바르지 않습니다.", 400)
    words = str(value)
    most = LENGTHS.get(name)
    if most is not None and len(words) > most:
        raise Refusal(-1, f"{name} 은(는) {most}자 이하여야 합니다.", 400)
    return words


def uid_of(fields: Mapping[str, Any], faults: Faults) -> str:
    """The merchant_uid; a too long one is refused or truncated, depending on the switch."""
    value = fields.get("merchant_uid")
    if faults.over_long_uid == "truncate" and isinstance(value, str):
        fields = {"merchant_uid": value[: LENGTHS["merchant_uid"]]}
    return text(fields, "merchant_uid") or ""


def number(fields: Mapping[str, Any], name: str = "amount") -> float:
    """A number or numeric text of 0 or more; 0 for an absent field."""
    value = fields.get(name)
    if value in (None, ""):
        return 0
    try:
        count = math.nan if isinstance(value, bool) else float(str(value))
    except ValueError:
        count = math.nan
    if not math.isfinite(count) or not 0 <= count <= MOST:
        raise Refusal(-1, f"{name} 값이 올바르지 않습니다.", 400)
    return count


def order_of(fields: Mapping[str, Any], faults: Faults) -> Order:
    """The order of a charge request."""
    currency = text(fields, "currency") or "KRW"
    money = number(fields)
    if money <= 0 or (currency == "KRW" and money != int(money)):
        raise Refusal(-1, "결제금액(amount)이 올바르지 않습니다.", 400)
    return Order(
        merchant_uid=uid_of(fields, faults), customer_uid=text(fields, "customer_uid"), amount=money,
        currency=currency, name=text(fields, "name"), custom_data=text(fields, "custom_data"),
        notice_url=text(fields, "notice_url"), card_quota=int(number(fields, "card_quota")),
        buyer={name: text(fields, f"buyer_{name}") for name in BUYER_FIELDS},
    )  # fmt: skip


def listed(request: Request, name: str) -> list[str]:
    """A list in the query, written name[]=a&name[]=b, name[0]=a or name=a."""
    return [value for key, value in request.query_params.multi_items() if key.split("[", 1)[0] == name]


def whole(request: Request, name: str, default: int | None = None) -> int:
    """An integer in the query; required when there is no default."""
    words = request.query_params.get(name, "")
    if not words and default is None:
        raise Refusal(-1, f"필수 파라메터가 누락되었습니다. ({name})", 400)
    if words and not (words.isascii() and words.isdigit() and len(words) < 16):
        raise Refusal(-1, f"{name} 값이 올바르지 않습니다.", 400)
    return int(words or default or 0)
