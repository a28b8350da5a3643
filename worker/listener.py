"""The listener: hears PortOne's webhooks, which nobody signs, and believes none; each is only a reason to look."""

import asyncio
import ipaddress
import json
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import parse_qs

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from worker.clock import elapsed
from worker.runtime import alive
from worker.runtime.background import Part, Pool

log = logging.getLogger("again.listener")
LONGEST_BODY = 64 * 1024  # bytes; PortOne's are under a kilobyte
LONGEST_HEADERS = 16 * 1024  # bytes
MOST_CONNECTIONS = 200  # at once; further ones get 503
HEADERS_WITHIN = 10.0  # seconds from the connection, or the answer before, until a request's headers are complete
BODY_WITHIN = 10.0  # seconds for a body
TOGETHER = 2.0  # seconds; notices of one payment that come within them are handed on as one
THREADS = 16  # that hand notices on: each waits for the broker, for seconds where that is away
MOST_REMEMBERED = 10_000  # payments whose last notice is remembered
_IMP_UID = re.compile(r"imps?_[0-9A-Za-z_]{1,40}")
_MERCHANT_UID = re.compile(r"[^\x00-\x1f\x7f]{1,40}")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Hand = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Door:
    """Who is let in, and how a notice is handed on."""

    allowed: Sequence[Network]
    proxies: Sequence[Network]  # whose X-Forwarded-For is believed
    hand_on: Hand  # takes the merchant_uid; raises ConnectionError when the broker does not take it

    def lets_in(self, request: Request) -> bool:
        """Whether the sender is one that we listen to.

        The sender is the connected address or, when that is a proxy of ours, the last address of X-Forwarded-For
        that is not one. Whatever stands before it was written by the sender himself.
        """
        written = ",".join(request.headers.getlist("x-forwarded-for"))
        hops = [*written.split(","), request.client.host if request.client else ""]
        for hop in reversed(hops):
            address = _address(hop)
            if address is None:
                return False
            if not _is_in(address, self.proxies):
                return _is_in(address, self.allowed)
        return False


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped


def _is_in(address: ipaddress.IPv4Address | ipaddress.IPv6Address, allowed: Sequence[Network]) -> bool:
    return any(address in network for network in allowed)


class Notices:
    """Hands notices on: the first of a payment at once, those that follow within a short time as one."""

    def __init__(self, hand_on: Hand) -> None:
        self._hand_on = hand_on
        self._threads = Pool(Part.NOTICES, THREADS)
        self._handed_at: dict[str, float] = {}  # by merchant_uid, oldest first
        self._waiting: dict[str, asyncio.Task[None]] = {}

    async def hear(self, merchant_uid: str) -> None:
        """Return when a look that begins after this notice is queued; ConnectionError when it cannot be."""
        waiting = self._waiting.get(merchant_uid)
        if waiting is None:
            wait = self._handed_at.get(merchant_uid, -TOGETHER) + TOGETHER - elapsed()
            waiting = asyncio.create_task(self._later(merchant_uid, max(0.0, wait)))
            self._waiting[merchant_uid] = waiting
        await asyncio.shield(waiting)  # one caller that goes away takes nothing from the others

    async def _later(self, merchant_uid: str, seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
        finally:
            del self._waiting[merchant_uid]  # what comes from now on is not covered by this look
        self._handed_at.pop(merchant_uid, None)
        self._handed_at[merchant_uid] = elapsed()
        while len(self._handed_at) > MOST_REMEMBERED:
            del self._handed_at[next(iter(self._handed_at))]
        await asyncio.wrap_future(self._threads.submit(partial(self._hand_on, merchant_uid)))


def application(door: Door) -> Starlette:
    """The ASGI application: `POST /portone` and `GET /healthy`."""
    notices = Notices(door.hand_on)

    async def portone(request: Request) -> JSONResponse:
        if not door.lets_in(request):
            return _answer(403, "this address is not listened to; see AGAIN_LISTENER_ALLOW")
        try:
            async with asyncio.timeout(BODY_WITHIN):
                body = await _body(request)
        except TimeoutError:
            return _answer(408, f"the body was not complete within {BODY_WITHIN:g} seconds")
        if body is None:
            return _answer(413, f"more than {LONGEST_BODY} bytes")
        merchant_uid = _merchant_uid(request.headers.get("content-type", ""), body)
        if merchant_uid is None:
            return _answer(400, "no imp_uid and merchant_uid in it, as JSON or as a form")
        try:
            await notices.hear(merchant_uid)
        except ConnectionError as error:
            log.error("a notice was not handed on: %s", error)
            return _answer(503, "try again")
        return _answer(200, "heard")

    async def healthy(_: Request) -> JSONResponse:
        return _answer(200, "listening")

    return Starlette(routes=[Route("/portone", portone, methods=["POST"]), Route("/healthy", healthy)])


class TimedProtocol(H11Protocol):
    """HTTP/1.1 that closes a connection whose request does not begin in time: uvicorn waits for it without end."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Start the time for the first request."""
        super().connection_made(transport)
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop it."""
        self._cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Start the time for the next request on this connection."""
        self._wait_for_headers()
        super().on_response_complete()

    def _wait_for_headers(self) -> None:
        self._cancel()
        self._deadline = self.loop.call_later(HEADERS_WITHIN, self._close_if_slow, self.cycle)

    def _close_if_slow(self, before: Any) -> None:
        if self.cycle is before and not self.transport.is_closing():
            self.transport.abort()

    def _cancel(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class Server(uvicorn.Server):
    """uvicorn's server, whose main loop notes each of its rounds."""

    async def on_tick(self, counter: int) -> bool:
        """Do what uvicorn does in each round, several times a second."""
        alive.round_begins()
        return await super().on_tick(counter)


def server(door: Door, host: str, port: int) -> Server:
    """The HTTP server, with its bounds."""
    return Server(uvicorn.Config(
        application(door), host=host, port=port, log_config=None, access_log=False, http=TimedProtocol, ws="none",
        # Its own reading of X-Forwarded-For would let any peer name itself.
        proxy_headers=False,
        limit_concurrency=MOST_CONNECTIONS, h11_max_incomplete_event_size=LONGEST_HEADERS,
    ))  # fmt: skip


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
