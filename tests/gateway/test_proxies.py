"""Calls through a proxy, with a private authority and with a client certificate, each against a real server."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from schedules.charging.outcomes import NotSent, Paid, Unknown
from schedules.errors import UserError
from tests.gateway.certificates import own_certificate
from tests.gateway.proxying import Proxy, corked, proxying
from tests.gateway.samples import ORDER, PAID, envelope
from tests.gateway.scripted import AMPLE, IMP_KEY, IMP_SECRET, SHORT, ScriptedServer, answer, scripted
from tests.gateway.test_addresses import NEEDED
from tests.gateway.test_slots import LONG, begun, with_token
from worker.certificates import CertificateFiles
from worker.clock import elapsed, wait, wait_until
from worker.config import load_settings
from worker.gateway.port import Missed, Slot
from worker.gateway.portone_v1.client import PortOneV1
from worker.gateway.portone_v1.settings import PortOneSettings
from worker.gateway.portone_v1.tokens import MemoryTokens
from worker.gateway.timeouts import BadGatewaySettings, Timeouts
from worker.wiring import gateway_settings

PAID_ANSWER = answer(200, envelope(PAID))
PASSWORD = "hush-of-the-proxy"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return own_certificate(tmp_path_factory.mktemp("tls") / "server.pem")


@pytest.fixture(scope="module")
def client_certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return own_certificate(tmp_path_factory.mktemp("tls") / "client.pem")


def serving(certificate: Path, asks_for: Path | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if asks_for is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(asks_for)
    return context


@pytest.fixture
def server(certificate: Path) -> Iterator[ScriptedServer]:
    with scripted(tls=serving(certificate)) as running:
        yield running


@contextmanager
def client(
    server: ScriptedServer,
    certificates: CertificateFiles,
    proxy_url: str | None = None,
    *,
    timeouts: Timeouts = LONG,
    tokens: MemoryTokens | None = None,
) -> Iterator[PortOneV1]:
    settings = PortOneSettings(
        f"https://localhost:{server.address[1]}", IMP_KEY, IMP_SECRET, timeouts, proxy_url=proxy_url,
        certificates=certificates,
    )  # fmt: skip
    gateway = PortOneV1(settings, tokens or with_token())
    try:
        gateway.prepare()
        yield gateway
    finally:
        gateway.close()


def test_calls_go_through_the_proxy_by_one_tunnel(server: ScriptedServer, certificate: Path) -> None:
    """Guard: the slot is for the charge; the proxy's CONNECT is neither held back nor counted as the charge."""
    server.will(*[PAID_ANSWER] * 3)
    with (
        proxying() as proxy,
        client(server, CertificateFiles(certificate), proxy.url(f"me:{PASSWORD}@")) as gateway,
    ):
        slot = Slot(elapsed() + 0.5, elapsed() + 5)
        told = begun(gateway.sending(ORDER), slot)
        assert isinstance(told.first(), Paid)
        assert told.at[0] >= slot.earliest
        assert isinstance(gateway.charge(ORDER), Paid)
        assert isinstance(gateway.charge(ORDER), Paid)
        assert len(proxy.asked) == 1
        assert proxy.asked[0].startswith(f"CONNECT localhost:{server.address[1]} HTTP/1.1\r\n".encode())
        assert b"Proxy-Authorization: Basic " in proxy.asked[0]
    assert server.connections == 1
    assert all("proxy-authorization" not in request.headers for request in server.received)


def test_a_proxy_may_itself_speak_tls(server: ScriptedServer, certificate: Path) -> None:
    server.will(PAID_ANSWER)
    with (
        proxying(tls=serving(certificate)) as proxy,
        client(server, CertificateFiles(certificate), proxy.url()) as gateway,
    ):
        assert isinstance(gateway.charge(ORDER), Paid)
        assert len(proxy.asked) == 1


def answers_twice(server: ScriptedServer, peer: socket.socket) -> bool:
    """Two answers, each in a TLS record of its own, in one segment."""
    with corked(peer):
        PAID_ANSWER(server, peer)
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nSTALE")
    return True


