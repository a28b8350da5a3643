"""Calls that keep to a slot: not before it, not after it, never twice, and each told of once."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schedules.charging.outcomes import NotSent, Paid, Refused, Unknown
from tests.gateway.certificates import own_certificate
from tests.gateway.samples import ORDER, PAID, envelope, order, refusal
from tests.gateway.scripted import (
    AMPLE,
    SHORT,
    TOKEN_BEGIN,
    Received,
    ScriptedServer,
    answer,
    client_of,
    exactly,
    hang,
    scripted,
    token_answer,
)
from worker.clock import elapsed, wait_until
from worker.gateway import exchange, transport
from worker.gateway.exchange import Reply
from worker.gateway.port import AT_ONCE, Missed, Sending, Slot, did_not_reach
from worker.gateway.portone_v1.client import PortOneV1
from worker.gateway.portone_v1.tokens import MemoryTokens
from worker.gateway.timeouts import Timeouts
from worker.gateway.transport import Call, HttpClient
from worker.runtime import event_loop

PAID_BODY = envelope(PAID)
PAID_ANSWER = answer(200, PAID_BODY)
UNAUTHORIZED = answer(401, refusal("Unauthorized"))
LONG = replace(SHORT, connect=4, read=2, deadline=8)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted() as running:
        yield running


def with_token(token: str = "from-the-store") -> MemoryTokens:
    tokens = MemoryTokens()
    tokens.write(token, 1800)
    return tokens


@contextmanager
def prepared(
    server: ScriptedServer, tokens: MemoryTokens | None = None, timeouts: Timeouts = AMPLE
) -> Iterator[PortOneV1]:
    """A client that holds a token."""
    with client_of(server.url, tokens=tokens or with_token(), timeouts=timeouts) as gateway:
        gateway.prepare()
        yield gateway


class Told:
    """What was told, and when."""

    def __init__(self) -> None:
        self.came: list[object] = []
        self.at: list[float] = []

    def __call__(self, came: object) -> None:
        self.came.append(came)
        self.at.append(elapsed())

    def first(self) -> object:
        """The first thing that was told, once it is."""
        assert wait_until(lambda: bool(self.came), 20)
        return self.came[0]


def begun(sending: Sending, slot: Slot = AT_ONCE, until: float | None = None) -> Told:
    told = Told()
    sending.begin(elapsed() + LONG.deadline if until is None else until, slot, told)
    return told


def soon(seconds: float = 0.2) -> Slot:
    return Slot(elapsed() + seconds, elapsed() + seconds + 5)


def test_a_charge_leaves_within_its_slot_and_is_told_of_once(server: ScriptedServer) -> None:
    arrived: list[float] = []

    def note(request: Received) -> Callable[[ScriptedServer, socket.socket], bool]:
        arrived.append(elapsed())
        return PAID_ANSWER

    server.by_request = note
    with prepared(server, timeouts=LONG) as gateway:
        slot = soon()
        told = begun(gateway.sending(ORDER), slot)
        assert isinstance(told.first(), Paid)
        assert arrived[0] >= slot.earliest
        assert len(told.came) == len(server.received) == 1
        assert server.received[0].path == "/subscribe/payments/again"


def test_what_a_charge_sends_is_the_same_whether_somebody_waits_or_not(server: ScriptedServer) -> None:
    server.will(PAID_ANSWER, PAID_ANSWER)
    with prepared(server) as gateway:
        waited = gateway.charge(ORDER)
        assert begun(gateway.sending(ORDER)).first() == waited
    one, other = server.received
    assert one == other


def test_a_slot_that_has_passed_sends_nothing_and_the_line_stays(server: ScriptedServer) -> None:
    """Guard: the look at the clock just before the first byte."""
    server.will(PAID_ANSWER, PAID_ANSWER)
    with prepared(server) as gateway:
        gateway.charge(ORDER)
        assert begun(gateway.sending(ORDER), Slot(0, elapsed() - 0.001)).first() == Missed()
        assert len(server.received) == 1
        assert isinstance(begun(gateway.sending(ORDER)).first(), Paid)
    assert server.connections == 1


def test_a_charge_whose_answer_could_not_be_waited_for_in_full_is_not_sent(server: ScriptedServer) -> None:
    """Guard: a worker that slept after its pre-send check wakes with a time that has passed."""
    with prepared(server, timeouts=LONG) as gateway:
        told = begun(gateway.sending(ORDER), until=elapsed() + LONG.read - 0.01)
        assert told.first() == Missed()
    assert server.received == []


def test_what_portone_would_not_take_is_refused_without_a_call(server: ScriptedServer) -> None:
    with prepared(server) as gateway:
        assert isinstance(begun(gateway.sending(order(merchant_uid="order 1"))).first(), Refused)
    assert server.connections == 0


def test_a_line_that_is_lost_while_it_waits_for_its_slot_is_replaced(server: ScriptedServer) -> None:
    """Guard: nothing of the request was sent, so the call begins anew, and in the same slot."""
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(PAID_BODY)}\r\n\r\n".encode()

    def answer_and_close_soon(server: ScriptedServer, peer: socket.socket) -> bool:
        peer.sendall(head + PAID_BODY)
        server.stopped.wait(0.1)
        return False

    server.will(answer_and_close_soon, PAID_ANSWER)
    with prepared(server, timeouts=LONG) as gateway:
        gateway.charge(ORDER)
        told = begun(gateway.sending(ORDER), soon(0.4))
        assert isinstance(told.first(), Paid)
    assert server.connections == 2
    assert len(server.received) == 2


def test_a_line_that_is_closed_behind_our_back_is_not_sent_on(server: ScriptedServer) -> None:
    """Guard: the look at the socket just before the first byte; asyncio may come to see the end a moment later."""
    may_close, busy, go_on = (threading.Event() for _ in range(3))

    def answer_and_close_when_told(server: ScriptedServer, peer: socket.socket) -> bool:
        PAID_ANSWER(server, peer)
        may_close.wait(5)
        return False

    def hold_up() -> None:
        busy.set()
        go_on.wait(5)

    server.will(answer_and_close_when_told, PAID_ANSWER)
    with prepared(server, timeouts=LONG) as gateway:
        gateway.charge(ORDER)
        event_loop.running().call_soon_threadsafe(hold_up)
        assert busy.wait(20)
        may_close.set()
        assert wait_until(lambda: server.closed == 1, 20)
        told = begun(gateway.sending(ORDER))  # the loop comes to it before it sees the end of the connection
        go_on.set()
        assert isinstance(told.first(), Paid)
    assert len(server.received) == 2


def test_a_server_that_talks_unasked_is_not_believed(server: ScriptedServer) -> None:
    """Guard: what comes after an answer would be read as the answer to the next call, which is another charge."""
    twice = f"HTTP/1.1 200 OK\r\nContent-Length: {len(PAID_BODY)}\r\n\r\n".encode() + PAID_BODY
    server.will(exactly(twice + twice, keep=True), answer(200, envelope(PAID | {"imp_uid": "imps_2"})))
    with prepared(server) as gateway:
        gateway.charge(ORDER)
        paid = gateway.charge(ORDER)
    assert isinstance(paid, Paid)
    assert paid.imp_uid == "imps_2"
    assert server.connections == 2


def test_words_that_come_while_nobody_asks_end_the_line(server: ScriptedServer) -> None:
    spoken = threading.Event()

    def answer_and_speak(server: ScriptedServer, peer: socket.socket) -> bool:
        PAID_ANSWER(server, peer)
        server.stopped.wait(0.1)
        peer.sendall(b"HTTP/1.1 408 Too late\r\nContent-Length: 0\r\n\r\n")
        spoken.set()
        return True

    server.will(answer_and_speak, PAID_ANSWER)
    with prepared(server) as gateway:
        gateway.charge(ORDER)
        assert spoken.wait(20)
        assert isinstance(gateway.charge(ORDER), Paid)
    assert server.connections == 2


def test_without_a_token_one_is_fetched_and_the_charge_takes_another_slot(server: ScriptedServer) -> None:
    server.will(PAID_ANSWER)
    with client_of(server.url) as gateway:
        sending = gateway.sending(ORDER)
        assert begun(sending).first() == Missed()
        assert len(server.token_requests) == 1
        assert server.received == []
        assert isinstance(begun(sending).first(), Paid)
    assert len(server.token_requests) == 1


def test_where_no_token_is_to_be_had_the_charge_is_not_sent(server: ScriptedServer) -> None:
    server.token_acts.append(answer(500))
    with client_of(server.url) as gateway:
        came = begun(gateway.sending(ORDER)).first()
    assert isinstance(came, NotSent)
    assert "token" in came.reason
    assert server.received == []


def test_after_a_401_the_charge_takes_another_slot_under_a_fresh_token(server: ScriptedServer) -> None:
    """Guard: what is sent a second time has a pre-send check and a moment of the cap of its own."""
    server.will(UNAUTHORIZED, PAID_ANSWER)
    with prepared(server, with_token("dead")) as gateway:
        sending = gateway.sending(ORDER)
        assert begun(sending).first() == Missed()
        gateway.prepare()
        assert isinstance(begun(sending).first(), Paid)
    tokens = [request.headers["authorization"] for request in server.received]
    assert tokens == ["Bearer dead", f"Bearer {TOKEN_BEGIN}1"]


def test_a_401_under_a_fresh_token_says_it_for_good(server: ScriptedServer) -> None:
    server.will(UNAUTHORIZED, UNAUTHORIZED, PAID_ANSWER)
    with prepared(server, with_token("dead")) as gateway:
        sending = gateway.sending(ORDER)
        assert begun(sending).first() == Missed()
        gateway.prepare()
        assert begun(sending).first() == Refused("HTTP 401: Unauthorized")
    assert len(server.received) == 2


def test_a_token_with_little_time_left_is_used_once(server: ScriptedServer) -> None:
    """Guard: where a gateway gives no better one, a charge would wait for it for ever."""
    server.token_acts.append(token_answer(1, seconds_left=30))
    server.will(PAID_ANSWER)
    with client_of(server.url) as gateway:
        sending = gateway.sending(ORDER)
        assert begun(sending).first() == Missed()
        assert isinstance(begun(sending).first(), Paid)
    assert len(server.token_requests) == 1


def test_who_needs_a_token_of_a_closed_client_is_told(server: ScriptedServer) -> None:
    with client_of(server.url) as gateway:
        gateway._calls._threads.close()  # as the client's own `close` does
        assert begun(gateway.sending(ORDER)).first() == NotSent("the process ends")


@pytest.mark.parametrize(
    ("url", "headers"),
    [("http://127.0.0.1:99999/x", {}), ("{}/\u00e4", {}), ("{}/x", {"Tier": "\u00e4"}), ("{}/x", {"a b": "c"})],
)
def test_what_cannot_be_written_is_not_sent(server: ScriptedServer, url: str, headers: dict[str, str]) -> None:
    """Guard: whoever waits for it would wait for ever."""
    with closing(HttpClient(AMPLE)) as client:
        came = client.send_and_wait(Call("POST", url.format(server.url), headers, b"{}"), elapsed() + 5)
    assert isinstance(came, NotSent)
    assert server.received == []


def test_a_process_that_was_told_to_stop_sends_nothing_more(server: ScriptedServer) -> None:
    """Guard: a call that waits for its slot, or for its connection, does not leave after SIGTERM."""
    with closing(HttpClient(AMPLE, may_send=lambda: False)) as client:
        came = client.send_and_wait(Call("POST", f"{server.url}/x", {}, b"{}"), elapsed() + 5)
    assert came == NotSent("this process is stopping")
    assert server.received == []


def test_a_process_that_ends_and_looks_no_name_up_has_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ends(*_: object, **__: object) -> None:
        raise RuntimeError("cannot schedule new futures after shutdown")

    monkeypatch.setattr(event_loop.running(), "getaddrinfo", ends)
    with closing(HttpClient(AMPLE)) as client:
        came = client.send_and_wait(Call("POST", "http://pay.example/x", {}, b"{}"), elapsed() + 5)
    assert came == NotSent("RuntimeError")


def test_who_waits_for_lines_that_say_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(*_: object, **__: object) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(transport, "REPORTED_WITHIN", 0.1)
    monkeypatch.setattr(HttpClient, "send", silent)
    with closing(HttpClient(AMPLE)) as client:
        came = client.send_and_wait(Call("POST", "http://127.0.0.1:1/x", {}, b"{}"), elapsed() + 0.1)
    assert came == Unknown("the HTTP client did not report")


class BrokenStore(MemoryTokens):
    """A store whose database is away."""

    def drop(self, token: str) -> None:
        """Break."""
        raise ConnectionError("the database is gone")


def test_whoever_waits_is_told_though_the_store_of_tokens_breaks(server: ScriptedServer) -> None:
    server.will(UNAUTHORIZED)
    tokens = BrokenStore()
    tokens.write("dead", 1800)
    with prepared(server, tokens) as gateway:
        assert begun(gateway.sending(ORDER)).first() == NotSent("no access token: ConnectionError")


def test_who_fails_when_told_keeps_nobody_else_waiting(server: ScriptedServer) -> None:
    server.will(PAID_ANSWER, PAID_ANSWER)

    def fail(came: object) -> None:
        raise RuntimeError("a fault of ours")

    with prepared(server) as gateway:
        gateway.sending(ORDER).begin(elapsed() + 8, AT_ONCE, fail)
        assert isinstance(begun(gateway.sending(ORDER)).first(), Paid)


def test_a_call_ends_at_its_own_time_though_the_one_before_had_more(server: ScriptedServer) -> None:
    """Guard: the watch of a line is set forward for a call that must be over sooner."""
    server.will(PAID_ANSWER, hang)
    with prepared(server, timeouts=replace(LONG, read=30, deadline=40)) as gateway:
        assert isinstance(gateway.charge(ORDER), Paid)
        began = elapsed()
        client, call = gateway._calls._http, Call("POST", f"{server.url}/x", {}, b"{}")
        assert client.send_and_wait(call, began + 0.4) == Unknown("ReadTimeout")
        assert elapsed() - began < 5
    assert server.connections == 1


def test_a_call_says_when_it_was_gone(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guard: the look at the clock after the last byte; nothing else sees that a process was held up before it."""
    server.will(PAID_ANSWER, PAID_ANSWER)
    gone: list[float] = []
    with prepared(server, timeouts=replace(LONG, read=60, deadline=90)) as gateway:
        gateway.charge(ORDER)
        slot = Slot(0, elapsed() + 5, gone.append)
        follow, late = exchange.Exchange._trace, [0]

        async def held_up(self: exchange.Exchange, event: str, info: Any) -> None:
            late[0] = 9 if event == exchange.BODY_SENT else late[0]
            await follow(self, event, info)

        monkeypatch.setattr(exchange.Exchange, "_trace", held_up)
        monkeypatch.setattr(exchange, "elapsed", lambda: elapsed() + late[0])
        told = begun(gateway.sending(ORDER), slot, until=elapsed() + 90)
        assert isinstance(told.first(), Paid)
    assert len(gone) == 1
    assert gone[0] > slot.latest


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return own_certificate(tmp_path_factory.mktemp("tls") / "localhost.pem")


