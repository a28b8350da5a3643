"""Answers of the gateway, and how faults change them."""

import asyncio
import json
import socket
import struct
from asyncio import Transport
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from simulator.faults import Fault, Rule

# Open connections by client address; a fault can reset one.
open_connections: dict[tuple[str, int], Transport] = {}
HTML = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center></body></html>"


class JsonAnswer(Response):
    """JSON as PortOne writes it: fields in a fixed order, non-ASCII characters escaped."""

    media_type = "application/json"

    def __init__(self, document: object, status: int = 200) -> None:
        super().__init__(json.dumps(document, sort_keys=True), status)
        self.had_a_reader = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, and record whether the client was connected at that time.

        Later is too late to check: HTTP/1.0 and `Connection: close` close the connection with the answer.
        """
        self.had_a_reader = is_connected(scope.get("client"))
        await super().__call__(scope, receive, send)


class NoAnswer(Response):
    """Sends nothing for some seconds, or until the client disconnects, and then resets the connection."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait, and reset the connection."""
        if self._seconds:
            with suppress(TimeoutError):
                await asyncio.wait_for(_disconnected(receive), self._seconds)
        await _cut(scope, receive)
        if self.background is not None:
            await self.background()


class CutAnswer(Response):
    """Sends less than its Content-Length, and resets the connection."""

    media_type = "application/json"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the head and half of the body, then reset the connection."""
        start: Message = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        await send(start)
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
        await asyncio.sleep(0.05)  # a reset discards data that the client has not read
        await _cut(scope, receive)
        if self.background is not None:
            await self.background()


def envelope(response: object, status: int = 200) -> JsonAnswer:
    """The answer to a request that was carried out: code 0 and a response."""
    return JsonAnswer({"code": 0, "message": None, "response": response}, status)


def refusal(code: int, message: str, status: int = 200) -> JsonAnswer:
    """The answer to a request that was refused: a code other than 0 and a message."""
    return JsonAnswer({"code": code, "message": message, "response": None}, status)


async def refused(request: Request, error: Exception) -> JsonAnswer:
    """The JSON answer for an unknown path or method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(getattr(error, "headers", None) or {})  # for example `Allow`
    if request.url.path.startswith("/_simulator"):
        answer = JsonAnswer({"error": f"{request.method} {request.url.path}: {HTTPStatus(status).phrase}"}, status)
    else:
        answer = refusal(-1, HTTPStatus(status).phrase, status)
    answer.headers.update(headers)
    return answer


async def failed(request: Request, error: Exception) -> JsonAnswer:
    """The answer for an error of the simulator; its traceback is written to standard error."""
    return await refused(request, error)


class PathAsSent:
    """Middleware: routes match the path before percent-decoding, so that an id may contain an encoded slash."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Replace the path, and call the application."""
        if scope["type"] == "http" and scope.get("raw_path"):
            scope["path"] = scope["raw_path"].decode("latin-1")
        await self._app(scope, receive, send)


def is_connected(client: Any) -> bool:
    """Whether the client is still connected."""
    transport = open_connections.get(tuple(client)) if client else None
    return transport is not None and not transport.is_closing()


def spoiled_before(rule: Rule) -> Response | None:
    """The answer of a fault that hits before the call is carried out; None for other faults."""
    match rule.fault:
        case Fault.TIMEOUT_BEFORE:
            return NoAnswer(rule.seconds)
        case Fault.RESET_BEFORE:
            return NoAnswer()
        case Fault.HTTP_500_BEFORE:
            return _html(500, "500 Internal Server Error")
        case Fault.HTTP_502_BEFORE:
            return _html(502, "502 Bad Gateway")
        case Fault.HTTP_429:
            return refusal(-1, "Too Many Requests", 429)
        case Fault.TOKEN_EXPIRED:
            return refusal(-1, "Unauthorized", 401)
        case _:
            return None


def spoiled_after(rule: Rule, answer: Response) -> tuple[Response, bool]:
    """The answer after a fault, and whether it still reports the true result."""
    match rule.fault:
        case Fault.TIMEOUT_AFTER:
            return NoAnswer(rule.seconds), False
        case Fault.RESET_AFTER:
            return NoAnswer(), False
        case Fault.RESET_IN_BODY:
            return CutAnswer(answer.body, answer.status_code), False
        case Fault.HTTP_500_AFTER:
            return _html(500, "500 Internal Server Error"), False
        case Fault.HTTP_502_AFTER:
            return _html(502, "502 Bad Gateway"), False
        case Fault.GARBAGE:
            return Response(b"\x00\xff<<not json>>", 200, media_type="application/json"), False
        case Fault.TRUNCATED:
            return Response(bytes(answer.body)[: len(answer.body) // 2], 200, media_type="application/json"), False
        case Fault.WRONG_AMOUNT:
            return answer, False
        case _:
            return answer, True


def _html(status: int, title: str) -> Response:
    return Response(HTML.format(title), status, media_type="text/html")


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cut(scope: Scope, receive: Receive) -> None:
    """Reset the connection of a client, and wait for its end."""
    client = scope["client"]
    transport = open_connections.get(tuple(client)) if client else None
    if transport is not None and not transport.is_closing():
        connection = transport.get_extra_info("socket")
        if connection is not None:
            # SO_LINGER with 0 seconds: close() sends a reset.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    await _disconnected(receive)
