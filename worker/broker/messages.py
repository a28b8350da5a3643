"""Which broker messages are accepted: their size, encoding, fields and task are checked before Celery reads them.

Celery trusts every sender of a message. A field of an unexpected type raises inside its consumer, which ends
the worker; the message then comes back. Every message that a worker takes is checked here first. Celery gets only
the headers that `accepted_headers` returns.
"""

import base64
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any
from uuid import uuid4

LARGEST = 256 * 1024  # bytes of a message; our own largest, an envelope of 100 charges, has about 3 kB
MOST_AHEAD = timedelta(days=1)  # how far in the future a message may expire
_ID = re.compile(r"[0-9A-Za-z._:-]{1,128}")
_ROUTE = re.compile(r"[\x21-\x7e]{1,255}")  # reply_to and correlation_id: an AMQP short string
_TASK = re.compile(r"[A-Za-z_.]{1,80}")  # a task name that may be stored: without digits, so never a card number
_EMBEDDED = frozenset({"callbacks", "errbacks", "chain", "chord"})
BODY_ENCODINGS = (None, "base64", "utf-8")
# Of a message in Redis, the only headers and properties that are read.
HEADERS = ("task", "id", "eta", "expires", "retries", "timelimit", "ignore_result")
ROUTES = ("correlation_id", "reply_to")
REFUSED = "again-refused"  # the property that says why a message is refused: its reason, size and digest
_LARGEST_ENTRY = 512 * 1024**2  # bytes; Redis's own bound
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Reason(StrEnum):
    """Why a message is refused; docs/how-to/dead-letters.md describes each."""

    TOO_LARGE = "too_large"
    BAD_ENVELOPE = "bad_envelope"
    COMPRESSED = "compressed"
    BAD_ENCODING = "bad_encoding"
    BAD_HEADERS = "bad_headers"
    TASK_NOT_ALLOWED = "task_not_allowed"
    DELAYED = "delayed"
    BAD_EXPIRY = "bad_expiry"
    BAD_BODY = "bad_body"
    EMBEDDED_TASKS = "embedded_tasks"
    BAD_REPLY = "bad_reply"
    NOT_READ = "not_read"
    FORGED_MARK = "forged_mark"


# For which read_envelope refuses a message.
_OF_ENVELOPES = frozenset(
    {Reason.TOO_LARGE, Reason.BAD_ENVELOPE, Reason.COMPRESSED, Reason.BAD_ENCODING, Reason.BAD_BODY}
)


class MessageRefused(Exception):
    """A message that cannot be one of ours."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A refused message, without its contents: they may hold personal data."""

    queue: str
    reason: Reason
    size: int  # bytes
    digest: str  # SHA-256 of the body, in hexadecimal
    task: str | None
    message_id: str | None


@dataclass(frozen=True, slots=True)
class Received:
    """A message as it came from the broker."""

    queue: str
    body: bytes
    content_type: object
    content_encoding: object
    headers: Mapping[str, object]
    reply_to: object
    correlation_id: object


def body_bytes(body: str | bytes | memoryview | None) -> bytes:
    """A body's bytes: the libraries of both brokers decode some to text."""
    return body.encode(errors="surrogatepass") if isinstance(body, str) else bytes(body or b"")


def dead_letter(queue: str, raw: bytes, headers: Mapping[str, object], reason: Reason) -> DeadLetter:
    """Describe a refused message."""
    task, message_id = headers.get("task"), headers.get("id")
    return DeadLetter(
        queue, reason, len(raw), sha256(raw).hexdigest(),
        task if isinstance(task, str) and _TASK.fullmatch(task) else None,
        message_id if isinstance(message_id, str) and _ID.fullmatch(message_id) else None,
    )  # fmt: skip


def read_envelope(raw: bytes, queue: str) -> dict[str, Any]:
    """Read the JSON document that one entry of a Redis list is, and rebuild it from the fields that are used.

    The delivery tag is a fresh one and the routing key is the list's name: neither is taken from the sender, who
    could name another message's tag or another queue. Nested values are removed: kombu makes objects of some, and
    may not be able to write others again.
    """
    if len(raw) > LARGEST:
        raise MessageRefused(Reason.TOO_LARGE)
    try:
        envelope = json.loads(raw.decode())
    except (ValueError, RecursionError):
        raise MessageRefused(Reason.BAD_ENVELOPE) from None
    headers = envelope.get("headers") if isinstance(envelope, dict) else None
    properties = envelope.get("properties") if isinstance(envelope, dict) else None
    if not (isinstance(headers, dict) and isinstance(properties, dict)):
        raise MessageRefused(Reason.BAD_ENVELOPE)
    if _is_refused_before(headers, envelope.get("body"), properties.get(REFUSED)):
        return _envelope(queue, "", {}, {"body_encoding": "utf-8", REFUSED: properties[REFUSED]})
    if headers.get("compression"):
        raise MessageRefused(Reason.COMPRESSED)
    encoding = properties.get("body_encoding")
    _check_body_text(envelope.get("body"), encoding)
    return _envelope(
        queue, envelope["body"], _flat(headers, HEADERS), _flat(properties, ROUTES) | {"body_encoding": encoding}
    ) | _flat(envelope, ("content-type", "content-encoding"))


def refused_envelope(raw: bytes, queue: str, reason: Reason) -> dict[str, Any]:
    """The envelope that replaces one that is refused, until it is acknowledged."""
    return _envelope(
        queue, "", {}, {"body_encoding": "utf-8", REFUSED: [reason, len(raw), sha256(raw).hexdigest()]}
    )


