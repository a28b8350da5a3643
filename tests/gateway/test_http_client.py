"""What the HTTP client keeps to on top of httpx: clean connections, phases by httpcore's steps, no state."""

import asyncio
import logging
import os
import select
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from schedules.charging.outcomes import NotSent, Paid, PaymentState, Unknown
from tests.gateway.certificates import own_certificate
from tests.gateway.proxying import corked
from tests.gateway.samples import CANCELLED, CARD_NUMBER, KEY, ORDER, PAID, envelope, page
from tests.gateway.scripted import AMPLE, Act, ScriptedServer, answer, client_of, exactly, scripted
from tests.gateway.test_slots import LONG, PAID_ANSWER, PAID_BODY, Told, begun, prepared, soon, with_token
from worker.clock import elapsed, wait_until
from worker.gateway import exchange, transport
from worker.gateway.exchange import Reply
from worker.gateway.port import AT_ONCE, BillingKey, Cancellation, Cancelled, Found, Missed, PaymentPage, Slot
from worker.gateway.portone_v1.client import PortOneV1
from worker.gateway.transport import Call, HttpClient

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
STRAY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
UNASKED = b"HTTP/1.1 408 Too late\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted() as running:
        yield running


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return own_certificate(tmp_path_factory.mktemp("tls") / "localhost.pem")


def serving(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate)


def call_of(server: ScriptedServer, scheme: str = "http") -> Call:
    return Call("POST", f"{scheme}://localhost:{server.address[1]}/x", {}, b"{}")


