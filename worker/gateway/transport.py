"""The lines to the gateway: a kept connection for each call under way, and a deadline that nothing outlasts.

One thread of a process (asyncio's) sends all calls and waits for all answers: a thread for each spends more on
being woken than the call itself costs. HTTP is spoken by h11, httpx's own engine. A client around it would do for
each call what none of ours needs, and could neither keep to a slot nor say in which phase a call failed.
"""

import asyncio
import logging
import math
import os
import select
import ssl
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, cast
from urllib.parse import urlsplit

import h11
import httpx

from schedules.charging.outcomes import NotSent, Unknown
from worker.clock import elapsed
from worker.gateway.envelopes import Reply
from worker.gateway.port import AT_ONCE, CONNECTION_TIMEOUT, NO_CONNECTION, Missed, Slot
from worker.gateway.settings import Timeouts
from worker.runtime import background
from worker.runtime.background import Part

log = logging.getLogger("again.lines")
# Below the 5 s after which common servers (Node, Apache, uvicorn) close an idle connection. A request on one
# that the server has just closed is Unknown, and a POST is never repeated for it; so such are not kept.
KEEPALIVE_EXPIRY = 4.0
BODY_LIMIT = 8 * 2**20  # bytes; the longest list has 1000 payments of about 2 kB
HEAD_LIMIT = 100 * 2**10  # bytes of an answer's headers
SECOND_ADDRESS = 0.25  # seconds until the next address of a name is tried beside the first
WORD_COMES = 5.0  # seconds after a call's end within which it is told, on a machine that is held up

Origin = tuple[str, int, bool]  # host, port, and whether TLS is spoken
Came = Reply | NotSent | Unknown | Missed
Then = Callable[[Came], None]


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request; its repr shows neither headers nor body."""

    method: str
    url: str
    headers: dict[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(slots=True, eq=False)
class _UnderWay:
    """A call from its beginning to its answer."""

    call: Call
    until: float  # when it is over, by `elapsed`
    slot: Slot
    then: Then = field(repr=False)
    heard_at: float = 0.0  # when the last byte of the answer came, or the request left
    status: int = 0
    body: bytearray = field(default_factory=bytearray, repr=False)


class Lines:
    """As many lines as there have been calls at once; a call takes one and puts it back. For any thread to use."""

    def __init__(
        self, timeouts: Timeouts, trust: ssl.SSLContext | None = None, may_send: Callable[[], bool] = lambda: True
    ) -> None:
        """`trust` says whose certificates are believed; without it, those of certifi's list.

        `may_send` is asked just before each request leaves.
        """
        self._timeouts = timeouts
        self._may_send = may_send
        self._ssl_context = trust or httpx.create_ssl_context(trust_env=False)  # takes 20 ms, so one for all
        self._idle: defaultdict[Origin, deque[_Line]] = defaultdict(deque)
        self._connecting: set[asyncio.Task[None]] = set()
        self._closed = False

    def send(self, call: Call, until: float, latest: float = math.inf) -> Reply | NotSent | Unknown:
        """Send once, and wait for all of the answer; over at `until`, and not sent after `latest`, by `elapsed`.

        What goes wrong is told by its phase and its name alone.
        """
        came: list[Came] = []
        over = threading.Lock()  # the lightest thing that a thread can wait for
        over.acquire()

        def told(answer: Came) -> None:
            came.append(answer)
            over.release()

        self.begin(call, until, Slot(AT_ONCE.earliest, latest), told)
        if not over.acquire(timeout=max(0.0, until - elapsed()) + WORD_COMES):
            return Unknown("the lines say nothing")
        answer = came[0]
        if not isinstance(answer, Missed):
            return answer
        too_late = "too little time left to wait for an answer"
        return NotSent(too_late if self._may_send() else "this process is stopping")

    def begin(self, call: Call, until: float, slot: Slot, then: Then) -> None:
        """As `send`, within a slot and without waiting: `then` is told on the lines' own thread, and is quick."""
        under_way = _UnderWay(call, until, slot, then)
        _the_loop().call_soon_threadsafe(self._take_line, under_way)

    def close(self) -> None:
        """Close all lines; one in use is closed when its call is over."""
        self._closed = True
        _the_loop().call_soon_threadsafe(self._close_idle)

    def _close_idle(self) -> None:
        for lines in self._idle.values():
            while lines:
                lines.pop().close()

    def _take_line(self, under_way: _UnderWay) -> None:
        """Give a call a line that is open; else one is opened for it."""
        try:
            origin = _parts_of(under_way.call.url).origin
        except ValueError:
            _tell(under_way, NotSent("the address cannot be one"))
            return
        lines = self._idle[origin]
        fresh = elapsed() - KEEPALIVE_EXPIRY
        while lines and lines[0].idle_since < fresh:
            lines.popleft().close()
        while lines:
            line = lines.pop()  # the one used last, whose connection is the likeliest to be alive
            if line.is_open:
                line.take(under_way)
                return
        connecting = asyncio.get_running_loop().create_task(self._connect(origin, under_way))
        self._connecting.add(connecting)  # else nobody holds it
        connecting.add_done_callback(self._connecting.discard)

    async def _connect(self, origin: Origin, under_way: _UnderWay) -> None:
        """Open a line: nothing of the request is sent before it stands, TLS included."""
        host, port, tls = origin
        patience = min(self._timeouts.connect, under_way.until - elapsed())
        tls_options: dict[str, Any] = {"ssl": self._ssl_context, "server_hostname": host} if tls else {}
        try:
            # Looking the name up, and a second address, are within the patience.
            async with asyncio.timeout(patience):
                _, line = await asyncio.get_running_loop().create_connection(
                    lambda: _Line(
                        self._timeouts, lambda line: self._put_back(origin, line), self._take_line, self._may_send
                    ),
                    host, port, happy_eyeballs_delay=SECOND_ADDRESS, **tls_options,
                )  # fmt: skip
        except TimeoutError:
            _tell(under_way, NotSent(CONNECTION_TIMEOUT))
        except (OSError, UnicodeError):  # the second is a name that cannot be one
            _tell(under_way, NotSent(NO_CONNECTION))
        except Exception as error:  # noqa: BLE001 # a process that ends looks no name up; nothing was sent
            _tell(under_way, NotSent(type(error).__name__))
        else:
            if line.is_open:
                line.take(under_way)
            else:
                _tell(under_way, NotSent(NO_CONNECTION))

    def _put_back(self, origin: Origin, line: "_Line") -> None:
        """Keep a line for the next call, or forget it where it is of no use for one."""
        if line.is_open and not self._closed:
            line.idle_since = elapsed()
            self._idle[origin].append(line)
            return
        line.close()
        if line in self._idle[origin]:
            self._idle[origin].remove(line)


