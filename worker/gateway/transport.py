"""The HTTP client: httpx with one connection for each call under way, and a deadline for each call.

A pool that all calls share would look at each of its connections for each request, which takes milliseconds. So
each connection is a transport of its own, which a call takes and puts back. All of them live on one event loop.
"""

import asyncio
import logging
import math
import os
import ssl
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from functools import lru_cache, partial

import httpx

from schedules.charging.outcomes import NotSent, Unknown
from worker.certificates import CertificateFiles
from worker.clock import elapsed
from worker.gateway.exchange import BODY_LIMIT, KEEPALIVE_EXPIRY, Call, Came, Connection, Exchange, Origin, Reply
from worker.gateway.port import AT_ONCE, Missed, Slot
from worker.gateway.timeouts import Timeouts
from worker.runtime import event_loop

__all__ = ["BODY_LIMIT", "Call", "Came", "HttpClient", "proxy_of", "tls_context"]

REPORTED_WITHIN = 5.0  # seconds after a call's end within which it is reported, on a machine that is held up
ONE_CONNECTION = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEEPALIVE_EXPIRY)

Then = Callable[[Came], None]
log = logging.getLogger("again.http")


class HttpClient:
    """The HTTP client, with one connection for each call under way. Thread-safe.

    Redirects are not followed, cookies are not kept, and proxies of the environment are not used: a transport of
    httpx does none of these.
    """

    def __init__(
        self, timeouts: Timeouts, trust: ssl.SSLContext | None = None,
        may_send: Callable[[], bool] = lambda: True, proxy: httpx.Proxy | None = None,
    ) -> None:  # fmt: skip
        """`trust` has the trusted authorities and our own certificate; without it, certifi's list is trusted.

        `may_send` is asked just before each request leaves. `proxy` is for https:// addresses alone.
        """
        self._timeouts = timeouts
        self._may_send = may_send
        self._trust = trust or httpx.create_ssl_context(trust_env=False)  # takes 20 ms, so one for all
        self._proxy = proxy
        self._idle: defaultdict[Origin, deque[Connection]] = defaultdict(deque)
        self._parked: dict[tuple[str, str, bytes | None], Exchange] = {}
        self._owner = os.getpid()
        self._inherited: list[object] = []  # so that it is not collected
        self._looks_later = False  # for idle connections
        self._closed = False

    async def send(self, call: Call, until: float, slot: Slot = AT_ONCE, *, park: bool = True) -> Came:
        """Send once, within the slot, and read all of the answer; over at `until`, by `elapsed`.

        With `park`, a call that missed its slot keeps its connection for the next `send` of the same call.
        What goes wrong is told by its phase and its name alone. On the event loop only.
        """
        if self._owner != os.getpid():
            self._leave_to_parent()
        if elapsed() > min(slot.latest, until) or not self._may_send():
            return Missed()  # it costs no connection
        key = (call.method, call.url, call.body)
        exchange = self._parked.pop(key, None)
        if exchange is not None and (exchange.call != call or not exchange.is_parked):
            exchange.cancel()
            exchange = None
        if exchange is None:
            try:
                request = _request(call)
            except (httpx.InvalidURL, ValueError) as error:  # UnicodeError is one
                return NotSent(type(error).__name__)
            exchange = Exchange(call, request, self._take(request.url), self._timeouts, self._may_send)
        exchange.parks = park
        came = await exchange.send(until, slot)
        if exchange.is_parked:
            self._parked[key] = exchange
            exchange.when_over(partial(self._unpark, key, exchange))
        else:
            try:
                await self._put_back(exchange)
            except Exception as error:  # noqa: BLE001 # the answer was read: no fault of its connection costs it
                log.warning("a connection could not be put back: %s", event_loop.where(error))
        return came

    def begin(self, call: Call, until: float, slot: Slot, then: Then) -> None:
        """As `send`, from any thread, without waiting. `then` is called on the event loop, and must be quick."""
        event_loop.start(partial(self.send, call, until, slot), then)

    def send_and_wait(self, call: Call, until: float, latest: float = math.inf) -> Reply | NotSent | Unknown:
        """As `send`, from a thread that waits for the answer; not sent after `latest`, by `elapsed`."""
        came: list[Came] = []
        over = threading.Lock()  # the lightest thing that a thread can wait for
        over.acquire()

        def told(answer: Came) -> None:
            came.append(answer)
            over.release()

        slot = Slot(AT_ONCE.earliest, latest)
        event_loop.start(partial(self.send, call, until, slot, park=False), told)
        if not over.acquire(timeout=max(0.0, until - elapsed()) + REPORTED_WITHIN):
            return Unknown("the HTTP client did not report")
        if not isinstance(answer := came[0], Missed):
            return answer
        too_late = "too little time left to wait for an answer"
        return NotSent(too_late if self._may_send() else "this process is stopping")

    def close(self) -> None:
        """Close all connections; one in use is closed when its call is over."""
        self._closed = True
        event_loop.start(self._close_idle)

    async def _close_idle(self) -> None:
        for parked in list(self._parked.values()):
            parked.cancel()
        await self._close_until(math.inf)

    def _leave_to_parent(self) -> None:
        """After a fork, drop the parent's connections without closing them, which would write to them."""
        self._inherited.append((self._idle, self._parked))
        self._idle, self._parked = defaultdict(deque), {}
        self._looks_later = False
        self._owner = os.getpid()

    def _take(self, url: httpx.URL) -> Connection:
        """Return the connection that was used last, which is most likely open, or a new one."""
        origin = url.scheme, url.host, url.port
        idle = self._idle[origin]
        if idle and elapsed() - idle[-1].idle_since < KEEPALIVE_EXPIRY:
            return idle.pop()
        proxy = self._proxy if url.scheme == "https" else None
        is_tls = proxy is not None and proxy.url.scheme == "https"
        return Connection(origin, self._new_transport(proxy), by_proxy=proxy is not None, by_tls_proxy=is_tls)

    def _new_transport(self, proxy: httpx.Proxy | None) -> httpx.AsyncBaseTransport:
        return httpx.AsyncHTTPTransport(verify=self._trust, trust_env=False, limits=ONE_CONNECTION, proxy=proxy)

    async def _put_back(self, exchange: Exchange) -> None:
        """Keep the connection for the next call, or close it when it cannot be used again."""
        connection = exchange.connection
        if self._closed or not exchange.leaves_it_clean:
            await connection.close()
            return
        connection.idle_since = elapsed()
        self._idle[connection.origin].append(connection)
        if not self._looks_later:
            self._looks_later = True
            asyncio.get_running_loop().call_later(KEEPALIVE_EXPIRY, self._close_expired)

    def _unpark(self, key: tuple[str, str, bytes | None], exchange: Exchange) -> None:
        if self._parked.get(key) is exchange:
            del self._parked[key]

    def _close_expired(self) -> None:
        event_loop.start(partial(self._close_until, elapsed() - KEEPALIVE_EXPIRY))
        self._looks_later = any(self._idle.values())
        if self._looks_later:
            asyncio.get_running_loop().call_later(KEEPALIVE_EXPIRY, self._close_expired)

    async def _close_until(self, since: float) -> None:
        """Close the connections that were not used since then."""
        for idle in list(self._idle.values()):
            while idle and idle[0].idle_since <= since:
                await idle.popleft().close()


def tls_context(certificates: CertificateFiles, *, shows_cert: bool) -> ssl.SSLContext:
    """Trust certifi's list and the authority of the settings; with `shows_cert`, show our own certificate."""
    context = httpx.create_ssl_context(trust_env=False)
    certificates.trust_ca(context)
    if shows_cert:
        certificates.show_cert(context)
    return context


def proxy_of(url: str | None, certificates: CertificateFiles) -> httpx.Proxy | None:
    """The proxy of the settings; it is not shown our own certificate, which is for the gateway."""
    if url is None:
        return None
    is_tls = url.lower().startswith("https:")
    return httpx.Proxy(url, ssl_context=tls_context(certificates, shows_cert=False) if is_tls else None)


@lru_cache(maxsize=256)
def _url(address: str) -> httpx.URL:
    if not address.isascii() or " " in address:
        raise httpx.InvalidURL("it must be quoted")
    url = httpx.URL(address)
    if url.scheme not in ("http", "https") or not url.host:
        raise httpx.InvalidURL("it is no address of HTTP")
    return url


def _request(call: Call) -> httpx.Request:
    return httpx.Request(call.method, _url(call.url), headers=call.headers, content=call.body)
