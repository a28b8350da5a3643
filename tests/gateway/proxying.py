"""A proxy for the tests: it tunnels what CONNECT asks for, refuses it, or answers nonsense."""

import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

TUNNEL = b"HTTP/1.1 200 Connection established\r\n\r\n"


@dataclass
class Proxy:
    """What it answers to CONNECT, and what it was asked."""

    answer: bytes | None = TUNNEL  # None: nothing at all
    tls: ssl.SSLContext | None = None
    by_record: bool = False  # each TLS record of the server goes on in a record of the proxy's own
    asked: list[bytes] = field(default_factory=list)
    target: tuple[str, int] | None = None  # where it leads, whatever it is asked for
    stopped: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def url(self, credentials: str = "") -> str:
        """Its address."""
        scheme = "http" if self.tls is None else "https"
        return f"{scheme}://{credentials}localhost:{self._listener.getsockname()[1]}"

    def stop(self) -> None:
        """End all tunnels."""
        self.stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _start(self, run: Callable[..., None], *given: socket.socket) -> None:
        thread = threading.Thread(target=run, args=given)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._serve, peer)

    def _serve(self, plain: socket.socket) -> None:
        plain.settimeout(5)
        try:
            with self.tls.wrap_socket(plain, server_side=True) if self.tls else plain as peer:
                head = b""
                while b"\r\n\r\n" not in head:
                    if not (chunk := peer.recv(4096)):
                        return
                    head += chunk
                self.asked.append(head)
                if self.answer is None:
                    self.stopped.wait(30)
                    return
                peer.sendall(self.answer)
                if self.answer != TUNNEL:
                    return
                host, _, port = head.split(b" ")[1].decode().rpartition(":")
                with socket.create_connection(self.target or (host, int(port)), 5) as onward:
                    self._start(self._pump, onward, peer)
                    self._pump(peer, onward)
        except OSError:
            plain.close()

    def _pump(self, one: socket.socket, other: socket.socket) -> None:
        one.settimeout(0.05)
        while not self.stopped.is_set():
            try:
                chunk = one.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                break
            if not chunk:
                break
            try:
                self._pass_on(chunk, other)
            except OSError:
                break
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _pass_on(self, chunk: bytes, other: socket.socket) -> None:
        if not (self.by_record and isinstance(other, ssl.SSLSocket)):
            other.sendall(chunk)
            return
        with corked(other):  # all of them in one segment
            while chunk:
                length = 5 + int.from_bytes(chunk[3:5], "big")
                other.sendall(chunk[:length])
                chunk = chunk[length:]


@contextmanager
def corked(peer: socket.socket) -> Iterator[None]:
    """Hold back what is written until the end, so that it arrives as one."""
    plain = socket.socket(fileno=os.dup(peer.fileno()))
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    try:
        yield
    finally:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
        plain.close()


@contextmanager
def proxying(
    answer: bytes | None = TUNNEL, tls: ssl.SSLContext | None = None, *, by_record: bool = False
) -> Iterator[Proxy]:
    """A running proxy."""
    proxy = Proxy(answer, tls, by_record)
    try:
        yield proxy
    finally:
        proxy.stop()
