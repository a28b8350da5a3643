"""The listener: hears PortOne's webhooks, which nobody signs, and believes none; each is only a reason to look."""

import ipaddress
import json
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

log = logging.getLogger("again.listener")
LONGEST_BODY = 64 * 1024  # bytes; PortOne's are under a kilobyte
_IMP_UID = re.compile(r"imps?_[0-9A-Za-z_]{1,40}")
_MERCHANT_UID = re.compile(r"[^\x00-\x1f\x7f]{1,40}")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Hand = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Door:
    """Who is let in, and how a notice is handed on."""

    allowed: Sequence[Network]
    trust_proxy: bool  # the last hop of X-Forwarded-For is the peer: a proxy of ours has written it
    hand_on: Hand  # takes the merchant_uid; raises ConnectionError when the broker does not take it

    def lets_in(self, request: Request) -> bool:
        """Whether the peer is one that we listen to."""
        named = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip() if self.trust_proxy else None
        peer = named or (request.client.host if request.client and not self.trust_proxy else "")
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self.allowed)


def application(door: Door) -> Starlette:
    """The ASGI application: `POST /portone` and `GET /healthy`."""

    async def portone(request: Request) -> JSONResponse:
        if not door.lets_in(request):
            return _answer(403, "this address is not listened to; see AGAIN_LISTENER_ALLOW")
        body = await _body(request)
        if body is None:
            return _answer(413, f"more than {LONGEST_BODY} bytes")
        merchant_uid = _merchant_uid(request.headers.get("content-type", ""), body)
        if merchant_uid is None:
            return _answer(400, "no imp_uid and merchant_uid in it, as JSON or as a form")
        try:
            await run_in_threadpool(door.hand_on, merchant_uid)
        except ConnectionError as error:
            log.error("a notice was not handed on: %s", error)
            return _answer(503, "try again")
        return _answer(200, "heard")

    async def healthy(_: Request) -> JSONResponse:
        return _answer(200, "listening")

    return Starlette(routes=[Route("/portone", portone, methods=["POST"]), Route("/healthy", healthy)])


def networks(text: str) -> list[Network]:
    """Addresses and networks, with commas between them; ValueError for what is none."""
    return [ipaddress.ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip()]


async def _body(request: Request) -> bytes | None:
    """The body, or None when it is too long to be read to its end."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > LONGEST_BODY:
            return None
    return body


def _merchant_uid(content_type: str, body: bytes) -> str | None:
    """What the notice is about, if it has the shape of one; nothing else of it is looked at."""
    try:
        text = body.decode()
        if "form" in content_type:
            fields: object = {name: words[0] for name, words in parse_qs(text).items()}
        else:
            fields = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    imp_uid, merchant_uid = fields.get("imp_uid"), fields.get("merchant_uid")
    if not (isinstance(imp_uid, str) and isinstance(merchant_uid, str)):
        return None
    return merchant_uid if _IMP_UID.fullmatch(imp_uid) and _MERCHANT_UID.fullmatch(merchant_uid) else None


def _answer(status: int, words: str) -> JSONResponse:
    return JSONResponse({"message": words}, status_code=status)