class _Line(asyncio.Protocol):
    """One connection, which carries one call at a time."""

    def __init__(
        self, timeouts: Timeouts, put_back: Callable[["_Line"], None], begin_anew: Callable[[_UnderWay], None],
        may_send: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._timeouts = timeouts
        self._may_send = may_send
        self._put_back = put_back
        self._begin_anew = begin_anew
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_LIMIT)
        self._waiting: _UnderWay | None = None  # for its slot
        self._sent: _UnderWay | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._looks_at = 0.0  # when the watch looks next, by `elapsed`
        self._poll = select.poll()
        self.idle_since = 0.0  # by `elapsed`; 0 before its first call

    @property
    def is_open(self) -> bool:
        """Whether another call may go over it."""
        return not self._transport.is_closing() and self._http.our_state is self._http.their_state is h11.IDLE

    def close(self) -> None:
        """Let go of it at once: TLS would wait for the other side's last word, and send what is unwritten."""
        self._transport.abort()

    def take(self, under_way: _UnderWay) -> None:
        """Carry a call, once its slot has come."""
        self._waiting = under_way
        early = under_way.slot.earliest - elapsed()
        if early > 0:
            asyncio.get_running_loop().call_later(early, self._leave, under_way)
        else:
            self._leave(under_way)

    def _leave(self, under_way: _UnderWay) -> None:
        if self._waiting is not under_way or self._transport.is_closing():
            return  # the connection is lost, or will be in a moment, and the call begins anew
        if self.idle_since and self._poll.poll(0):
            # The server has closed it, and asyncio has not come to see that: what is sent now would be Unknown.
            self.close()
            return
        self._waiting = None
        latest = min(under_way.slot.latest, under_way.until)
        try:
            request = self._written(under_way.call) if elapsed() <= latest else b""
        except Exception as error:  # noqa: BLE001 # it is no HTTP, for whatever reason; nothing was sent
            self._end(under_way, NotSent(type(error).__name__))
            return
        # Nothing comes between this look at the clock and the first byte: a process that slept sends nothing.
        if elapsed() > latest or not self._may_send():
            self._end(under_way, Missed())
            return
        self._sent = under_way
        self._transport.write(request)
        under_way.heard_at = elapsed()
        self._look_at_time()
        under_way.slot.left(under_way.heard_at)

    def _written(self, call: Call) -> bytes:
        """The request's bytes; LocalProtocolError or UnicodeError where they would be no HTTP."""
        parts = _parts_of(call.url)
        headers = [("Host", parts.host), *call.headers.items()]
        if call.body is not None:
            headers.append(("Content-Length", str(len(call.body))))
        written = self._http.send(h11.Request(method=call.method, target=parts.target, headers=headers)) or b""
        if call.body:
            written += self._http.send(h11.Data(data=call.body)) or b""
        self._http.send(h11.EndOfMessage())
        return written

    def _look_at_time(self) -> None:
        """End a call whose time is over, and look again when that may be next."""
        under_way, now = self._sent, elapsed()
        if under_way is None:
            return  # the watch stays: it may serve the next call
        # A server that sends a byte, or a 102, now and then would hold a call for ever but for the second.
        unwritten = self._transport.get_write_buffer_size() > 0
        patience = self._timeouts.write if unwritten else self._timeouts.read
        over_at = min(under_way.heard_at + patience, under_way.until)
        if now >= over_at:
            self._end(under_way, Unknown("WriteTimeout" if unwritten else "ReadTimeout"))
        elif self._watch is None or over_at < self._looks_at:
            if self._watch is not None:
                self._watch.cancel()
            self._watch = asyncio.get_running_loop().call_later(over_at - now, self._look_again)
            self._looks_at = over_at

    def _look_again(self) -> None:
        self._watch = None
        self._look_at_time()

    def _end(self, under_way: _UnderWay, came: Came) -> None:
        """Tell what came of a call; the line goes on where its connection stands as before it."""
        self._sent = None
        whole = isinstance(came, Reply) and self._http.our_state is self._http.their_state is h11.DONE
        if whole and not self._http.trailing_data[0]:  # what comes after an answer would be taken for the next one
            self._http.start_next_cycle()
        self._put_back(self)
        _tell(under_way, came)

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands."""
        self._transport = cast("asyncio.Transport", transport)
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self._sent is None:  # an answer that nobody has asked for
            self.close()
            return
        self._sent.heard_at = elapsed()
        self._read(self._sent, data)

    def eof_received(self) -> None:
        """The other side says no more: that may be how an answer ends."""
        if self._sent is not None:
            self._read(self._sent, b"")

    def connection_lost(self, error: Exception | None) -> None:
        """It is gone, whoever ended it."""
        waiting, sent = self._waiting, self._sent
        self._waiting = self._sent = None
        self._put_back(self)  # which takes it out
        if waiting is not None:
            self._begin_anew(waiting)  # nothing of it was sent
        if sent is not None:
            _tell(sent, Unknown("ReadError" if error is not None else "RemoteProtocolError"))

    def _read(self, under_way: _UnderWay, data: bytes) -> None:
        try:
            self._http.receive_data(data)
            while True:
                match self._http.next_event():
                    case h11.Response(status_code=status):
                        under_way.status = status
                    case h11.Data(data=chunk):
                        under_way.body += chunk
                        if len(under_way.body) > BODY_LIMIT:
                            words = f"HTTP {under_way.status} with more than {BODY_LIMIT} bytes"
                            self._end(under_way, Unknown(words))
                            return
                    case h11.EndOfMessage():
                        self._end(under_way, Reply(under_way.status, bytes(under_way.body)))
                        return
                    case h11.NEED_DATA:
                        return
                    case h11.InformationalResponse():
                        pass
                    case _:  # the connection was closed, or is to speak something else
                        self._end(under_way, Unknown("RemoteProtocolError"))
                        return
        except h11.RemoteProtocolError:
            self._end(under_way, Unknown("RemoteProtocolError"))


@dataclass(frozen=True, slots=True)
class _Parts:
    """An address, taken apart."""

    origin: Origin
    host: str  # as the header says it
    target: str  # path and query


@lru_cache(maxsize=256)
def _parts_of(url: str) -> _Parts:
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    port = parts.port or (443 if tls else 80)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return _Parts((parts.hostname or "", port, tls), parts.netloc.rpartition("@")[2], target)


def _tell(under_way: _UnderWay, came: Came) -> None:
    log.debug("%s: %s", under_way.call.method, came)  # not where to: a receiver's address is a secret
    try:
        under_way.then(came)
    except Exception:  # one thread tells everybody: those after it would wait for ever
        log.exception("what follows an answer failed")


_loops: list[asyncio.AbstractEventLoop] = []
_making = threading.Lock()
os.register_at_fork(after_in_child=_loops.clear)  # its thread is not there


def _the_loop() -> asyncio.AbstractEventLoop:
    """The lines' own loop, which runs on a thread of its own as long as the process does."""
    if not _loops:
        with _making:
            if not _loops:
                loop = asyncio.new_event_loop()
                loop.set_debug(False)  # whatever the environment says: it would log what is passed around
                loop.set_exception_handler(_unforeseen)
                background.start(Part.CONNECTIONS, partial(_run_for_ever, loop))
                _loops.append(loop)
    return _loops[0]


def _run_for_ever(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    raise RuntimeError("the event loop has stopped")


def _unforeseen(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log a fault of ours by its kind alone: what asyncio would tell of it may hold a request."""
    log.error("a line failed: %s", type(context.get("exception")).__name__)
