"""The listener's bounds: who is the sender, how often a notice is handed on, and how long a request lasts."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from starlette.requests import Request

from worker import listener
from worker.clock import elapsed, wait_until
from worker.embedded import free_port
from worker.listener import Door, networks

PORTONE, STRANGER, PROXY = "52.78.5.241", "203.0.113.9", "10.0.0.1"


def door(hand_on: listener.Hand = lambda _: None, allow: str = PORTONE, proxies: str = "") -> Door:
    """A door with our usual lists."""
    return Door(networks(allow), networks(proxies), hand_on)


def request(peer: str | None, *forwarded: str) -> Request:
    """A request from a peer, with lines of X-Forwarded-For."""
    headers = [(b"x-forwarded-for", line.encode()) for line in forwarded]
    return Request({"type": "http", "headers": headers, "client": (peer, 5) if peer else None})


@pytest.mark.parametrize(
    ("peer", "lines", "is_let_in"),
    [
        (PORTONE, (), True),
        (STRANGER, (), False),
        (None, (), False),
        (STRANGER, (PORTONE,), False),  # who is no proxy of ours names nobody
        (PROXY, (PORTONE,), True),
        (PROXY, (STRANGER,), False),
        (PROXY, (PORTONE, STRANGER), False),  # two lines: the proxy's own is the last
        (PROXY, (f"{PORTONE}, {STRANGER}",), False),
        (PROXY, (STRANGER, PORTONE), True),
        (PROXY, (f"{PORTONE}, {PROXY}",), True),  # two proxies
        (PROXY, (PORTONE, PROXY), True),
        (PROXY, (STRANGER, PROXY), False),
        (PROXY, (PORTONE, "unknown"), False),
        (PROXY, (PORTONE, ""), False),
        (PROXY, (), False),
        (f"::ffff:{PROXY}", (f"::ffff:{PORTONE}",), True),
    ],
)
def test_the_sender_is_the_last_address_that_is_no_proxy_of_ours(
    peer: str | None, lines: tuple[str, ...], is_let_in: bool
) -> None:
    assert door(proxies="10.0.0.0/8").lets_in(request(peer, *lines)) is is_let_in


def test_without_a_proxy_of_ours_no_line_is_believed() -> None:
    assert not door().lets_in(request(STRANGER, PORTONE))
    assert door().lets_in(request(PORTONE, STRANGER))


@contextmanager
def listening(made: Door) -> Iterator[int]:
    """A listener of this process; its port."""
    port = free_port()
    server = listener.server(made, "127.0.0.1", port)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert wait_until(lambda: server.started, 20)
        yield port
    finally:
        server.should_exit = True
        thread.join(20)


def post(port: int, merchant_uid: str) -> int:
    """The status of an answer to a notice."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    body = json.dumps({"imp_uid": "imp_1", "merchant_uid": merchant_uid})
    connection.request("POST", "/portone", body, {"Content-Type": "application/json"})
    status = connection.getresponse().status
    connection.close()
    return status


def test_notices_of_one_payment_that_come_together_are_handed_on_as_one() -> None:
    """The first at once, and one after the others: a look that began before a notice may not see its reason."""
    handed: list[str] = []
    with listening(door(handed.append, "127.0.0.0/8")) as port:
        assert post(port, "first") == 200
        assert handed == ["first"]
        statuses: list[int] = []
        senders = [threading.Thread(target=lambda: statuses.append(post(port, "first"))) for _ in range(20)]
        for sender in senders:
            sender.start()
        assert post(port, "other") == 200
        for sender in senders:
            sender.join(20)
    assert statuses == [200] * 20
    assert sorted(handed) == ["first", "first", "other"]


def test_a_notice_that_cannot_be_handed_on_is_not_answered_as_heard() -> None:
    def fail(_: str) -> None:
        raise ConnectionError("no broker")

    with listening(door(fail, "127.0.0.0/8")) as port:
        assert [post(port, "one"), post(port, "one")] == [503, 503]


BEGINNINGS = (
    b"", b"POST /portone HTTP/1.1\r\nHost: x\r\n", b"GET /healthy HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n",
)  # fmt: skip


def test_connections_whose_headers_do_not_end_are_closed_and_a_body_that_does_not_come_gets_408() -> None:
    """All at once: each takes the time that the listener allows."""
    with listening(door(allow="127.0.0.0/8")) as port, ExitStack() as opened:
        begun = elapsed()
        *slow, silent = (opened.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(4))
        for beginning, connection in zip(BEGINNINGS, slow, strict=True):
            connection.sendall(beginning)
        silent.sendall(b"POST /portone HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
        closed_after: dict[bytes, float] = {}

        def are_closed() -> bool:
            for beginning, connection in zip(BEGINNINGS, slow, strict=True):
                if beginning not in closed_after and is_closed(connection):
                    closed_after[beginning] = elapsed() - begun
            return len(closed_after) == len(slow)

        assert wait_until(are_closed, listener.HEADERS_WITHIN + 10), closed_after
        assert all(seconds > listener.HEADERS_WITHIN / 3 for seconds in closed_after.values()), closed_after
        silent.settimeout(listener.BODY_WITHIN + 10)
        assert silent.recv(100).startswith(b"HTTP/1.1 408")


def is_closed(slow: socket.socket) -> bool:
    """Whether the other side has closed; sends one more byte of a header each time."""
    slow.settimeout(0.2)
    try:
        slow.sendall(b"X")
        return slow.recv(4096) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_headers_above_the_bound_are_refused() -> None:
    with listening(door(allow="127.0.0.0/8")) as port, socket.create_connection(("127.0.0.1", port)) as large:
        large.sendall(b"POST /portone HTTP/1.1\r\nX: " + b"a" * (listener.LONGEST_HEADERS + 1000))
        large.settimeout(10)
        assert large.recv(100).startswith(b"HTTP/1.1 400")