def test_a_surplus_answer_behind_a_proxy_with_tls_is_not_read_as_the_next_one(certificate: Path) -> None:
    """Guard: it stays in the buffer of the proxy's TLS, where nothing shows it; the next charge would get it."""
    with (
        scripted(*[answers_twice] * 3, tls=serving(certificate)) as server,
        proxying(tls=serving(certificate), by_record=True) as proxy,
        client(server, CertificateFiles(certificate), proxy.url()) as gateway,
    ):
        for _ in range(3):
            assert isinstance(gateway.charge(ORDER), Paid)
        assert server.connections == len(proxy.asked) == 3


@pytest.mark.parametrize("tls", [False, True], ids=["http proxy", "https proxy"])
def test_what_a_gateway_says_while_a_call_waits_for_another_slot_costs_the_connection(
    certificate: Path, tls: bool
) -> None:
    """Guard: a connection that is parked behind a proxy is read before the call leaves on it."""
    spoken: list[socket.socket] = []

    class Speaks(ssl.SSLContext):
        """Answers the first connection before it is asked."""

        def wrap_socket(self, *given: Any, **more: Any) -> Any:
            wait(0.3)  # the slot passes meanwhile
            spoken.append(super().wrap_socket(*given, **more))
            return spoken[-1]

    context = Speaks(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with (
        scripted(PAID_ANSWER, tls=context) as server,
        proxying(tls=serving(certificate) if tls else None, by_record=True) as proxy,
        client(server, CertificateFiles(certificate), proxy.url()) as gateway,
    ):
        sending = gateway.sending(ORDER)
        assert begun(sending, Slot(0, elapsed() + 0.1)).first() == Missed()
        spoken[0].sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nSTALE")
        wait(0.3)
        assert isinstance(begun(sending, Slot(0, elapsed() + 5)).first(), Paid)
        assert server.connections == 2


def test_the_proxy_is_open_before_the_slot_begins(server: ScriptedServer, certificate: Path) -> None:
    server.will(PAID_ANSWER)
    with proxying() as proxy, client(server, CertificateFiles(certificate), proxy.url()) as gateway:
        told = begun(gateway.sending(ORDER), Slot(elapsed() + 60, elapsed() + 70), until=elapsed() + 90)
        assert wait_for_tunnel(proxy, server)
        assert told.came == server.received == []


def wait_for_tunnel(proxy: Proxy, server: ScriptedServer) -> bool:
    return wait_until(lambda: bool(proxy.asked) and server.connections == 1, 20)


REFUSALS = {
    "wants a password": (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "refused with HTTP 407"),
    "forbids it": (b"HTTP/1.1 403 Forbidden\r\n\r\n", "refused with HTTP 403"),
    "cannot reach it": (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\n\r\nno", "refused with HTTP 502"),
    "answers garbage": (b"garbage\r\n\r\n", "did not answer in HTTP"),
    "closes": (b"", "did not answer in HTTP"),
    "says nothing": (None, "did not answer in time"),
    "opens no tunnel": (b"HTTP/1.1 200 OK\r\n\r\nhello, this is no TLS", ""),
}


@pytest.mark.parametrize(("said", "reason"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_proxy_that_opens_no_tunnel_is_named_and_nothing_is_sent(
    server: ScriptedServer, certificate: Path, said: bytes | None, reason: str
) -> None:
    with (
        proxying(said) as proxy,
        client(
            server,
            CertificateFiles(certificate),
            proxy.url(f"me:{PASSWORD}@"),
            timeouts=SHORT if said is None else AMPLE,
        ) as gateway,
    ):
        for came in (gateway.charge(ORDER), begun(gateway.sending(ORDER)).first()):
            assert isinstance(came, NotSent)
            assert came.reason.startswith("Connect")
            assert PASSWORD not in came.reason
            if reason:
                assert came.reason.startswith("ConnectError: the proxy of AGAIN_PROXY_URL")
                assert reason in came.reason
    assert server.received == server.token_requests == []


def test_a_proxy_that_is_down_is_named_and_nothing_is_sent(server: ScriptedServer, certificate: Path) -> None:
    with proxying() as proxy:
        url = proxy.url(f"me:{PASSWORD}@")
    with client(server, CertificateFiles(certificate), url) as gateway:
        assert gateway.charge(ORDER) == NotSent("ConnectError: the proxy of AGAIN_PROXY_URL cannot be reached")
    assert server.connections == 0


def test_an_address_on_a_private_network_without_tls_is_reached_directly() -> None:
    """The answer of a proxy to plain HTTP cannot be told from the gateway's."""
    with scripted(PAID_ANSWER) as plain, proxying() as proxy:
        settings = PortOneSettings(plain.url, IMP_KEY, IMP_SECRET, LONG, proxy_url=proxy.url())
        gateway = PortOneV1(settings, with_token())
        assert isinstance(gateway.charge(ORDER), Paid)
        gateway.close()
        assert proxy.asked == []


def test_a_certificate_of_a_private_authority_is_trusted_where_it_is_set(
    server: ScriptedServer, certificate: Path
) -> None:
    server.will(PAID_ANSWER)
    with client(server, CertificateFiles(certificate)) as gateway:
        assert isinstance(gateway.charge(ORDER), Paid)
    with client(server, CertificateFiles()) as gateway:
        refused = gateway.charge(ORDER)
    assert isinstance(refused, NotSent)
    assert refused.reason.startswith("ConnectError: a certificate is not trusted (CERTIFICATE_VERIFY_FAILED)")
    assert "AGAIN_TLS_CA" in refused.reason
    assert len(server.received) == 1


def test_the_client_certificate_is_shown(certificate: Path, client_certificate: Path) -> None:
    with (
        scripted(PAID_ANSWER, tls=serving(certificate, asks_for=client_certificate)) as server,
        client(server, CertificateFiles(certificate, client_certificate)) as gateway,
    ):
        assert isinstance(gateway.charge(ORDER), Paid)


@pytest.mark.parametrize("shows", [False, True], ids=["none", "another"])
def test_a_server_that_does_not_accept_our_certificate_is_not_sent_to_twice(
    certificate: Path, client_certificate: Path, shows: bool
) -> None:
    """The server says so after the handshake: a request that was written by then is Unknown, and looked up."""
    files = CertificateFiles(certificate, certificate if shows else None)
    with (
        scripted(PAID_ANSWER, tls=serving(certificate, asks_for=client_certificate)) as server,
        client(server, files) as gateway,
    ):
        at_once = gateway.charge(ORDER)
        assert isinstance(at_once, Unknown)
        assert "AGAIN_TLS_CLIENT_CERT" in at_once.reason
        in_a_slot = begun(gateway.sending(ORDER), Slot(elapsed() + 3, elapsed() + 5)).first()
        assert isinstance(in_a_slot, NotSent)
        assert "AGAIN_TLS_CLIENT_CERT" in in_a_slot.reason
        assert server.received == []


# Settings


def test_the_settings_reach_the_client(certificate: Path, client_certificate: Path) -> None:
    settings = load_settings(NEEDED | {
        "AGAIN_PROXY_URL": f"http://me:{PASSWORD}@proxy.example:3128", "AGAIN_TLS_CA": str(certificate),
        "AGAIN_TLS_CLIENT_CERT": str(client_certificate), "AGAIN_TLS_CLIENT_KEY": "",
    })  # fmt: skip
    made = gateway_settings(settings, settings.main_account)
    assert made.proxy_url == f"http://me:{PASSWORD}@proxy.example:3128"
    assert made.certificates == CertificateFiles(certificate, client_certificate, None)
    for shown in (repr(settings), str(settings), repr(made), settings.model_dump_json()):
        assert PASSWORD not in shown


@pytest.mark.parametrize(
    "url",
    ["proxy.example:3128", "socks5://proxy.example", "http://", f"http://me:{PASSWORD}@[::1", "http://proxy/path",
     f"http://me:{PASSWORD}#x@proxy", f"http://me:{PASSWORD}@proxy:99999", "http://proxy:0",
     f"http://me:{PASSWORD}\x7f@proxy:3128", f"http://me:{PASSWORD}@999.1.1.1:3128", f"http://me:{PASSWORD}@xn--:3128"],
)  # fmt: skip
def test_a_proxy_that_cannot_be_one_is_refused_at_start_without_its_password(url: str) -> None:
    with pytest.raises(UserError, match="AGAIN_PROXY_URL: it is not like http://user:password@proxy") as refused:
        load_settings(NEEDED | {"AGAIN_PROXY_URL": url})
    assert PASSWORD not in str(refused.value)


def test_a_gateway_at_an_ipv6_address_is_refused_behind_a_proxy() -> None:
    """httpcore writes such an address into CONNECT without its brackets."""
    proxy = {"AGAIN_PROXY_URL": "http://proxy.example:3128"}
    words = "AGAIN_PROXY_URL"
    with pytest.raises(UserError, match=words):
        load_settings(NEEDED | proxy | {"AGAIN_PORTONE_URL": "https://[fd00::1]:8443"})
    with pytest.raises(BadGatewaySettings, match=words):
        PortOneSettings("https://[fd00::1]:8443", "k", "s", proxy_url="http://proxy.example:3128")
    load_settings(NEEDED | {"AGAIN_PORTONE_URL": "https://[fd00::1]:8443"})
    load_settings(NEEDED | proxy | {"AGAIN_PORTONE_URL": "http://[fd00::1]:8443"})


def wrong_files(folder: Path) -> dict[str, tuple[dict[str, Path], str]]:
    good, other = own_certificate(folder / "good.pem"), own_certificate(folder / "other.pem")
    locked = own_certificate(folder / "locked.pem", b"a password")
    text = folder / "text.pem"
    text.write_text("no certificate")
    split = folder / "cert-only.pem"
    split.write_bytes(good.read_bytes()[good.read_bytes().index(b"-----BEGIN CERTIFICATE") :])
    ca, cert, key = "AGAIN_TLS_CA", "AGAIN_TLS_CLIENT_CERT", "AGAIN_TLS_CLIENT_KEY"
    return {
        "no CA": ({ca: folder / "none.pem"}, r"AGAIN_TLS_CA '.*none.pem' cannot be read: No such file"),
        "a folder": ({ca: folder}, "AGAIN_TLS_CA '.*' cannot be read: Is a directory"),
        "a CA of text": ({ca: text}, "AGAIN_TLS_CA '.*text.pem' holds no certificate in PEM"),
        "no certificate": ({cert: folder / "none.pem"}, "AGAIN_TLS_CLIENT_CERT '.*none.pem' cannot be read"),
        "a certificate of text": (
            {cert: text},
            "AGAIN_TLS_CLIENT_CERT '.*text.pem': no certificate and its",
        ),
        "no key in it": ({cert: split}, "AGAIN_TLS_CLIENT_CERT '.*cert-only.pem': no certificate and its own key"),
        "another's key": ({cert: split, key: other}, "AGAIN_TLS_CLIENT_KEY '.*other.pem': no certificate and its"),
        "no key": ({cert: split, key: folder / "none.pem"}, "AGAIN_TLS_CLIENT_KEY '.*none.pem' cannot be read"),
        "an encrypted key": ({cert: locked}, "the key must be unencrypted"),
        "a key alone": ({key: good}, "AGAIN_TLS_CLIENT_KEY is set and AGAIN_TLS_CLIENT_CERT is not"),
    }


@pytest.mark.parametrize("case", [
    "no CA", "a folder", "a CA of text", "no certificate", "a certificate of text", "no key in it",
    "another's key", "no key", "an encrypted key", "a key alone",
])  # fmt: skip
def test_a_certificate_file_that_is_wrong_is_refused_at_start_by_its_setting(case: str, tmp_path: Path) -> None:
    given, words = wrong_files(tmp_path)[case]
    with pytest.raises(UserError, match=words):
        load_settings(NEEDED | {name: str(path) for name, path in given.items()})
