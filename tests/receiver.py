"""A shop's own address over real HTTP: it remembers what it was sent, and answers what it is told to."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook

from worker.gateway.timeouts import Timeouts
from worker.webhooks.standard import StandardWebhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SECRET = "whsec_" + "b3RoZXItc2VjcmV0LW9mLTI0LWJ5dGVz"
AMPLE = Timeouts(connect=4, read=4, write=4, deadline=8)
HANGS = -1


@dataclass(frozen=True)
class Sent:
    """One request as it came."""

    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """What the receiver knows the event by."""
        return self.headers["webhook-id"]

    @property
    def event(self) -> Any:
        """The event, verified as a shop would."""
        return Webhook(SECRET).verify(self.body, self.headers)


@dataclass
class Shop:
    """Takes everything with 204 unless told otherwise: a status, HANGS, or a status with headers and words."""

    answers: deque[int | tuple[int, dict[str, str], bytes]] = field(default_factory=deque)
    always: int = 204
    sent: list[Sent] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)  # until then, what hangs hangs
    reached: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    @property
    def kinds(self) -> list[str]:
        """The kinds of the events as they came."""
        return [sent.event["type"] for sent in self.sent]

    def receiver(self, *secrets: str, patience: Timeouts = AMPLE) -> StandardWebhook:
        """A client of this shop."""
        return StandardWebhook(self.url, secrets or (SECRET,), patience)

    def answer_to(self, sent: Sent) -> tuple[int, dict[str, str], bytes]:
        """What this request gets."""
        self.sent.append(sent)
        answer = self.answers.popleft() if self.answers else self.always
        self.reached.set()
        if answer == HANGS:
            self.released.wait(60)
            answer = 204
        return answer if isinstance(answer, tuple) else (answer, {}, b"")


@contextmanager
def open_shop() -> Iterator[Shop]:
    """A shop that listens on a free port."""
    shop = Shop()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status, headers, words = shop.answer_to(Sent({k.lower(): v for k, v in self.headers.items()}, body))
            try:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if status != 204:
                    self.send_header("content-length", str(len(words)))
                self.end_headers()
                self.wfile.write(words)
            except OSError:  # the client has had enough
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    shop.url = f"http://127.0.0.1:{server.server_port}/hooks/again"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield shop
    finally:
        shop.released.set()
        server.shutdown()
        server.server_close()
        thread.join(10)