def whole(body: bytes) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def in_chunks(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"


# Steps of httpcore


def test_the_steps_of_httpcore_are_those_that_the_phases_are_read_from(server: ScriptedServer) -> None:
    """Guard: were a step renamed, requests would leave without a slot, and count as not sent."""
    steps: list[str] = []

    async def note(event: str, _: object) -> None:
        steps.append(event)

    async def ask() -> None:
        async with httpx.AsyncHTTPTransport(trust_env=False) as plain:
            request = httpx.Request("POST", f"{server.url}/x", content=b"{}", extensions={"trace": note})
            await (await plain.handle_async_request(request)).aread()

    server.will(PAID_ANSWER)
    asyncio.run(ask())
    assert steps == [
        "connection.connect_tcp.started", exchange.CONNECTED[0],
        exchange.SEND, exchange.HEADERS_SENT, exchange.SEND_BODY, exchange.BODY_SENT,
        "http11.receive_response_headers.started", "http11.receive_response_headers.complete",
        "http11.receive_response_body.started", "http11.receive_response_body.complete",
        "http11.response_closed.started", "http11.response_closed.complete",
    ]  # fmt: skip


def test_no_other_work_of_the_process_comes_between_the_last_look_and_the_first_byte() -> None:
    """Guard: a process that is suspended after its last look at the clock sends nothing."""
    written: list[bool] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peers: list[socket.socket] = []

        def may_send() -> bool:
            peers.extend(listener.accept()[:1] if not peers else ())
            asyncio.get_running_loop().call_soon(
                lambda: written.append(bool(select.select([peers[0]], [], [], 0)[0]))
            )
            return True

        with closing(HttpClient(AMPLE, may_send=may_send)) as client:
            call = Call("POST", f"http://127.0.0.1:{listener.getsockname()[1]}/x", {}, b"{}")
            slot = Slot(elapsed() + 0.05, elapsed() + 5)
            listener.settimeout(0)
            first = iter([True])
            client._may_send = lambda: next(first, None) is not None or may_send()
            told = Told()
            client.begin(call, elapsed() + 5, slot, told)
            assert told.first() == Unknown("ReadTimeout")
        for peer in peers:
            peer.close()
    assert written == [True]


def test_a_body_does_not_follow_its_headers_once_the_time_of_the_call_is_over(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: a process that is suspended between both would charge after its lease. What was begun is Unknown."""
    follow = exchange.Exchange._trace

    async def sleep_before_the_body(self: exchange.Exchange, event: str, info: Any) -> None:
        if event == exchange.SEND_BODY:
            self._until = elapsed() - 0.001
        await follow(self, event, info)

    monkeypatch.setattr(exchange.Exchange, "_trace", sleep_before_the_body)
    with closing(HttpClient(AMPLE)) as client:
        came = client.send_and_wait(call_of(server), elapsed() + 5)
    assert came == Unknown("the process was suspended while it sent the request")
    assert wait_until(lambda: server.closed == 1, 20)
    assert server.received == []


@pytest.mark.parametrize(("late_by", "is_sent"), [(0.5, True), (1.1, False)])
def test_a_body_does_not_follow_its_headers_long_after_the_slot(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, late_by: float, is_sent: bool
) -> None:
    """Guard: the rate limiter has counted the call in its slot, and the slots after it are of other calls."""
    follow = exchange.Exchange._trace

    async def sleep_before_the_body(self: exchange.Exchange, event: str, info: Any) -> None:
        if event == exchange.SEND_BODY:
            self._slot = Slot(0, elapsed() - late_by)
        await follow(self, event, info)

    monkeypatch.setattr(exchange.Exchange, "_trace", sleep_before_the_body)
    server.will(PAID_ANSWER)
    with closing(HttpClient(LONG)) as client:
        told = Told()
        client.begin(call_of(server), elapsed() + 5, Slot(0, elapsed() + 5), told)
        late = Unknown("the process was suspended while it sent the request")
        assert told.first() == (Reply(200, PAID_BODY) if is_sent else late)
    assert wait_until(lambda: server.closed == 1, 20)
    assert len(server.received) == int(is_sent)


# Bytes that nobody asked for


READS: dict[str, tuple[bytes, Callable[[PortOneV1], object], type]] = {
    "a charge": (PAID_BODY, lambda gateway: gateway.charge(ORDER), Paid),
    "a key": (envelope(KEY), lambda gateway: gateway.read_key("cus_1"), BillingKey),
    "a refund": (
        envelope(CANCELLED),
        lambda gateway: gateway.cancel(Cancellation("imps_156288298043", ORDER.money, 8900, "x")),
        Cancelled,
    ),
    "a look-up": (page([PAID], total=1), lambda gateway: gateway.find_all(ORDER.merchant_uid), Found),
    "a list": (
        page([PAID], total=1),
        lambda gateway: gateway.list_payments(PaymentState.PAID, SINCE, SINCE),
        PaymentPage,
    ),
}


@pytest.mark.parametrize("framed", [whole, in_chunks])
@pytest.mark.parametrize(("body", "ask", "expected"), READS.values(), ids=READS.keys())
def test_bytes_after_an_answer_are_not_read_as_the_next_one(
    server: ScriptedServer,
    body: bytes,
    ask: Callable[[PortOneV1], object],
    expected: type,
    framed: Callable[[bytes], bytes],
) -> None:
    """Guard: the answer that follows belongs to another charge, key, refund or list."""
    server.will(exactly(framed(body) + STRAY, keep=True), answer(200, body))
    with prepared(server) as gateway:
        ask(gateway)
        second = ask(gateway)
    assert isinstance(second, expected), second
    assert server.connections == 2


def test_a_part_of_a_line_after_an_answer_costs_the_connection_too(server: ScriptedServer) -> None:
    server.will(exactly(whole(PAID_BODY) + b"\r\n", keep=True), PAID_ANSWER)
    with prepared(server) as gateway:
        assert isinstance(gateway.charge(ORDER), Paid)
        assert isinstance(gateway.charge(ORDER), Paid)
    assert server.connections == 2


def test_bytes_after_a_long_answer_are_not_read_as_the_next_one(server: ScriptedServer) -> None:
    """Guard: what one read of the socket brings beyond 64 KiB waits where nothing shows it."""
    body = b'{"code": 0, "message": null, "response": null, "x": "' + b"x" * 65_536
    exact = whole(body[: 65_536 - len(whole(b"x" * 65_400)) + 65_400])
    server.will(exactly(exact + STRAY, keep=True), PAID_ANSWER)
    with closing(HttpClient(LONG)) as client:
        client.send_and_wait(call_of(server), elapsed() + 5)
        assert client.send_and_wait(call_of(server), elapsed() + 5) == Reply(200, PAID_BODY)
    assert server.connections == 2


def test_the_answer_that_follows_a_408_is_not_read_as_the_next_one(server: ScriptedServer) -> None:
    """Guard: a server that gives up an idle connection says 408 while a request is on its way."""

    def gives_up_and_answers(server: ScriptedServer, peer: socket.socket) -> bool:
        peer.sendall(UNASKED)
        server.stopped.wait(0.3)
        return answer(200, "of the first")(server, peer)

    server.will(gives_up_and_answers, PAID_ANSWER)
    with closing(HttpClient(LONG)) as client:
        assert client.send_and_wait(call_of(server), elapsed() + 5) == Reply(408, b"")
        assert client.send_and_wait(call_of(server), elapsed() + 5) == Reply(200, PAID_BODY)


LONG_ANSWERS = {
    "headers": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Pad: " + b"p" * 40_000 + b"\r\n\r\n{}",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 12_000 + b"0\r\n\r\n",
}


@pytest.mark.parametrize("long", LONG_ANSWERS.values(), ids=LONG_ANSWERS.keys())
def test_a_connection_is_not_kept_after_an_answer_that_is_long_by_more_than_its_body(
    server: ScriptedServer, long: bytes
) -> None:
    """Guard: what one read of the socket brings beyond 64 KiB waits where nothing shows it."""
    server.will(exactly(long, keep=True), PAID_ANSWER)
    with closing(HttpClient(LONG)) as client:
        assert isinstance(client.send_and_wait(call_of(server), elapsed() + 5), Reply)
        assert client.send_and_wait(call_of(server), elapsed() + 5) == Reply(200, PAID_BODY)
    assert server.connections == 2


def test_a_record_of_tls_after_an_answer_costs_the_connection(certificate: Path) -> None:
    """Guard: the record lies decrypted by nobody, between the socket and httpcore's parser."""

    def two_records(server: ScriptedServer, peer: socket.socket) -> bool:
        with corked(peer):
            peer.sendall(whole(PAID_BODY))
            peer.sendall(STRAY)
        return True

    with (
        scripted(two_records, PAID_ANSWER, tls=serving(certificate)) as server,
        closing(HttpClient(LONG, trusting(certificate))) as client,
    ):
        for _ in range(2):
            assert client.send_and_wait(call_of(server, "https"), elapsed() + 8) == Reply(200, PAID_BODY)
        assert server.connections == 2


# Connections that end, or speak, while a request waits for its slot


def then(last: bytes) -> Act:
    """Answer the first request, and soon after it say something unasked, or close."""

    def act(server: ScriptedServer, peer: socket.socket) -> bool:
        PAID_ANSWER(server, peer)
        server.stopped.wait(0.1)
        peer.sendall(last)
        return bool(last)

    return act


@pytest.mark.parametrize("last", [b"", UNASKED, STRAY], ids=["closes", "answers 408", "answers 200"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_server_that_closes_or_speaks_while_a_request_waits_costs_the_connection_alone(
    certificate: Path, last: bytes, tls: bool
) -> None:
    """Guard: nothing was sent, so the request goes on a new connection, in the same slot."""
    scheme = "https" if tls else "http"
    with (
        scripted(then(last), PAID_ANSWER, tls=serving(certificate) if tls else None) as server,
        closing(HttpClient(LONG, trusting(certificate))) as client,
    ):
        assert client.send_and_wait(call_of(server, scheme), elapsed() + 8) == Reply(200, PAID_BODY)
        told = Told()
        client.begin(call_of(server, scheme), elapsed() + 8, soon(0.4), told)
        assert told.first() == Reply(200, PAID_BODY)
        assert len(server.received) == server.connections == 2


@pytest.mark.parametrize("last", [b"", UNASKED], ids=["closes", "answers 408"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_server_that_always_does_so_is_not_sent_to(certificate: Path, last: bytes, tls: bool) -> None:
    """Guard: never Unknown, and no loop without end."""
    asked: list[bytes] = []
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        closing(HttpClient(LONG, trusting(certificate))) as client,
    ):
        told = Told()
        scheme = "https" if tls else "http"
        url = f"{scheme}://localhost:{listener.getsockname()[1]}/x"
        client.begin(Call("POST", url, {}, b"{}"), elapsed() + 8, soon(3), told)
        listener.settimeout(0.1)
        while not told.came:
            try:
                peer = listener.accept()[0]
                peer.settimeout(5)
                peer = serving(certificate).wrap_socket(peer, server_side=True) if tls else peer
                peer.sendall(last)
                asked.append(peer.recv(100) if last else b"")
                peer.close()
            except TimeoutError:
                continue
            except OSError:
                asked.append(b"")
    assert told.first() == NotSent("ConnectError")
    assert set(asked) == {b""}
    assert len(asked) == exchange.MOST_LOST


def test_a_connection_that_is_idle_for_long_is_not_used_again(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: common servers close an idle connection after 5 s, and a request sent just then is Unknown."""
    server.will(PAID_ANSWER, PAID_ANSWER)
    with closing(HttpClient(LONG)) as client:
        client.send_and_wait(call_of(server), elapsed() + 5)
        monkeypatch.setattr(transport, "elapsed", lambda: elapsed() + 4)
        client.send_and_wait(call_of(server), elapsed() + 9)
    assert server.connections == 2


# Slots that are missed


def slow_handshakes(certificate: Path, seconds: float) -> ssl.SSLContext:
    class Slow(ssl.SSLContext):
        def wrap_socket(self, *given: Any, **more: Any) -> Any:
            time.sleep(seconds)
            return super().wrap_socket(*given, **more)

    context = Slow(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_a_slot_that_was_missed_while_the_connection_was_made_does_not_cost_it(certificate: Path) -> None:
    """Guard: where connecting takes longer than a slot, a call would connect for ever and never be sent."""
    with (
        scripted(PAID_ANSWER, tls=slow_handshakes(certificate, 0.3)) as server,
        closing(HttpClient(LONG, trusting(certificate))) as client,
    ):
        call = call_of(server, "https")
        for slot, expected in ((Slot(0, elapsed() + 0.1), Missed()), (None, Reply(200, PAID_BODY))):
            told = Told()
            client.begin(call, elapsed() + 8, slot or Slot(elapsed() + 0.05, elapsed() + 5), told)
            assert told.first() == expected
        assert server.connections == len(server.received) == 1


def test_a_call_that_waits_for_its_slot_does_not_leave_after_a_stop_signal(server: ScriptedServer) -> None:
    """Guard: a worker that is told to stop begins no call."""
    stopped = threading.Event()
    with closing(HttpClient(LONG, may_send=lambda: not stopped.is_set())) as client:
        told = Told()
        client.begin(call_of(server), elapsed() + 8, soon(0.3), told)
        assert wait_until(lambda: server.connections == 1, 20)
        stopped.set()
        assert told.first() == Missed()
        assert wait_until(lambda: server.closed == 1, 20)
    assert server.received == []


def test_a_connection_that_is_lost_between_two_slots_is_replaced(certificate: Path) -> None:
    with (
        scripted(PAID_ANSWER, tls=slow_handshakes(certificate, 0.3)) as server,
        closing(HttpClient(LONG, trusting(certificate))) as client,
    ):
        call, told = call_of(server, "https"), Told()
        client.begin(call, elapsed() + 8, Slot(0, elapsed() + 0.1), told)
        assert told.first() == Missed()
        [parked] = client._parked.values()
        assert parked.connection.stream is not None
        parked.connection.stream.get_extra_info("socket").shutdown(socket.SHUT_RD)
        told = Told()
        client.begin(call, elapsed() + 8, AT_ONCE, told)
        assert told.first() == Reply(200, PAID_BODY)
        assert server.connections == 2


def test_a_connection_that_waited_for_long_between_two_slots_is_replaced(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: the event loop's clock stops while the machine is suspended, and the server's does not."""
    with (
        scripted(PAID_ANSWER, tls=slow_handshakes(certificate, 0.3)) as server,
        closing(HttpClient(LONG, trusting(certificate))) as client,
    ):
        call, told = call_of(server, "https"), Told()
        client.begin(call, elapsed() + 8, Slot(0, elapsed() + 0.1), told)
        assert told.first() == Missed()
        monkeypatch.setattr(exchange, "elapsed", lambda: elapsed() + 4)
        told = Told()
        client.begin(call, elapsed() + 12, AT_ONCE, told)
        assert told.first() == Reply(200, PAID_BODY)
        assert server.connections == 2
        assert len(server.received) == 1


def test_a_call_that_somebody_waits_for_keeps_no_connection_for_another_slot(certificate: Path) -> None:
    """Guard: the call is reported as not sent to its thread, which does not repeat it in another slot."""
    with (
        scripted(tls=slow_handshakes(certificate, 0.3)) as server,
        closing(HttpClient(LONG, trusting(certificate))) as client,
    ):
        came = client.send_and_wait(call_of(server, "https"), elapsed() + 8, elapsed() + 0.1)
        assert came == NotSent("too little time left to wait for an answer")
        assert wait_until(lambda: server.closed == 1, 20)
        assert server.received == []


def test_a_call_that_takes_no_other_slot_lets_its_connection_go(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "KEEPALIVE_EXPIRY", 0.2)
    with (
        scripted(PAID_ANSWER, tls=slow_handshakes(certificate, 0.2)) as server,
        closing(HttpClient(LONG, trusting(certificate))) as client,
    ):
        told = Told()
        client.begin(call_of(server, "https"), elapsed() + 8, Slot(0, elapsed() + 0.1), told)
        assert told.first() == Missed()
        assert wait_until(lambda: server.closed == 1 and not client._parked, 20)
        assert server.received == []
        assert told.came == [Missed()]


# Addresses


def test_names_that_nobody_answers_for_do_not_hold_up_others(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: the look-ups of receivers of webhooks would take every thread from those of the gateway."""
    look_up, over = socket.getaddrinfo, threading.Event()

    def slow(host: Any, *asked: Any, **more: Any) -> Any:
        if host in ("mute.internal", b"mute.internal"):
            over.wait(10)
            raise socket.gaierror
        return look_up(host, *asked, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    server.will(PAID_ANSWER)
    with closing(HttpClient(LONG)) as client:
        for _ in range(20):
            client.begin(Call("POST", "http://mute.internal/x", {}, b""), elapsed() + 4, AT_ONCE, lambda _: None)
        came = client.send_and_wait(call_of(server), elapsed() + 3)
        over.set()
    assert came == Reply(200, PAID_BODY)


def test_a_second_address_is_tried_beside_the_first(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: one address that does not answer would use up the time to connect."""
    port = server.address[1]
    with socket.socket() as mute:
        mute.bind(("127.0.0.2", port))
        mute.listen(0)
        waiting = [socket.socket() for _ in range(4)]  # fill the backlog, so that the kernel answers no more
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.2", port))

        def both(host: object, *_: object, **__: object) -> list[Any]:
            assert host == b"two.internal" or host == "two.internal"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in ("127.0.0.2", "127.0.0.1")]

        monkeypatch.setattr(socket, "getaddrinfo", both)
        server.will(PAID_ANSWER)
        with closing(HttpClient(LONG)) as client:
            came = client.send_and_wait(Call("POST", f"http://two.internal:{port}/x", {}, b"{}"), elapsed() + 5)
        for one in waiting:
            one.close()
    assert came == Reply(200, PAID_BODY)


@pytest.mark.parametrize(
    "url", ["http://", "ftp://127.0.0.1/x", "//127.0.0.1/x", "http://[::1/x", "http://a b/x", ""]
)
def test_an_address_that_is_none_is_not_sent_to(url: str) -> None:
    with closing(HttpClient(AMPLE)) as client:
        assert isinstance(client.send_and_wait(Call("POST", url, {}, b"{}"), elapsed() + 5), NotSent)


# No state and no leak


def test_no_cookie_is_kept(server: ScriptedServer) -> None:
    server.will(answer(200, PAID_BODY, **{"Set-Cookie": "session=1; Path=/"}), PAID_ANSWER)
    with closing(HttpClient(AMPLE)) as client:
        for _ in range(2):
            client.send_and_wait(call_of(server), elapsed() + 5)
    assert "cookie" not in server.received[1].headers
    assert server.received[1].headers.keys() == {"host", "content-length"}


def test_httpx_and_httpcore_log_nothing_even_at_debug(
    server: ScriptedServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: httpcore logs the headers of an answer, which may repeat a card or a token."""
    for name in ("httpx", "httpcore", "httpcore.http11", "httpcore.connection", "httpcore.proxy", "asyncio"):
        caplog.set_level(logging.DEBUG, logger=name)
        monkeypatch.setattr(logging.getLogger(name), "disabled", False)  # as `dictConfig` does
    server.will(answer(200, PAID_BODY, **{"X-Echo": CARD_NUMBER}))
    with client_of(server.url, tokens=with_token(CARD_NUMBER)) as gateway:
        assert isinstance(begun(gateway.sending(ORDER), soon()).first(), Missed | Paid)
        gateway.charge(ORDER)
    assert not [record for record in caplog.records if record.name.startswith("http")]


def test_the_log_of_httpcore_is_not_at_debug_where_that_of_the_process_is() -> None:
    """Guard: httpcore writes no text of a record that its level leaves out."""
    done = subprocess.run([sys.executable, "-c", LOGS], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "False False False\n", done.stderr


LOGS = """
import logging, logging.config
import worker.gateway.exchange

logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, "root": {"level": "DEBUG"}})
print(*(logging.getLogger(f"httpcore.{name}").isEnabledFor(logging.DEBUG) for name in
        ("connection", "http11", "proxy")))
"""


FORKS = """
import asyncio, os, sys
from worker.clock import elapsed
from worker.runtime import event_loop
from worker.gateway.timeouts import Timeouts
from worker.gateway.transport import Call, HttpClient

client = HttpClient(Timeouts(connect=2, read=2, write=2, deadline=5))
ask = lambda: client.send_and_wait(Call("POST", sys.argv[1], {}, b"{}"), elapsed() + 5)
assert event_loop.running().get_debug() is False
first = ask()
child = os.fork()
if child == 0:
    os._exit(0 if ask() == first else 1)
status = os.waitpid(child, 0)[1]
assert status == 0, status
assert ask() == first
print("both were answered")
"""


def test_a_forked_process_uses_connections_and_a_thread_of_its_own(server: ScriptedServer) -> None:
    """Guard: two processes that write to one connection mix their requests. Nor is asyncio's debug mode on."""
    server.will(*[PAID_ANSWER] * 3)
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKS, f"{server.url}/x"],
        capture_output=True, text=True, timeout=60, check=False, env=os.environ | {"PYTHONASYNCIODEBUG": "1"},
    )  # fmt: skip
    assert done.stdout == "both were answered\n", done.stderr
    assert server.connections == 2


PARKED = """
import os, ssl, sys, threading
from worker.clock import elapsed
from worker.runtime import event_loop
from worker.gateway.port import Slot
from worker.gateway.timeouts import Timeouts
from worker.gateway.transport import Call, HttpClient

trust = ssl.create_default_context(cafile=sys.argv[2])
client = HttpClient(Timeouts(connect=4, read=2, write=2, deadline=8), trust)
call = Call("POST", sys.argv[1], {}, b"{}")
missed = threading.Event()
client.begin(call, elapsed() + 8, Slot(0, elapsed() + 0.1), lambda _: missed.set())
assert missed.wait(20)
event_loop._making.acquire()  # as another thread may at that moment
child = os.fork()
if child == 0:
    came = client.send_and_wait(call, elapsed() + 3)
    print("child:", came, flush=True)
    os._exit(0)
event_loop._making.release()
os.waitpid(child, 0)
print("parent:", client.send_and_wait(call, elapsed() + 3))
"""


def test_a_forked_process_does_not_take_a_call_that_waits_for_a_slot_of_its_parent(certificate: Path) -> None:
    """Guard: the child would wait for an event loop that runs in its parent alone, and write to its connection."""
    with scripted(PAID_ANSWER, PAID_ANSWER, tls=slow_handshakes(certificate, 0.3)) as server:
        url = f"https://localhost:{server.address[1]}/x"
        done = subprocess.run(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PARKED, url, str(certificate)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.stdout == "child: Reply(status=200)\nparent: Reply(status=200)\n", done.stderr
        assert server.connections == 2
