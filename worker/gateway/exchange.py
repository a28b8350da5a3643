"""One HTTP request on one connection of httpx: it waits for its send slot, and its failures are told by phase.

httpx and httpcore call the request extension `trace` at each step. At SEND the connection is open and no byte of
the request is written: the exchange waits there until its slot begins. Every failure before that is NotSent, every
failure after it Unknown. The names of the steps belong to the pinned release of httpcore; tests compare them.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, cast

import httpcore
import httpx

from schedules.charging.outcomes import NotSent, Unknown
from worker.clock import elapsed
from worker.gateway.port import CONNECTION_TIMEOUT, NO_CONNECTION, Missed, Slot
from worker.gateway.timeouts import Timeouts
from worker.runtime import event_loop

log = logging.getLogger("again.http")
# At DEBUG httpcore logs the headers of answers, which may repeat what was sent. `logging.config.dictConfig` may
# enable these loggers again and change their level; it keeps the filter.
for _name in ("httpcore.connection", "httpcore.http11", "httpcore.proxy"):
    logging.getLogger(_name).disabled = True
    logging.getLogger(_name).setLevel(logging.WARNING)
    logging.getLogger(_name).addFilter(lambda _: False)

CONNECTED = ("connection.connect_tcp.complete", "connection.start_tls.complete", "proxy.start_tls.complete")
SEND = "http11.send_request_headers.started"
HEADERS_SENT = "http11.send_request_headers.complete"
SEND_BODY = "http11.send_request_body.started"
BODY_SENT = "http11.send_request_body.complete"
BODY_LIMIT = 8 * 2**20  # bytes; the longest list has 1000 payments of about 2 kB
# Below the 5 s after which common servers (Node, Apache, uvicorn) close an idle connection. A request on one
# that the server has just closed is Unknown, and a POST is never repeated for it; so such are not kept.
KEEPALIVE_EXPIRY = 4.0
# Bytes with the headers and chunk sizes. httpcore reads 64 KiB at a time, and of a longer answer the network
# stream may hold a rest that cannot be seen; its connection is closed.
KEPT_AFTER = 32 * 2**10
FRAMING = 8  # bytes around a header or a part of the body
BODY_WITHIN = 1.0  # seconds after the end of the slot, until which the body may follow the headers
MOST_LOST = 5  # connections that the server closes before a request is sent, until the request is given up
PROBE = 0.001  # seconds
PROXY = "the proxy of AGAIN_PROXY_URL"
NOT_TRUSTED = "a certificate is not trusted ({}); AGAIN_TLS_CA adds authorities to the public ones"
NOT_TAKEN = "the server does not accept our certificate ({}); see AGAIN_TLS_CLIENT_CERT"


@dataclass(frozen=True, slots=True)
class Reply:
    """One whole HTTP answer."""

    status: int
    body: bytes = field(repr=False)


Origin = tuple[str, str, int | None]  # scheme, host, port
Came = Reply | NotSent | Unknown | Missed
# What httpx, anyio and the name look-up raise; RuntimeError is a look-up while the interpreter ends.
FAILURES = (httpx.HTTPError, httpx.StreamError, TimeoutError, OSError, ssl.SSLError, UnicodeError, RuntimeError)


class _MissedSlot(Exception):
    """Nothing was sent in any slot, and the connection is not kept for another one."""


class _LostConnection(Exception):
    """The server closed the connection, or sent something, before the request was sent."""


class _TooLate(Exception):
    """The process was suspended between the headers and the body of a request."""


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request; its repr shows neither headers nor body."""

    method: str
    url: str
    headers: dict[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(slots=True, eq=False)
class Connection:
    """A transport of httpx that holds one connection at most, for one exchange at a time."""

    origin: Origin
    transport: httpx.AsyncBaseTransport
    by_proxy: bool = False
    by_tls_proxy: bool = False  # TLS inside TLS
    stream: httpcore.AsyncNetworkStream | None = None
    tls: ssl.SSLObject | None = None  # of the stream; anyio collects all attributes of a socket to return one
    has_answered: bool = False  # the connection that is open now
    idle_since: float = 0.0  # by `elapsed`

    def opened(self, stream: httpcore.AsyncNetworkStream) -> None:
        """Note a new connection."""
        self.stream, self.tls, self.has_answered = stream, stream.get_extra_info("ssl_object"), False

    async def close(self) -> None:
        """Close it at once; httpcore does not close what was cancelled during the handshake of TLS."""
        await self.transport.aclose()
        if self.stream is not None:
            await self.stream.aclose()

    def is_readable(self) -> bool:
        """Whether the server has closed the connection or sent unrequested bytes.

        False for a new connection over TLS: its session tickets are readable too.
        """
        if self.stream is None or not (self.has_answered or self.tls is None):
            return False
        return bool(self.stream.get_extra_info("is_readable"))

    def has_unread_bytes(self) -> bool:
        """Whether bytes follow an answer; they would be read as the beginning of the next one.

        httpx shows them nowhere, so this looks at httpcore's parser. Without one, every connection is closed.
        """
        pool = getattr(self.transport, "_pool", None)
        inner: Any = next(iter(pool.connections), None) if pool is not None else None
        while inner is not None and not hasattr(inner, "_h11_state"):
            inner = getattr(inner, "_connection", None)
        return inner is None or bool(inner._h11_state.trailing_data[0]) or self._has_unread_records()

    def _has_unread_records(self) -> bool:
        if self.tls is None:
            return False
        try:
            self.tls.read(1)
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError:
            return True
        return True


class Exchange:
    """A request from its beginning to its answer. Lives on the event loop.

    One that missed its slot keeps its open connection for KEEPALIVE_EXPIRY, and is sent in another slot by `send`.
    """

    def __init__(
        self, call: Call, request: httpx.Request, connection: Connection, timeouts: Timeouts,
        may_send: Callable[[], bool],
    ) -> None:  # fmt: skip
        self.call = call
        self.connection = connection
        self.is_sent = False
        self.parks = True  # whether it waits for another slot after one that it missed
        self.came: Came | None = None  # once the exchange is over
        self._timeouts = timeouts
        self._may_send = may_send
        self._request = request
        self._request.extensions = {
            "trace": self._trace,
            "timeout": {"connect": None, "read": timeouts.read, "write": timeouts.write, "pool": None},
        }
        self._until = 0.0
        self._slot = Slot(0.0, 0.0)
        self._task: asyncio.Task[Came] | None = None
        self._told: asyncio.Future[Came] | None = None
        self._again: asyncio.Future[None] | None = None
        self._limit = asyncio.timeout(None)
        self._has_connected = self._wrote_headers = False
        self._length = 0  # of the answer
        self._lost_by: BaseException | None = None

    @property
    def is_parked(self) -> bool:
        """Whether it waits with an open connection for another slot."""
        return self._again is not None and not self._again.done()

    def when_over(self, call: Callable[[], None]) -> None:
        """Call this when the exchange has ended."""
        if self._task is not None:
            self._task.add_done_callback(lambda _: call())

    async def send(self, until: float, slot: Slot) -> Came:
        """Send the request within its slot, once, and read all of the answer; over at `until`, by `elapsed`."""
        loop = asyncio.get_running_loop()
        self._until, self._slot = until, slot
        self._told = loop.create_future()
        if self._task is None:
            self._task = loop.create_task(self._carry())
            self._task.add_done_callback(self._carried)
        elif self._again is not None:
            self._again.set_result(None)
        return await self._told

    async def _carry(self) -> Came:
        for _ in range(MOST_LOST):
            try:
                # All of the connecting: the name, the addresses, the proxy, TLS.
                patience = min(self._timeouts.connect, self._until - elapsed())
                async with asyncio.timeout(patience) as self._limit:
                    response = await self.connection.transport.handle_async_request(self._request)
                    return await self._read(response)
            except _LostConnection:
                continue
            except _MissedSlot:
                return Missed()
            except _TooLate:
                return Unknown("the process was suspended while it sent the request")
            except FAILURES as error:
                return self._failure(error)
        return NotSent(NO_CONNECTION + _tls_trouble(self._lost_by))

    def _carried(self, task: asyncio.Task[Came]) -> None:
        if task.cancelled():
            self.came = Unknown("cancelled") if self.is_sent else Missed()
        elif (fault := task.exception()) is not None:
            log.error("an HTTP call failed for a fault of ours: %s", event_loop.where(fault))
            self.came = Unknown("a fault of ours") if self.is_sent else NotSent(type(fault).__name__)
        else:
            self.came = task.result()
        self._tell(self.came)

    def _tell(self, came: Came) -> None:
        log.debug("%s: %s", self.call.method, came)  # without the address: a receiver's is a secret
        if self._told is not None and not self._told.done():
            self._told.set_result(came)

    async def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Follow the steps of the request; those of a proxy's CONNECT come before `is_sent`."""
        if self.is_sent:
            if event == HEADERS_SENT:
                self._wrote_headers = True
            elif event == SEND_BODY and elapsed() > min(self._until, self._slot.latest + BODY_WITHIN):
                raise _TooLate
            elif event == BODY_SENT:
                self._slot.left(elapsed())
        elif event in CONNECTED:
            self._has_connected = True
            self.connection.opened(info["return_value"])
        elif event == SEND and info["request"].method != b"CONNECT":
            await self._wait_for_slot()

    async def _wait_for_slot(self) -> None:
        """Return when the request may be sent.

        Nothing comes between the last look at the clock and the first byte: the network stream of the pinned
        anyio writes before it lets the event loop run.
        """
        self._limit.reschedule(None)
        loop = asyncio.get_running_loop()
        while True:
            await self._stay_connected()
            latest, until = min(self._slot.latest, self._until), self._until
            self._limit.reschedule(loop.time() + until - elapsed())
            if elapsed() <= latest and self._may_send():
                self.is_sent = True
                return
            self._limit.reschedule(None)
            await self._take_another_slot()

    async def _stay_connected(self) -> None:
        """Wait for the slot; if the server sends bytes or closes meanwhile, the connection is lost."""
        stream = self.connection.stream
        probed = self._again is None or self.connection.has_answered or self.connection.tls is None
        while (early := self._slot.earliest - elapsed()) > 0 or not probed:
            if stream is None:
                await asyncio.sleep(early)
                continue
            try:
                await stream.read(1, timeout=max(early, PROBE))
            except httpcore.ReadTimeout:
                probed = True
            except (httpcore.NetworkError, ssl.SSLError) as error:
                self._lost_by = error
                raise _LostConnection from None
            else:
                raise _LostConnection
        if self.connection.is_readable():
            raise _LostConnection

    async def _take_another_slot(self) -> None:
        """Tell that the slot was missed, and keep the connection open for another one of the same call."""
        if not (self.parks and self._may_send()):
            raise _MissedSlot
        since = elapsed()
        self._again = asyncio.get_running_loop().create_future()
        self._tell(Missed())
        try:
            await asyncio.wait_for(self._again, KEEPALIVE_EXPIRY)
        except TimeoutError:
            raise _MissedSlot from None
        if elapsed() - since >= KEEPALIVE_EXPIRY:  # the machine was suspended, which the loop's clock leaves out
            raise _LostConnection

    async def _read(self, response: httpx.Response) -> Came:
        body = bytearray()
        self._length = sum(len(name) + len(text) + FRAMING for name, text in response.headers.raw)
        async for chunk in cast("httpx.AsyncByteStream", response.stream):
            body += chunk
            self._length += len(chunk) + FRAMING
            if len(body) > BODY_LIMIT:
                await response.aclose()
                return Unknown(f"HTTP {response.status_code} with more than {BODY_LIMIT} bytes")
        await response.aclose()
        self.connection.has_answered = True
        return Reply(response.status_code, bytes(body))

    @property
    def leaves_it_clean(self) -> bool:
        """Whether the connection may carry another exchange after this one."""
        if not isinstance(self.came, Reply) or self.came.status == HTTPStatus.REQUEST_TIMEOUT:
            return False  # a 408 may be about the time before the request, whose own answer then follows
        is_short = self._length <= KEPT_AFTER
        # Behind a proxy that speaks TLS, a surplus answer may wait in the outer layer, where nothing shows it.
        return is_short and not self.connection.by_tls_proxy and not self.connection.has_unread_bytes()

    def cancel(self) -> None:
        """Cancel an exchange that waits for another slot."""
        if self._task is not None:
            self._task.cancel()

    def _failure(self, error: Exception) -> NotSent | Unknown:
        """Return the outcome of a failure by its phase and its type; its text may hold a secret."""
        name = "ReadError" if isinstance(error, ssl.SSLError) else type(error).__name__
        is_time_out = isinstance(error, TimeoutError)
        if isinstance(error, httpx.LocalProtocolError) and not self._wrote_headers:
            return NotSent(name)  # it is no HTTP
        if self.is_sent:
            return Unknown("ReadTimeout" if is_time_out else name + _tls_trouble(error))
        if self.connection.by_proxy and (told := self._proxy_failure(error)) is not None:
            return NotSent(f"{NO_CONNECTION}: {told}")
        if is_time_out or isinstance(error, httpx.TimeoutException):
            return NotSent(CONNECTION_TIMEOUT)
        if isinstance(error, RuntimeError):
            return NotSent(name)
        return NotSent(NO_CONNECTION + _tls_trouble(error))

    def _proxy_failure(self, error: Exception) -> str | None:
        if isinstance(error, httpx.ProxyError):
            return f"{PROXY} refused with HTTP {str(error)[:3]}"
        if not self._has_connected:
            return f"{PROXY} cannot be reached"
        if isinstance(error, httpx.RemoteProtocolError | httpx.ReadError):
            return f"{PROXY} did not answer in HTTP"
        if isinstance(error, TimeoutError | httpx.TimeoutException):
            return f"{PROXY}, or the gateway behind it, did not answer in time"
        return None


def _tls_trouble(error: BaseException | None) -> str:
    """Describe a failure of TLS and the setting for it; empty when it is no failure of TLS."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    reason = error.reason if error is not None and isinstance(error.reason, str) else ""
    if isinstance(error, ssl.SSLCertVerificationError):
        return ": " + NOT_TRUSTED.format(error.reason)
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        return ": " + NOT_TAKEN.format(reason)
    return ""