def test_calls_over_tls_share_a_connection(certificate: Path) -> None:
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate)
    with (
        scripted(tls=serving) as server,
        closing(HttpClient(LONG, ssl.create_default_context(cafile=certificate))) as client,
    ):
        server.will(*[PAID_ANSWER] * 3)
        call = Call("POST", f"https://localhost:{server.address[1]}/x", {}, b"{}")
        for _ in range(3):
            assert client.send_and_wait(call, elapsed() + 8) == Reply(200, PAID_BODY)
        assert server.connections == 1


def test_a_line_that_is_of_no_use_is_let_go_of_at_once(certificate: Path) -> None:
    """Guard: TLS would wait 30 s for a last word, and the call that waits for its slot as long."""

    def speak_and_be_mute(server: ScriptedServer, peer: socket.socket) -> bool:
        PAID_ANSWER(server, peer)
        server.stopped.wait(0.2)
        peer.sendall(b"HTTP/1.1 408 Too late\r\nContent-Length: 0\r\n\r\n")
        server.stopped.wait(30)
        return False

    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate)
    with (
        scripted(speak_and_be_mute, PAID_ANSWER, tls=serving) as server,
        closing(HttpClient(LONG, ssl.create_default_context(cafile=certificate))) as client,
    ):
        call = Call("POST", f"https://localhost:{server.address[1]}/x", {}, b"{}")
        assert client.send_and_wait(call, elapsed() + 8) == Reply(200, PAID_BODY)
        told = Told()
        client.begin(call, elapsed() + 40, Slot(elapsed() + 1, elapsed() + 30), told)
        assert told.first() == Reply(200, PAID_BODY)
        assert server.connections == 2


def test_a_certificate_that_nobody_vouches_for_is_not_sent_to(certificate: Path) -> None:
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate)
    with (
        scripted(tls=serving) as server,
        client_of(f"https://localhost:{server.address[1]}", tokens=with_token()) as gateway,
    ):
        came = gateway.charge(ORDER)
        assert isinstance(came, NotSent)
        assert did_not_reach(came)
        assert server.received == []


def test_a_handshake_that_never_ends_is_not_sent(server: ScriptedServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"https://127.0.0.1:{mute.getsockname()[1]}"
        with client_of(address, tokens=with_token(), timeouts=SHORT) as gateway:
            assert gateway.charge(ORDER) == NotSent("ConnectTimeout")
