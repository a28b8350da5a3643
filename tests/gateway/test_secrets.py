"""No card number, birth date, password, secret or token is kept, shown, logged or thrown."""

import logging
import traceback
from collections.abc import Iterator
from dataclasses import replace

import pytest

from schedules.charging.charges import ChargeKind
from schedules.charging.identity import charge_key, merchant_uid
from schedules.charging.outcomes import Declined, Unknown
from tests.gateway.samples import CARD, CARD_NUMBER, KEY, ORDER, PAID, envelope, refusal
from tests.gateway.scripted import (
    AMPLE,
    IMP_SECRET,
    SHORT,
    TOKEN_BEGIN,
    Act,
    ScriptedServer,
    answer,
    client_of,
    close,
    exactly,
    hang,
    reset,
    scripted,
    token_answer,
)
from worker.gateway.masking import told
from worker.gateway.port import KeyDeclined
from worker.gateway.portone_v1.client import PortOneV1
from worker.gateway.portone_v1.settings import PortOneSettings
from worker.gateway.portone_v1.tokens import AccessToken, Issued, MemoryTokens
from worker.gateway.transport import Call
from worker.logs import masked

SECRETS = (CARD_NUMBER, CARD.number, "4111 1111 1111 1111", "820213", "2031-07", IMP_SECRET, TOKEN_BEGIN)
ECHO = f"거절 카드{CARD_NUMBER}오류 {CARD.number} 4111 1111 1111 1111 생년월일 820213 유효기간 2031-07 비밀번호"
ECHOING = PAID | {"status": "failed", "fail_reason": ECHO}


def no_secret_in(text: str) -> None:
    for secret in SECRETS:
        assert secret not in text, secret


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted() as running:
        yield running


ACTS: dict[str, Act] = {
    "an answer that repeats the card": answer(200, refusal(ECHO)),
    "a failure that repeats the card": answer(200, envelope(ECHOING)),
    "a 400 that repeats the card": answer(400, refusal(ECHO)),
    "a 502 that repeats the card": answer(502, f"<html>{ECHO}</html>"),
    "an unclear answer that repeats the card": answer(200, refusal("TIMEOUT " + ECHO)),
    "an unauthorized that repeats the card": answer(401, refusal(ECHO)),
    "a key whose number is not masked": answer(200, envelope(KEY | {"card_number": CARD.number})),
    "a refusal of the uid": answer(200, refusal("이미 주문이 이루어진 건입니다. " + ECHO)),
    "a header that repeats the card": answer(200, envelope(PAID), **{"X-Echo": CARD.number}),
    "silence": hang,
    "a reset": reset,
    "a close": close,
    "garbage": exactly(ECHO.encode() + b"\r\n\r\n"),
}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS.keys())
def test_no_secret_is_in_any_value_or_log_line(
    server: ScriptedServer, caplog: pytest.LogCaptureFixture, act: Act
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("asyncio", "again.http", "again.gateway"):
        caplog.set_level(logging.DEBUG, logger=name)
    server.will(*[act] * 6)
    with client_of(server.url, timeouts=SHORT if act is hang else AMPLE) as gateway:
        values = [
            gateway.charge_card(ORDER, CARD, keep=True),
            gateway.issue_key("cus_1", CARD),
            gateway.charge_card(ORDER, replace(CARD, number=CARD_NUMBER), keep=False),
            gateway,
        ]
    assert len(server.received) >= 3
    for value in values:
        no_secret_in(repr(value))
        no_secret_in(str(value))
    assert any(record.name == "again.gateway" for record in caplog.records)
    assert any(record.name == "again.http" for record in caplog.records)
    for record in caplog.records:
        no_secret_in(record.getMessage())
        no_secret_in(repr(record.args))


def test_the_words_around_what_was_masked_are_kept(server: ScriptedServer) -> None:
    server.will(*[answer(200, refusal(f"[F113]거래거절 {CARD_NUMBER}"))] * 2)
    with client_of(server.url) as gateway:
        assert gateway.charge_card(ORDER, CARD, keep=True) == Declined("[F113]거래거절 ********1111", "F113")
        assert gateway.issue_key("cus_1", CARD) == KeyDeclined("[F113]거래거절 ********1111", "F113")


def test_no_secret_is_in_the_repr_of_what_we_hold() -> None:
    settings = PortOneSettings("https://api.iamport.kr", "the-key", IMP_SECRET)
    no_secret_in(repr(settings))
    assert "the-key" not in repr(settings)
    tokens = MemoryTokens()
    tokens.write(TOKEN_BEGIN, 1800)
    held = AccessToken(tokens, lambda until: Issued(TOKEN_BEGIN, 1800))
    call = Call("POST", "https://x", {"Authorization": TOKEN_BEGIN}, CARD_NUMBER.encode())
    for value in (tokens, held, call, Issued(TOKEN_BEGIN, 1800), CARD, PortOneV1(settings, tokens)):
        no_secret_in(repr(value))
        no_secret_in(str(value))


class BrokenStore(MemoryTokens):
    """A store whose machine breaks, so that an exception passes through a call with a card in it."""

    def drop(self, token: str) -> None:
        """Break."""
        raise ConnectionError("the database is gone")


def test_no_secret_is_in_the_traceback_of_a_broken_machine(server: ScriptedServer) -> None:
    server.will(answer(401, refusal(ECHO)))
    with (
        client_of(server.url, tokens=BrokenStore()) as gateway,
        pytest.raises(ConnectionError) as broken,
    ):
        gateway.charge_card(ORDER, CARD, keep=True)
    text = "".join(traceback.format_exception(broken.value))
    assert "the database is gone" in text
    no_secret_in(text)
    seen: BaseException | None = broken.value
    while seen is not None:
        no_secret_in(repr(seen) + repr(vars(seen)))
        seen = seen.__cause__ or seen.__context__


def test_a_network_error_leaves_nothing_but_its_name(server: ScriptedServer) -> None:
    # What httpx raises carries the request, and with it the card; it must not be chained to anything of ours.
    server.token_acts.append(token_answer(1))
    server.will(reset)
    with client_of(server.url, timeouts=AMPLE) as gateway:
        outcome = gateway.charge_card(ORDER, CARD, keep=False)
    assert outcome == Unknown("ReadError")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("no digits", "no digits"),
        ("1234567890123", "********0123"),
        ("123456789012", "123456789012"),
        ("４１１１１１１１１１１１１１１１", "********１１１１"),
        ("4111–1111–1111–1111", "********1111"),
        ("a4111111111111111b", "a********1111b"),
    ],
)
def test_runs_of_thirteen_digits_and_more_are_masked(text: str, expected: str) -> None:
    assert masked(text) == expected


def test_nothing_said_is_none() -> None:
    assert told(None) is told("") is told("  \n") is told(True) is None
    assert told(5) == "5"


def test_our_own_merchant_uids_are_not_masked_however_many_digits_they_end_in() -> None:
    """A person looks for a uid in the log; a card number beside it is masked all the same."""
    key = charge_key(ChargeKind.RENEWAL, "at14kkv3sktaz1234567", 0)
    uid = merchant_uid("test", key, 1)
    assert masked(f"{uid}: unknown 4111111111111111") == f"{uid}: unknown ********1111"
    assert masked(f"card {uid}4111111111111111") != f"card {uid}4111111111111111"
