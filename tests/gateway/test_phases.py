"""What a failure comes to depends on its phase: real sockets that refuse, hang, drip, reset and lie."""

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from schedules.charging.outcomes import NotSent, Outcome, Paid, Refused, Unknown
from tests.gateway.samples import FAILED, ORDER, PAID, envelope, page
from tests.gateway.scripted import (
    AMPLE,
    SHORT,
    Act,
    ScriptedServer,
    answer,
    client_of,
    close,
    drip,
    exactly,
    hang,
    reset,
    scripted,
    token_answer,
)
from worker.clock import elapsed, wait_until
from worker.gateway.port import Found
from worker.gateway.portone_v1.settings import PortOneSettings
from worker.gateway.portone_v1.tokens import MemoryTokens
from worker.gateway.timeouts import BadGatewaySettings, Timeouts
from worker.gateway.transport import BODY_LIMIT

PAID_BODY = envelope(PAID)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted() as running:
        yield running


def charge(server: ScriptedServer, act: Act, timeouts: Timeouts = AMPLE) -> Outcome:
    server.will(act)
    with client_of(server.url, timeouts=timeouts) as gateway:
        return gateway.charge(ORDER)


def with_token() -> MemoryTokens:
    tokens = MemoryTokens()
    tokens.write("token-from-the-store", 1800)
    return tokens


def test_a_port_that_nobody_listens_on_is_not_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with client_of(f"http://127.0.0.1:{port}", tokens=with_token()) as gateway:
        assert gateway.charge(ORDER) == NotSent("ConnectError")
        assert gateway.find_all(ORDER.merchant_uid) == NotSent("ConnectError")


def test_a_name_that_nobody_has_is_not_sent() -> None:
    with client_of("http://gateway-invalid.internal", tokens=with_token()) as gateway:
        assert gateway.charge(ORDER) == NotSent("ConnectError")


def test_a_host_that_does_not_take_the_connection_is_not_sent() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]  # fill the backlog, so that the kernel answers no more
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(address)
        with client_of(f"http://127.0.0.1:{address[1]}", tokens=with_token(), timeouts=SHORT) as gateway:
            outcome = gateway.charge(ORDER)
        for one in waiting:
            one.close()
    assert outcome == NotSent("ConnectTimeout")


def test_a_server_that_speaks_no_tls_is_not_sent(server: ScriptedServer) -> None:
    server.will(close)
    with client_of(server.url.replace("http:", "https:"), tokens=with_token(), timeouts=SHORT) as gateway:
        assert gateway.charge(ORDER) in (NotSent("ConnectError"), NotSent("ConnectTimeout"))


def test_silence_after_the_request_is_unknown(server: ScriptedServer) -> None:
    assert charge(server, hang, replace(AMPLE, read=0.3)) == Unknown("ReadTimeout")
    assert len(server.received) == 1


def test_a_reset_after_the_request_is_unknown(server: ScriptedServer) -> None:
    assert charge(server, reset) == Unknown("ReadError")
    assert len(server.received) == 1


def test_a_close_without_an_answer_is_unknown_and_the_request_is_not_repeated(server: ScriptedServer) -> None:
    assert charge(server, close) == Unknown("RemoteProtocolError")
    assert len(server.received) == 1


@pytest.mark.parametrize(
    "raw",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + PAID_BODY[:100],
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"cod\r\n',
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nContent-Length: 12\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
    ],
    ids=lambda raw: repr(raw[:60]),
)
def test_an_answer_that_breaks_http_is_unknown(server: ScriptedServer, raw: bytes) -> None:
    assert charge(server, exactly(raw)) == Unknown("RemoteProtocolError")


def test_a_body_up_to_the_end_of_the_connection_is_read_but_not_believed_when_cut(server: ScriptedServer) -> None:
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    assert isinstance(charge(server, exactly(head + PAID_BODY)), Paid)
    cut = charge(server, exactly(head + PAID_BODY[:-30]))
    assert isinstance(cut, Unknown)
    assert "cannot be read" in cut.reason


def test_switching_protocols_is_unknown(server: ScriptedServer) -> None:
    raw = b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
    assert isinstance(charge(server, exactly(raw)), Unknown)


