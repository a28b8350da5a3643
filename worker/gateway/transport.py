"""The line to the gateway: a kept connection for each call under way, and a deadline that nothing outlasts."""

import logging
import ssl
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import httpcore
import httpx

from schedules.outcomes import NotSent, Unknown
from worker.clock import elapsed
from worker.gateway.envelopes import Reply
from worker.gateway.settings import Timeouts

# Below the 5 s after which common servers (Node, Apache, uvicorn) close an idle connection. A request on one
# that the server has just closed is Unknown, and a POST is never repeated for it; so such are not kept.
KEEPALIVE_EXPIRY = 4.0
BODY_LIMIT = 8 * 2**20  # bytes; the longest list has 1000 payments of about 2 kB

# httpcore has no base class for its errors. These come before the first byte of the request is sent …
_NOT_SENT = (
    httpcore.ConnectError,
    httpcore.ConnectTimeout,
)
# … and after these some or all of it may have arrived.
_UNKNOWN = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError)


class _WithoutAnswers(logging.Filter):
    """Keeps answers out of httpcore's DEBUG lines, which hold their headers, and all of what breaks HTTP."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is logged."""
        return not str(record.msg).startswith("receive_response_headers.")


logging.getLogger("httpcore.http11").addFilter(_WithoutAnswers())


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request; its repr shows neither headers nor body."""

    method: str
    url: str
    headers: dict[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)


class Watch:
    """Tells how much of a call's time is left."""

    def __init__(self) -> None:
        self.until = 0.0

    def at_most(self, seconds: float | None, late: type[Exception]) -> float:
        """The seconds to wait, cut to what is left; raises `late` when nothing is."""
        left = self.until - elapsed()
        if left <= 0:
            raise late("the call's deadline has passed")
        return left if seconds is None else min(seconds, left)


class WatchedStream(httpcore.NetworkStream):
    """A connection on which every wait ends at the deadline.

    httpx's time-outs are for each read, so a server that sends a byte, or a 102, now and then would hold a
    call for ever.
    """

    def __init__(self, stream: httpcore.NetworkStream, watch: Watch) -> None:
        self._stream = stream
        self._watch = watch

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Wait for bytes."""
        return self._stream.read(max_bytes, self._watch.at_most(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send bytes."""
        self._stream.write(buffer, self._watch.at_most(timeout, httpcore.WriteTimeout))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Make it a TLS connection; the request has not been sent yet."""
        seconds = self._watch.at_most(timeout, httpcore.ConnectTimeout)
        return WatchedStream(self._stream.start_tls(ssl_context, server_hostname, seconds), self._watch)

    def close(self) -> None:
        """Let go of it."""
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        """What httpcore wants to know, such as whether the server has closed it."""
        return self._stream.get_extra_info(info)


class WatchedBackend(httpcore.SyncBackend):
    """Opens connections that end at the deadline."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect. Looking the name up, and a second address, take time that no time-out counts."""
        seconds = self._watch.at_most(timeout, httpcore.ConnectTimeout)
        stream = super().connect_tcp(host, port, seconds, local_address, socket_options)
        try:
            self._watch.at_most(None, httpcore.ConnectTimeout)
        except httpcore.ConnectTimeout:
            stream.close()
            raise
        return WatchedStream(stream, self._watch)


class Line:
    """A client of one connection: as fast as a client can be, for it is never shared.

    It is a connection of httpx's own engine, httpcore, without the pool and the client around it: no backend can
    be given to the client, and both do for each call what none of ours needs, such as waiting for a connection,
    cookies, redirects, authentication, a response to take apart.
    """

    def __init__(self, timeouts: Timeouts, ssl_context: ssl.SSLContext) -> None:
        self._watch = Watch()
        self._patience = {"connect": timeouts.connect, "read": timeouts.read, "write": timeouts.write}
        self._ssl_context = ssl_context
        self._kept: httpcore.HTTPConnection | None = None

    def send(self, call: Call, until: float) -> Reply | NotSent | Unknown:
        """Send once, and read all of the answer; what goes wrong is told by its phase and its name alone."""
        self._watch.until = until
        try:
            # The engine adds the host and the length, and refuses what is not HTTP.
            with self._connection(httpcore.URL(call.url).origin).stream(
                call.method,
                call.url,
                headers=[*call.headers.items()],
                content=call.body,
                extensions={"timeout": self._patience},
            ) as response:
                body = bytearray()
                for chunk in response.iter_stream():
                    body += chunk
                    if len(body) > BODY_LIMIT:
                        return Unknown(f"HTTP {response.status} with more than {BODY_LIMIT} bytes")
                return Reply(response.status, bytes(body))
        except _NOT_SENT as error:
            return NotSent(type(error).__name__)
        except _UNKNOWN as error:
            return Unknown(type(error).__name__)

    def _connection(self, origin: httpcore.Origin) -> httpcore.HTTPConnection:
        """The kept connection, or a new one where the server has closed it, or would soon."""
        kept = self._kept
        if kept is not None and kept.can_handle_request(origin) and kept.is_available() and not kept.has_expired():
            return kept
        self.close()
        self._kept = httpcore.HTTPConnection(
            origin,
            ssl_context=self._ssl_context,
            keepalive_expiry=KEEPALIVE_EXPIRY,
            retries=0,
            network_backend=WatchedBackend(self._watch),
        )
        return self._kept

    def close(self) -> None:
        """Close its connection."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None


class Lines:
    """As many lines as there have been calls at once; a call takes one and puts it back."""

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._ssl_context = httpx.create_ssl_context(trust_env=False)  # takes 20 ms to make, so one for all
        self._idle: deque[Line] = deque()
        self._closed = False

    def send(self, call: Call, until: float) -> Reply | NotSent | Unknown:
        """Send a call on a line of its own; it is over at `until`, by `worker.clock.elapsed`."""
        try:
            line = self._idle.pop()  # the one used last, whose connection is the likeliest to be alive
        except IndexError:
            line = Line(self._timeouts, self._ssl_context)
        try:
            return line.send(call, until)
        finally:
            self._idle.append(line)
            if self._closed:
                self.close()

    def close(self) -> None:
        """Close all lines; one in use is closed when its call is over."""
        self._closed = True
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:  # another thread closed the last one
                return
