"""One access token for all: refreshed by one, dropped when refused, and never the cause of a doubled charge."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from schedules.charging.outcomes import NotSent, Outcome, Paid, Refused
from tests.gateway.samples import ORDER, PAID, envelope, refusal
from tests.gateway.scripted import (
    IMP_KEY,
    IMP_SECRET,
    SHORT,
    TOKEN_BEGIN,
    Act,
    Received,
    ScriptedServer,
    answer,
    client_of,
    close,
    hang,
    reset,
    scripted,
    token_answer,
)
from worker.clock import elapsed, wait_until
from worker.gateway.portone_v1.tokens import MARGIN, AccessToken, Issued, MemoryTokens, TokenStore

PAID_ANSWER = answer(200, envelope(PAID))
UNAUTHORIZED = answer(401, refusal("Unauthorized"))
PATIENT = replace(SHORT, read=2, deadline=8)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted() as running:
        yield running


def together(*calls: Callable[[], object]) -> None:
    """Run all of them at once, and wait for all."""
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> None:
        start.wait(5)
        call()

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)


def test_a_token_is_asked_for_with_the_account_and_sent_as_a_bearer(server: ScriptedServer) -> None:
    server.will(PAID_ANSWER)
    with client_of(server.url, tier="abc") as gateway:
        assert isinstance(gateway.charge(ORDER), Paid)
    assert server.token_requests[0].fields == {"imp_key": IMP_KEY, "imp_secret": IMP_SECRET}
    headers = server.received[0].headers
    assert headers["authorization"] == f"Bearer {TOKEN_BEGIN}1"
    assert headers["tier"] == "abc"
    assert headers["user-agent"].startswith("again/")
    assert headers["content-type"] == "application/json"
    assert "authorization" not in server.token_requests[0].headers


def test_eight_threads_cost_one_refresh(server: ScriptedServer) -> None:
    server.will(*[PAID_ANSWER] * 8)
    outcomes: list[Outcome] = []
    with client_of(server.url, timeouts=PATIENT) as gateway:
        together(*[lambda: outcomes.append(gateway.charge(ORDER))] * 8)
    assert [type(outcome) for outcome in outcomes] == [Paid] * 8
    assert len(server.token_requests) == 1


def test_two_processes_that_share_a_store_cost_one_refresh(server: ScriptedServer) -> None:
    server.will(*[PAID_ANSWER] * 8)
    outcomes: list[Outcome] = []
    shared = MemoryTokens()
    with (
        client_of(server.url, tokens=shared, timeouts=PATIENT) as one,
        client_of(server.url, tokens=shared, timeouts=PATIENT) as two,
    ):
        calls = [lambda: outcomes.append(one.charge(ORDER)), lambda: outcomes.append(two.charge(ORDER))]
        together(*calls * 4)
    assert [type(outcome) for outcome in outcomes] == [Paid] * 8
    assert len(server.token_requests) == 1


def test_a_token_from_the_store_is_used_without_asking(server: ScriptedServer) -> None:
    server.will(PAID_ANSWER)
    tokens = MemoryTokens()
    tokens.write("from-the-store", 600)
    with client_of(server.url, tokens=tokens) as gateway:
        gateway.charge(ORDER)
    assert server.received[0].headers["authorization"] == "Bearer from-the-store"
    assert server.token_requests == []


def test_after_a_401_the_token_is_refreshed_and_the_very_same_request_repeated_once(
    server: ScriptedServer,
) -> None:
    server.will(UNAUTHORIZED, PAID_ANSWER)
    tokens = MemoryTokens()
    tokens.write("revoked", 600)
    with client_of(server.url, tokens=tokens) as gateway:
        assert isinstance(gateway.charge(ORDER), Paid)
    first, second = server.received
    assert (first.method, first.path, first.body) == (second.method, second.path, second.body)
    assert first.headers["authorization"] == "Bearer revoked"
    assert second.headers["authorization"] == f"Bearer {TOKEN_BEGIN}1"
    shared = tokens.read()
    assert shared is not None
    assert shared[0] == f"{TOKEN_BEGIN}1"


def test_a_second_401_is_refused_and_nothing_is_sent_a_third_time(server: ScriptedServer) -> None:
    server.will(UNAUTHORIZED, UNAUTHORIZED, PAID_ANSWER)
    with client_of(server.url) as gateway:
        assert gateway.charge(ORDER) == Refused("HTTP 401: Unauthorized")
    assert len(server.received) == 2
    assert len(server.token_requests) == 2


def test_threads_whose_token_was_revoked_cost_one_refresh(server: ScriptedServer) -> None:
    def by_token(request: Received) -> Act:
        return UNAUTHORIZED if request.headers["authorization"] == "Bearer revoked" else PAID_ANSWER

    tokens = MemoryTokens()
    tokens.write("revoked", 600)
    server.by_request = by_token
    outcomes: list[Outcome] = []
    with client_of(server.url, tokens=tokens, timeouts=PATIENT) as gateway:
        together(*[lambda: outcomes.append(gateway.charge(ORDER))] * 8)
    assert [type(outcome) for outcome in outcomes] == [Paid] * 8
    assert len(server.token_requests) == 1


@pytest.mark.parametrize(
    "act",
    [close, reset, hang, answer(500), answer(503, "<html>"), answer(429), answer(200, "{")],
    ids=["close", "reset", "hang", "500", "503", "429", "truncated"],
)
def test_when_the_token_server_fails_the_charge_was_surely_not_sent(server: ScriptedServer, act: Act) -> None:
    server.token_acts.append(act)
    server.will(PAID_ANSWER, PAID_ANSWER)
    with client_of(server.url, timeouts=replace(PATIENT, read=1) if act is hang else PATIENT) as gateway:
        outcome = gateway.charge(ORDER)
        assert isinstance(outcome, NotSent)
        assert "token" in outcome.reason
        assert server.received == []
        assert isinstance(gateway.charge(ORDER), Paid)  # the right to refresh was given back


def test_a_token_server_that_is_not_there_is_not_sent() -> None:
    with client_of("http://127.0.0.1:1") as gateway:
        assert gateway.charge(ORDER) == NotSent("no access token: ConnectError")


def test_wrong_credentials_are_refused_as_such(server: ScriptedServer) -> None:
    words = "인증에 실패하였습니다. API키와 secret을 확인하세요."
    server.token_acts.append(answer(401, refusal(words)))
    with client_of(server.url) as gateway:
        assert gateway.charge(ORDER) == Refused(f"credentials or set-up refused: HTTP 401: {words}")
    assert server.received == []
    assert len(server.token_requests) == 1


def test_a_token_near_its_end_is_not_used_but_replaced(server: ScriptedServer) -> None:
    server.will(PAID_ANSWER, PAID_ANSWER, PAID_ANSWER)
    server.token_acts.append(token_answer(1, int(MARGIN) - 5))
    with client_of(server.url) as gateway:
        # Nothing fresher is to be had, so it is used once …
        assert isinstance(gateway.charge(ORDER), Paid)
        # … and asked for again, when the gateway gives more time.
        assert isinstance(gateway.charge(ORDER), Paid)
        assert isinstance(gateway.charge(ORDER), Paid)
    assert len(server.token_requests) == 2


def test_the_margin_lies_inside_the_gateway_s_last_minute() -> None:
    # Asked before that minute, PortOne gives the same token with the same end, and each call would ask again.
    assert 0 < MARGIN < 60


def test_a_process_that_waits_takes_the_token_that_another_brings() -> None:
    store = MemoryTokens()
    assert store.begin_refresh(30)
    waiting = AccessToken(store, lambda until: pytest.fail("asked for a token, though another process does"))
    taken: list[object] = []
    thread = threading.Thread(target=lambda: taken.append(waiting.get(elapsed() + 10)))
    thread.start()
    store.write("brought", 1800)
    thread.join(10)
    assert taken == ["brought"]


def test_waiting_for_another_process_ends() -> None:
    store = MemoryTokens()
    assert store.begin_refresh(30)
    waiting = AccessToken(store, lambda until: pytest.fail("asked for a token, though another process does"))
    assert waiting.get(elapsed() + 0.2) == NotSent("no access token in time: another process is refreshing it")


def test_waiting_for_another_thread_ends() -> None:
    asked, release = threading.Event(), threading.Event()

    def fetch(until: float) -> Issued:
        asked.set()
        release.wait(10)
        return Issued("late", 1800)

    token = AccessToken(MemoryTokens(), fetch)
    slow = threading.Thread(target=token.get, args=(elapsed() + 10,))
    slow.start()
    assert asked.wait(20)
    assert token.get(elapsed() + 0.05) == NotSent("no access token in time")
    release.set()
    slow.join(10)
    assert token.get(elapsed()) == "late"


def test_a_process_that_died_while_refreshing_is_followed_by_another() -> None:
    store = MemoryTokens()
    assert store.begin_refresh(0.05)
    follower = AccessToken(store, lambda until: Issued("fresh", 1800))
    assert follower.get(elapsed() + 10) == "fresh"
    assert store.read() is not None


def test_the_right_to_refresh_is_given_back_whatever_goes_wrong() -> None:
    def broken(until: float) -> Issued:
        raise RuntimeError("broken machine")

    store = MemoryTokens()
    with pytest.raises(RuntimeError):
        AccessToken(store, broken).get(elapsed() + 1)
    assert store.begin_refresh(1)


def test_only_the_token_that_was_refused_is_dropped() -> None:
    store = MemoryTokens()
    token = AccessToken(store, lambda until: Issued("new", 1800))
    assert token.get(elapsed() + 1) == "new"
    token.drop("old")
    assert token.get(elapsed() + 1) == "new"
    token.drop("new")
    assert store.read() is None


def test_a_shared_token_ends_when_its_time_is_over() -> None:
    store = MemoryTokens()
    store.write("short", 0.05)
    assert store.read() is not None
    assert wait_until(lambda: store.read() is None, 20)


def test_a_life_that_is_too_long_to_be_true_is_cut() -> None:
    store = MemoryTokens()
    AccessToken(store, lambda until: Issued("eternal", 1e12)).get(elapsed() + 1)
    shared = store.read()
    assert shared is not None
    assert shared[1] <= 3600


def test_memory_tokens_are_a_token_store() -> None:
    store: TokenStore = MemoryTokens()
    assert store.read() is None
    store.drop("nothing")
    assert store.begin_refresh(10)
    assert not store.begin_refresh(10)
    store.end_refresh()
    assert store.begin_refresh(10)
    store.write("t", 10)
    assert store.begin_refresh(10)


def test_a_dead_token_that_others_share_is_no_refusal_while_a_fresh_one_was_not_tried(
    server: ScriptedServer,
) -> None:
    """This process holds one dead token, the store another: counted as refused, a few such stop the account."""
    tokens = MemoryTokens()
    tokens.write("dead-1", 1800)
    server.will(PAID_ANSWER, UNAUTHORIZED, UNAUTHORIZED, PAID_ANSWER)
    with client_of(server.url, tokens=tokens) as gateway:
        assert isinstance(gateway.charge(ORDER), Paid)
        tokens.write("dead-2", 1800)
        assert isinstance(gateway.charge(ORDER), Paid)
    assert len(server.token_requests) == 1
    assert len(server.received) == 4