def refused_letter(queue: str, properties: Mapping[str, Any]) -> DeadLetter | None:
    """The dead letter of a message that `refused_envelope` replaced; None for any other message."""
    if REFUSED not in properties:
        return None
    reason, size, digest = properties[REFUSED]
    return DeadLetter(queue, Reason(reason), size, digest, None, None)


def _is_refused_before(headers: Mapping[str, object], body: object, mark: object) -> bool:
    """Whether this is an envelope of `refused_envelope` that kombu has returned to its queue.

    A sender who writes such an envelope has only that message refused.
    """
    if body != "" or not headers.keys() <= {"redelivered"}:
        return False
    match mark:
        case [str() as reason, int() as size, str() as digest] if not isinstance(size, bool):
            return (
                reason in _OF_ENVELOPES and 0 <= size <= _LARGEST_ENTRY and _DIGEST.fullmatch(digest) is not None
            )
        case _:
            return False


def _flat(found: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """These fields; an empty object, which is refused later, replaces a value that is nested."""
    return {name: found[name] if _is_flat(found[name]) else {} for name in names if name in found}


def _is_flat(value: object) -> bool:
    values = value if isinstance(value, list) else [value]
    return not any(isinstance(each, (list, dict)) for each in values)


def _envelope(queue: str, body: str, headers: dict[str, Any], properties: dict[str, Any]) -> dict[str, Any]:
    delivery = {"delivery_tag": str(uuid4()), "delivery_info": {"exchange": "", "routing_key": queue}}
    return {"body": body, "headers": headers, "properties": properties | delivery}


def _check_body_text(body: object, encoding: object) -> None:
    if not isinstance(body, str):
        raise MessageRefused(Reason.BAD_BODY)
    if encoding not in BODY_ENCODINGS:
        raise MessageRefused(Reason.BAD_ENCODING)
    try:
        _ = base64.b64decode(body) if encoding == "base64" else body.encode()
    except ValueError:
        raise MessageRefused(Reason.BAD_BODY) from None


def accepted_headers(
    received: Received,
    tasks: Collection[str],
    reserved: Collection[str],
    now: datetime,
    ahead: timedelta = timedelta(0),
) -> dict[str, Any]:
    """The headers with which Celery carries out a message; MessageRefused when it cannot be one of ours.

    `tasks` are those that the queue may carry; `reserved` are the queues that no answer may be sent to. `now` is
    by the machine's clock, which is `ahead` of the database's: Celery compares the expiry with it, and so gets
    the expiry by that clock. A wrong clock discards nothing.
    """
    headers = received.headers
    if len(received.body) > LARGEST:
        raise MessageRefused(Reason.TOO_LARGE)
    if headers.get("compression"):
        raise MessageRefused(Reason.COMPRESSED)
    _check_encoding(received)
    message_id, task = headers.get("id"), headers.get("task")
    if not (isinstance(message_id, str) and _ID.fullmatch(message_id)):
        raise MessageRefused(Reason.BAD_HEADERS)
    if not isinstance(task, str) or task not in tasks:
        raise MessageRefused(Reason.TASK_NOT_ALLOWED)
    if headers.get("eta") is not None:
        raise MessageRefused(Reason.DELAYED)
    _check_reply(received, reserved)
    accepted = {"id": message_id, "task": task, "lang": "py"} | _checked_options(headers)
    if headers.get("expires") is not None:
        accepted["expires"] = (_checked_expiry(headers["expires"], now - ahead) + ahead).isoformat()
    return accepted


def check_body(decoded: object) -> None:
    """Refuse a decoded body that is not `[arguments, fields, options]`, or that names further tasks."""
    match decoded:
        case [list(), dict(), dict() as embedded] if isinstance(decoded, list):
            pass
        case _:
            raise MessageRefused(Reason.BAD_BODY)
    if not embedded.keys() <= _EMBEDDED or any(embedded.values()):
        raise MessageRefused(Reason.EMBEDDED_TASKS)


def _check_encoding(received: Received) -> None:
    encoding = received.content_encoding
    if received.content_type != "application/json" or not isinstance(encoding, str) or encoding.lower() != "utf-8":
        raise MessageRefused(Reason.BAD_ENCODING)


def _check_reply(received: Received, reserved: Collection[str]) -> None:
    for route in (received.reply_to, received.correlation_id):
        if route is not None and not (isinstance(route, str) and _ROUTE.fullmatch(route)):
            raise MessageRefused(Reason.BAD_REPLY)
    if received.reply_to in reserved:
        raise MessageRefused(Reason.BAD_REPLY)


def _checked_options(headers: Mapping[str, object]) -> dict[str, Any]:
    """What a sender may choose: whether an answer is kept. Time limits and retries are ours to decide."""
    retries, ignored, limit = headers.get("retries"), headers.get("ignore_result"), headers.get("timelimit")
    is_known = limit in (None, [None, None]) and retries in (None, 0)
    if not is_known or not (ignored is None or isinstance(ignored, bool)):
        raise MessageRefused(Reason.BAD_HEADERS)
    return {} if ignored is None else {"ignore_result": ignored}


def _checked_expiry(expires: object, now: datetime) -> datetime:
    try:
        at = datetime.fromisoformat(expires) if isinstance(expires, str) else None
    except ValueError:
        at = None
    if at is None or at.tzinfo is None or at - now > MOST_AHEAD:
        raise MessageRefused(Reason.BAD_EXPIRY)
    return at
