"""Calls of one account, each with the shared token, which is fetched when it is missing or expired."""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, TypeVar

from schedules.charging.outcomes import NotSent, Refused, Unknown
from worker.clock import elapsed
from worker.config import installed_version
from worker.gateway.exchange import Reply
from worker.gateway.port import NO_TOKEN, Missed, NoAnswer, Slot
from worker.gateway.portone_v1 import answers, orders
from worker.gateway.portone_v1.settings import PortOneSettings
from worker.gateway.portone_v1.tokens import AccessToken, Issued, TokenStore
from worker.gateway.transport import Call, Came, HttpClient, proxy_of, tls_context
from worker.runtime import event_loop, stop_signal
from worker.runtime.background import Closed, Part, Pool

log = logging.getLogger("again.gateway")
MOST_REPEATS = 2  # with the token that others share, and then with a fresh one
ASIDE = 2  # threads that wait for a token and for its store, so that the event loop need not
A = TypeVar("A")
Then = Callable[[A | NoAnswer | Missed], None]


@dataclass(frozen=True, slots=True)
class Request:
    """A request to PortOne."""

    method: str
    path: str
    body: bytes | None


def request(method: str, path: str, fields: orders.Fields | None = None) -> Request:
    """A request, with its fields as JSON."""
    return Request(method, path, None if fields is None else json.dumps(fields).encode("ascii"))


class Calls:
    """One account's HTTP client and its token; safe to use from many threads."""

    def __init__(self, settings: PortOneSettings, tokens: TokenStore) -> None:
        self._settings = settings
        self.address = settings.base_url.rstrip("/")
        self._http = HttpClient(
            settings.timeouts,
            tls_context(settings.certificates, shows_cert=True),
            stop_signal.is_not_told,
            proxy_of(settings.proxy_url, settings.certificates),
        )
        self._token = AccessToken(tokens, self._fetch_token)
        self._threads = Pool(Part.TOKENS, ASIDE)
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # so that the bound on a body's length is one on what we read
            "Content-Type": "application/json",
            "User-Agent": f"again/{installed_version()}",
        }
        if settings.tier is not None:
            self._headers["Tier"] = settings.tier

    def prepare(self) -> None:
        """Have a token at hand; that there is none is told by the call that needs it."""
        self._token.get(elapsed() + self._settings.timeouts.deadline)

    def call(self, asked: Request, read: Callable[[int, bytes], A], until: float | None = None) -> A | NoAnswer:
        """Send one request under the shared token, and read its answer; over at the deadline, all in all."""
        began = elapsed()
        latest = began + self._settings.timeouts.deadline
        until = latest if until is None else min(until, latest)
        reply = self._send(asked, until)
        for _ in range(MOST_REPEATS):
            # Refused before it was looked at: the one answer after which the same request may be repeated.
            if not _is_unauthorized(reply):
                break
            reply = self._send(asked, until)
            if self._token.issued_at >= began:
                break  # a fresh token says it for good; one that another process shared may have been dead too
        return read(reply.status, reply.body) if isinstance(reply, Reply) else reply

    def call_later(self, asked: Request, read: Callable[[int, bytes], A]) -> "LaterCall[A]":
        """The same for a caller that sends it within a slot and does not wait for the answer."""
        return LaterCall(self, asked, read)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()
        self._threads.close()

    def _send(self, asked: Request, until: float) -> Reply | NoAnswer:
        # What is sent is waited for in full, so a token that comes later than this is too late.
        latest = until - self._settings.timeouts.read
        token = self._token.get(latest)
        if not isinstance(token, str):
            return token
        reply = self._http.send_and_wait(self._under(token, asked), until, latest)
        if _is_unauthorized(reply):
            self._token.drop(token)
        return reply

    def _under(self, token: str, asked: Request) -> Call:
        headers = {**self._headers, "Authorization": f"Bearer {token}"}
        return Call(asked.method, self.address + asked.path, headers, asked.body)

    def _fetch_token(self, until: float) -> Issued | NotSent | Refused:
        """Request a token. When this fails, the request that needs the token was certainly not sent."""
        account = {"imp_key": self._settings.imp_key, "imp_secret": self._settings.imp_secret}
        body = json.dumps(account).encode("ascii")
        reply = self._http.send_and_wait(
            Call("POST", f"{self.address}/users/getToken", self._headers, body), until
        )
        if not isinstance(reply, Reply):
            return NotSent(f"{NO_TOKEN}: {reply.reason}")
        secrets = (self._settings.imp_secret, self._settings.imp_key)
        return answers.read_token(reply.status, reply.body, secrets)

    async def _aside(self, work: Callable[[], A | NoAnswer | Missed]) -> A | NoAnswer | Missed:
        """Run on a thread what waits for the token or its store."""
        try:
            return await asyncio.wrap_future(self._threads.submit(work))
        except Closed:  # nothing was sent, or it was refused
            return NotSent("the process ends")
        except Exception as error:  # noqa: BLE001 # the boundary of the store: the call gets the error as its result
            log.error("no access token: %s", type(error).__name__)
            return NotSent(f"{NO_TOKEN}: {type(error).__name__}")


class LaterCall(Generic[A]):
    """A call that is sent within a slot; a call that was not sent may take another slot."""

    def __init__(self, calls: Calls, asked: Request, read: Callable[[int, bytes], A]) -> None:
        self._calls = calls
        self._asked = asked
        self._read = read
        self._refused_since: float | None = None  # when its token was first refused, by `elapsed`
        self._fetched_for_it: str | None = None  # a token that may be used once, though little of its time is left

    def begin(self, until: float, slot: Slot, then: Then[A]) -> None:
        """As `send`, from any thread and without waiting; see `port.Sending`."""
        event_loop.start(partial(self.send, until, slot), then)

    async def send(self, until: float, slot: Slot) -> A | NoAnswer | Missed:
        """Send it within its slot, and read its answer. On the event loop only."""
        calls = self._calls
        latest = until - calls._settings.timeouts.read  # what is sent is waited for in full
        token = calls._token.at_hand() or self._fetched_for_it
        self._fetched_for_it = None
        if token is None:
            return await calls._aside(partial(self._fetched, latest))
        slot = replace(slot, latest=min(slot.latest, latest))
        came = await calls._http.send(calls._under(token, self._asked), until, slot)
        if not isinstance(came, Reply):
            return came
        if _is_unauthorized(came):
            return await calls._aside(partial(self._unauthorized, token, came))
        return self._answered(came)

    def _fetched(self, latest: float) -> NotSent | Refused | Missed:
        token = self._calls._token.get(latest)
        if not isinstance(token, str):
            return Missed() if stop_signal.is_told() else token
        self._fetched_for_it = token
        return Missed()

    def _answered(self, reply: Reply) -> A | Unknown:
        try:
            return self._read(reply.status, reply.body)
        except Exception as fault:  # noqa: BLE001 # the boundary of a call: an error of reading its answer is reported
            log.error("an answer could not be read: %s", event_loop.where(fault))
            return Unknown("an answer that could not be read, for a fault of ours")

    def _unauthorized(self, token: str, reply: Reply) -> A | Unknown | Missed:
        """The token was refused before the request was read: send once more, unless the token was new."""
        calls = self._calls
        calls._token.drop(token)
        if self._refused_since is not None and calls._token.issued_at >= self._refused_since:
            return self._answered(reply)
        self._refused_since = self._refused_since or elapsed()
        return Missed()


def _is_unauthorized(came: Came | Refused) -> bool:
    return isinstance(came, Reply) and came.status == 401
