"""Read HTTP answers: the status, and PortOne's envelope `{code, message, response}`."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import NoReturn

from schedules.charging.outcomes import NotSent, Refused, Unknown
from schedules.money.amounts import MAX_AMOUNT, minor_units
from worker.gateway.masking import ID_LIMIT, shortened, told, writable
from worker.gateway.portone_v1.unclear import is_unclear, is_used, pg_code

# Client errors that leave open whether the request was, or still is being, worked on: request time-out,
# conflict, locked, and the two with which proxies note that a client was too impatient.
UNCLEAR_STATUSES = frozenset({408, 409, 423, 460, 499})
MESSAGE_LIMIT = 5000  # characters that are looked at; what is kept is shortened
_NUMBER = re.compile(r"-?\d{1,15}(\.\d{1,20})?")
_MARKUP = re.compile(r"<[^>]*>")


@dataclass(frozen=True, slots=True)
class Envelope:
    """An answer that PortOne itself gave: code 0 says "understood", never "paid"."""

    code: int
    message: str | None  # cleaned and masked, but long: an unclear word may stand at its end
    response: object = field(repr=False)

    @property
    def fields(self) -> Mapping[str, object] | None:
        """The object in `response`, or None when there is none."""
        return self.response if isinstance(self.response, dict) else None


def read_envelope(body: bytes) -> Envelope | None:
    """The envelope in a body, or None when it is not whole JSON of that shape."""
    try:
        document = json.loads(body, parse_float=Decimal, parse_constant=_refuse_constant)
    except (ValueError, RecursionError, InvalidOperation):
        return None
    if not isinstance(document, dict) or "message" not in document:
        return None
    code = number(document.get("code"))
    if code is None or code != int(code):
        return None
    return Envelope(int(code), told(document["message"], MESSAGE_LIMIT), document.get("response"))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def opened(status: int, body: bytes) -> Envelope | NotSent | Refused | Unknown:
    """Return the envelope of a 2xx answer, or whether the request was processed by any other answer."""
    return judged(status, body, read_envelope(body))


def judged(status: int, body: bytes, envelope: Envelope | None) -> Envelope | NotSent | Refused | Unknown:
    """As `opened`, of an answer whose envelope is read."""
    if 200 <= status < 300:
        return envelope or Unknown(f"HTTP {status} with {len(body)} bytes that cannot be read as an answer")
    if status == 400 and envelope is not None and envelope.code != 0 and pg_code(envelope.message or ""):
        return envelope  # the payment gateway's own answer, with any status
    said = shortened(f"HTTP {status}: {envelope.message if envelope else _plain_words(body)}")
    if status == 429:
        return NotSent(said)
    if 300 <= status < 500 and status not in UNCLEAR_STATUSES:
        words = envelope.message if envelope else None
        return Unknown(said) if is_unclear(words, None) or is_used(words) else Refused(said)
    return Unknown(said)


def looked_up(status: int, body: bytes) -> Envelope | NotSent | Refused | Unknown | None:
    """As `opened`, for look-ups: None for PortOne's own 404. A proxy's 404 says nothing of its records."""
    if status != 404:
        return opened(status, body)
    return None if read_envelope(body) else Unknown(f"HTTP 404, but not PortOne's: {_plain_words(body)}")


def is_past_the_end(body: bytes, page: int) -> bool:
    """Whether a 400 means a page past the end. The first page is never past it, unless the text says so."""
    envelope = read_envelope(body)
    if envelope is None:
        return False
    words = (envelope.message or "").casefold()
    return page > 1 or "page" in words or "페이지" in words


def _plain_words(body: bytes) -> str:
    """The beginning of a body that is no envelope, without its markup."""
    words = _MARKUP.sub(" ", body[:2000].decode("utf-8", "replace"))
    return shortened(told(" ".join(words.split())) or "no words", 200)


def number(value: object) -> Decimal | None:
    """A JSON number or a numeric string, of at most 15 digits before the point."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        return None
    plain = format(value, "f") if isinstance(value, Decimal) and abs(value.adjusted()) < 20 else str(value)
    return Decimal(plain) if _NUMBER.fullmatch(plain) else None


def minor(value: object, currency: str) -> int | None:
    """An amount in major units as minor units; None when it is none, or beyond any amount of ours."""
    major = number(value)
    amount = None if major is None else minor_units(major, currency)
    return amount if amount is not None and 0 <= amount <= 100 * MAX_AMOUNT else None


def identifier(value: object) -> str | None:
    """An id as a string; PortOne has given numbers where it documents strings."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return writable(str(value))[:ID_LIMIT] or None


def instant(value: object) -> datetime | None:
    """Unix seconds as a time in UTC; 0 means "not so"."""
    seconds = number(value)
    if not seconds or not 0 < seconds < 10**11:  # the year 5138
        return None
    return datetime.fromtimestamp(int(seconds), UTC)