def test_a_zipped_answer_was_not_asked_for_and_is_not_unpacked(server: ScriptedServer) -> None:
    outcome = charge(server, answer(200, b"\x1f\x8b" + b"\0" * 50, **{"Content-Encoding": "gzip"}))
    assert isinstance(outcome, Unknown)
    assert server.received[0].headers["accept-encoding"] == "identity"


def test_a_body_without_end_is_given_up_at_a_bound(server: ScriptedServer) -> None:
    huge = exactly(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b" " * (BODY_LIMIT + 1))
    outcome = charge(server, huge, replace(SHORT, read=5, deadline=20))
    assert outcome == Unknown(f"HTTP 200 with more than {BODY_LIMIT} bytes")


DRIPS = {
    "of the body": drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x"),
    "of the headers": drip(b"HTTP/1.1 200 OK\r\n", b"X"),
    "of `102 Processing`": drip(b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "of chunks": drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
}


@pytest.mark.parametrize("act", DRIPS.values(), ids=DRIPS.keys())
def test_a_slow_drip_ends_at_the_deadline_though_no_read_ever_timed_out(server: ScriptedServer, act: Act) -> None:
    # Guard: the second bound of a line's watch. Without it each byte buys another read time-out.
    began = time.monotonic()
    assert charge(server, act, replace(SHORT, read=0.3, deadline=0.6)) == Unknown("ReadTimeout")
    assert 0.5 < time.monotonic() - began < 5


def test_a_time_out_on_one_call_does_not_spoil_the_next(server: ScriptedServer) -> None:
    server.will(hang, answer(200, PAID_BODY))
    with client_of(server.url, timeouts=replace(AMPLE, read=1)) as gateway:
        assert gateway.charge(ORDER) == Unknown("ReadTimeout")
        assert isinstance(gateway.charge(ORDER), Paid)


def test_no_redirect_is_followed(server: ScriptedServer) -> None:
    outcome = charge(server, answer(307, b"", Location=server.url + "/elsewhere"))
    assert isinstance(outcome, Refused)
    assert len(server.received) == 1


def test_a_proxy_of_the_environment_is_not_used(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert isinstance(charge(server, answer(200, PAID_BODY)), Paid)


def test_calls_after_each_other_share_one_connection(server: ScriptedServer) -> None:
    server.will(*[answer(200, PAID_BODY)] * 5)
    with client_of(server.url) as gateway:
        for _ in range(5):
            gateway.charge(ORDER)
    assert server.connections == 1


def test_a_connection_that_the_server_closed_while_idle_is_not_used_again(server: ScriptedServer) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(PAID_BODY)}\r\n\r\n".encode()
    server.will(exactly(head + PAID_BODY, keep=False), answer(200, PAID_BODY))
    with client_of(server.url) as gateway:
        assert isinstance(gateway.charge(ORDER), Paid)
        assert wait_until(lambda: server.closed == 1, 20)
        assert isinstance(gateway.charge(ORDER), Paid)
    assert len(server.received) == 2


def test_each_call_under_way_has_a_connection_of_its_own(server: ScriptedServer) -> None:
    meeting = threading.Barrier(4)

    def meet(server: ScriptedServer, peer: socket.socket) -> bool:
        meeting.wait(5)
        return answer(200, PAID_BODY)(server, peer)

    server.will(*[meet] * 4)
    outcomes: list[Outcome] = []
    with client_of(server.url, tokens=with_token(), timeouts=replace(SHORT, read=5, deadline=6)) as gateway:
        threads = [threading.Thread(target=lambda: outcomes.append(gateway.charge(ORDER))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert [type(outcome) for outcome in outcomes] == [Paid] * 4
    assert server.connections == 4


def test_closing_lets_go_of_all_connections_even_of_one_in_use(server: ScriptedServer) -> None:
    server.will(answer(200, PAID_BODY), hang)
    with client_of(server.url) as gateway:
        gateway.charge(ORDER)
        late = threading.Thread(target=gateway.charge, args=(ORDER,))
        late.start()
        assert wait_until(lambda: len(server.received) == 2, 20)
        gateway.close()
        late.join(10)
        assert not late.is_alive()


def test_a_charge_is_not_begun_when_its_answer_could_not_be_waited_for(server: ScriptedServer) -> None:
    # Guard: the token's patience ends at deadline - read, so that no call outlives the deadline.
    def late(server: ScriptedServer, peer: socket.socket) -> bool:
        server.stopped.wait(0.5)
        return token_answer(1)(server, peer)

    server.token_acts.append(late)
    server.will(answer(200, PAID_BODY))
    with client_of(server.url, timeouts=replace(SHORT, read=0.8, deadline=1)) as gateway:
        assert gateway.charge(ORDER) == NotSent("no access token: ReadTimeout")
    assert server.received == []


def test_a_name_that_is_looked_up_for_too_long_is_not_sent(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: no time-out of a socket counts the look-up; a call that began after it would outlive its lease."""
    look_up = socket.getaddrinfo

    def slow(*asked: Any, **more: Any) -> Any:
        server.stopped.wait(1)
        return look_up(*asked, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    server.will(answer(200, PAID_BODY))
    url = server.url.replace("127.0.0.1", "localhost")
    with client_of(url, tokens=with_token(), timeouts=SHORT) as gateway:
        assert gateway.charge(ORDER) == NotSent("ConnectTimeout")
    assert server.received == []


def test_pages_are_read_until_the_last_and_less_than_promised_is_no_answer(server: ScriptedServer) -> None:
    first, last = page([FAILED], total=2, following=2), page([PAID], total=2)
    server.will(answer(200, first), answer(200, last))
    server.will(answer(200, page([FAILED], total=2)))
    server.will(answer(200, page([FAILED], total=2, following=1)))
    server.will(answer(200, first), answer(502, b""))
    server.will(answer(200, page([PAID | {"merchant_uid": "other"}])))
    with client_of(server.url) as gateway:
        found = gateway.find_all(ORDER.merchant_uid)
        assert isinstance(found, Found)
        assert [payment.state for payment in found.payments] == ["failed", "paid"]
        assert gateway.find_all(ORDER.merchant_uid) == Unknown("only 1 of 2 payments of a uid were listed")
        assert gateway.find_all(ORDER.merchant_uid) == Unknown("page 1 of the payments of a uid leads to page 1")
        assert gateway.find_all(ORDER.merchant_uid) == Unknown("HTTP 502: no words")
        other = gateway.find_all(ORDER.merchant_uid)
    assert isinstance(other, Unknown)
    assert other.mismatch
    paths = [request.path for request in server.received[:2]]
    uid = ORDER.merchant_uid
    assert paths == [f"/payments/findAll/{uid}?page={n}&limit=1000&sorting=started" for n in (1, 2)]


def test_time_outs_that_do_not_fit_are_refused_at_start() -> None:
    assert Timeouts() == Timeouts(5, 60, 10, 75)
    with pytest.raises(BadGatewaySettings, match="not below the deadline"):
        Timeouts(read=75)
    with pytest.raises(BadGatewaySettings, match="connect is 0"):
        Timeouts(connect=0)
    for address in ("ftp://x", "api.iamport.kr", "https://", "https://user:pass@host", "https://host?x=1"):
        with pytest.raises(BadGatewaySettings, match="address") as refused:
            PortOneSettings(address, "key", "secret")
        assert "pass@" not in str(refused.value)
    with pytest.raises(BadGatewaySettings, match="imp_secret"):
        PortOneSettings("https://host", "key", "")
    with pytest.raises(BadGatewaySettings, match="tier"):
        PortOneSettings("https://host", "key", "secret", tier="a\nb")


def test_a_call_that_must_be_over_already_is_not_sent(server: ScriptedServer) -> None:
    """A worker that was frozen after its pre-send check wakes with a time that has passed."""
    server.will(answer(200, PAID_BODY))
    with client_of(server.url) as gateway:
        gateway.prepare()
        outcome = gateway.charge(ORDER, elapsed() - 0.001)
    assert isinstance(outcome, NotSent)
    assert server.received == []


def test_a_call_at_which_a_token_is_at_hand_is_the_only_one(server: ScriptedServer) -> None:
    """What a call needs is fetched before the pre-send check, so that a stop is seen before the next call."""
    with client_of(server.url) as gateway:
        gateway.prepare()
        before = len(server.token_requests)
        server.will(answer(200, PAID_BODY))
        assert isinstance(gateway.charge(ORDER), Paid)
        assert len(server.token_requests) == before == 1
