"""Cursors of lists: a text for the place at which the next page begins; its reader gives it back unchanged."""

import binascii
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256

from schedules.errors import Code, FixedCode

Key = tuple[int | datetime, ...]
"""The values by which a list is ordered, of its last row that was read."""
LAST_NUMBER = 2**63 - 1  # of a row
DIGITS = 12  # of the digest of the filters
QUOTED = 60  # characters of a cursor in a message


class BadCursor(FixedCode, code=Code.INVALID):
    """The cursor is no cursor of this list under these filters."""


def write_cursor(listing: str, filters: str, key: Key) -> str:
    """The cursor of the page after this key of a list; `filters` are those of the list, as any stable text."""
    values = [each.isoformat() if isinstance(each, datetime) else each for each in key]
    return urlsafe_b64encode(json.dumps([listing, _digest(filters), *values]).encode()).decode().rstrip("=")


def read_cursor(text: str, listing: str, filters: str, kinds: Sequence[type]) -> Key:
    """The key of a cursor; raises BadCursor for one that is none, of another list, or of other filters."""
    name, digest, *values = _parts(text)
    if name != listing:
        raise BadCursor(
            f"cursor {_quoted(text)} is of the list of {name}, not of {listing}; take one of this list"
        )
    # Filters decide the order of a list, so the digest is compared before the values.
    if digest != _digest(filters):
        raise BadCursor(
            f"cursor {_quoted(text)} is of the same list with other filters; repeat the filters of the page before"
        )
    if len(values) != len(kinds):
        raise _unreadable(text)
    return tuple(_value(text, *pair) for pair in zip(values, kinds, strict=True))


def _parts(text: str) -> list[object]:
    try:
        parts = json.loads(urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4)))
    except (ValueError, binascii.Error, RecursionError):  # UnicodeError and JSON's own error are ValueErrors
        raise _unreadable(text) from None
    if not (isinstance(parts, list) and len(parts) > 2 and all(isinstance(each, str) for each in parts[:2])):
        raise _unreadable(text)
    return parts


def _value(text: str, value: object, kind: type) -> int | datetime:
    if kind is datetime and isinstance(value, str):
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            raise _unreadable(text) from None
        if at.tzinfo is not None:
            return at
    elif kind is int and type(value) is int and 0 <= value <= LAST_NUMBER:
        return value
    raise _unreadable(text)


def _unreadable(text: str) -> BadCursor:
    return BadCursor(f"cursor {_quoted(text)} cannot be read; give the whole cursor of the page before, or none")


def _quoted(text: str) -> str:
    return repr(text if len(text) <= QUOTED else f"{text[:QUOTED]}…")


def _digest(filters: str) -> str:
    return sha256(filters.encode()).hexdigest()[:DIGITS]
