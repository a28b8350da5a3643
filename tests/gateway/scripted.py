"""A scripted stand-in for the gateway over real sockets: it answers prepared bytes, hangs, drips or resets."""

import json
import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from worker.gateway.portone_v1.client import PortOneV1
from worker.gateway.portone_v1.settings import PortOneSettings
from worker.gateway.portone_v1.tokens import MemoryTokens, TokenStore
from worker.gateway.timeouts import Timeouts

IMP_KEY = "scripted-key-8231"
IMP_SECRET = "scripted-secret-9fd01c"
TOKEN_BEGIN = "token-of-the-script-"
SHORT = Timeouts(connect=0.5, read=0.3, write=0.5, deadline=2)  # for a time-out that a test wants to see
AMPLE = Timeouts(connect=4, read=4, write=4, deadline=8)  # for all other tests, on a loaded machine too


@dataclass(frozen=True)
class Received:
    """One request as it came over the line."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def fields(self) -> dict[str, object]:
        """Its JSON body."""
        fields: dict[str, object] = json.loads(self.body)
        return fields


Act = Callable[["ScriptedServer", socket.socket], bool]  # whether the connection is kept


def answer(status: int, body: bytes | str | dict[str, object] = b"", **headers: str) -> Act:
    """Answer as a well-behaved server does."""
    raw = json.dumps(body).encode() if isinstance(body, dict) else body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} Told", f"Content-Length: {len(raw)}", *(f"{k}: {v}" for k, v in headers.items())]
    return exactly("\r\n".join(lines).encode() + b"\r\n\r\n" + raw, keep=True)


def exactly(raw: bytes, *, keep: bool = False) -> Act:
    """Send these very bytes."""

    def act(server: "ScriptedServer", peer: socket.socket) -> bool:
        peer.sendall(raw)
        return keep

    return act


def hang(server: "ScriptedServer", peer: socket.socket) -> bool:
    """Say nothing until the server is stopped."""
    server.stopped.wait(30)
    return False


def close(server: "ScriptedServer", peer: socket.socket) -> bool:
    """Close without a word."""
    return False


def reset(server: "ScriptedServer", peer: socket.socket) -> bool:
    """Reset the connection."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def drip(first: bytes, again: bytes, every: float = 0.05) -> Act:
    """Send something, and then a little now and then, for ever."""

    def act(server: "ScriptedServer", peer: socket.socket) -> bool:
        try:
            peer.sendall(first)
            while not server.stopped.wait(every):
                peer.sendall(again)
        except OSError:  # the client has had enough
            pass
        return False

    return act


@dataclass
class ScriptedServer:
    """A server whose answers are prepared: one act for each request that is not for a token."""

    acts: deque[Act] = field(default_factory=deque)
    token_acts: deque[Act] = field(default_factory=deque)  # when empty, a fresh token is given
    by_request: Callable[[Received], Act] | None = None  # chooses by what was asked, instead of `acts`
    received: list[Received] = field(default_factory=list)
    token_requests: list[Received] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)
    connections: int = 0
    closed: int = 0
    seconds_left: int = 1800
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return "127.0.0.1", self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        """Where it listens, for HTTP."""
        return f"http://127.0.0.1:{self.address[1]}"

    def will(self, *acts: Act) -> None:
        """Prepare what the next requests get."""
        self.acts.extend(acts)

    def stop(self) -> None:
        """End all connections."""
        self.stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(peer,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, plain: socket.socket) -> None:
        try:
            plain.settimeout(5)
            peer = self._in_tls(plain) if self.tls is not None else plain
        except OSError:
            plain.close()
            return
        peer.settimeout(0.05)
        with peer:
            try:
                while (request := self._read(peer)) is not None:
                    if not self._choose(request)(self, peer):
                        break
            except OSError:
                pass
        self.closed += 1

    def _in_tls(self, plain: socket.socket) -> ssl.SSLSocket:
        assert self.tls is not None
        peer = self.tls.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        try:
            peer.do_handshake()
        except OSError:
            with suppress(OSError):  # what came unread would reset the connection before the client sees why
                socket.socket.shutdown(peer, socket.SHUT_WR)
                while socket.socket.recv(peer, 65536):
                    pass
            peer.close()
            raise
        return peer

    def _choose(self, request: Received) -> Act:
        with self._lock:
            if request.path != "/users/getToken":
                self.received.append(request)
                if self.by_request is not None:
                    return self.by_request(request)
                return self.acts.popleft() if self.acts else answer(500, "nothing was prepared")
            self.token_requests.append(request)
            if self.token_acts:
                return self.token_acts.popleft()
            return token_answer(len(self.token_requests), self.seconds_left)

    def _read(self, peer: socket.socket) -> Received | None:
        raw = b""
        while b"\r\n\r\n" not in raw:
            if not (chunk := self._receive(peer)):
                return None
            raw += chunk
        head, _, body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        while len(body) < int(headers.get("content-length", 0)):
            if not (chunk := self._receive(peer)):
                return None
            body += chunk
        method, path, _ = first.split(" ")
        return Received(method, path, headers, body)

    def _receive(self, peer: socket.socket) -> bytes:
        while not self.stopped.is_set():
            try:
                return peer.recv(65536)
            except TimeoutError:
                continue
        return b""


def token_answer(number: int, seconds_left: int = 1800) -> Act:
    """A token as PortOne gives it."""
    response = {"access_token": f"{TOKEN_BEGIN}{number}", "now": 1_800_000_000, "expired_at": 1_800_000_000}
    response["expired_at"] = 1_800_000_000 + seconds_left
    return answer(200, {"code": 0, "message": None, "response": response})


@contextmanager
def scripted(*acts: Act, tls: ssl.SSLContext | None = None) -> Iterator[ScriptedServer]:
    """A running scripted gateway."""
    server = ScriptedServer(tls=tls)
    server.will(*acts)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def client_of(
    url: str, *, tokens: TokenStore | None = None, timeouts: Timeouts = AMPLE, tier: str | None = None
) -> Iterator[PortOneV1]:
    """A client of a gateway at that address, closed in the end."""
    settings = PortOneSettings(url, IMP_KEY, IMP_SECRET, timeouts, tier)
    gateway = PortOneV1(settings, tokens or MemoryTokens())
    try:
        yield gateway
    finally:
        gateway.close()
