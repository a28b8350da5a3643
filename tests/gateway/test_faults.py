"""A fault of ours during a call is reported as its outcome, once, and never costs an answer that was read."""

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from schedules.charging.outcomes import Unknown
from tests.gateway.scripted import AMPLE, IMP_KEY, IMP_SECRET, ScriptedServer, scripted
from tests.gateway.test_slots import PAID_ANSWER, PAID_BODY, Told, with_token
from worker.clock import elapsed
from worker.gateway.exchange import Reply
from worker.gateway.port import AT_ONCE
from worker.gateway.portone_v1.calls import Calls, request
from worker.gateway.portone_v1.settings import PortOneSettings
from worker.gateway.transport import Call, HttpClient
from worker.runtime import event_loop

SECRET = "4242-4242"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted() as running:
        yield running


def raising(fault: BaseException) -> Callable[..., Any]:
    def fail(*_: object) -> object:
        raise fault

    return fail


@pytest.mark.parametrize("fault", [AssertionError, OSError, MemoryError, KeyError, RecursionError])
def test_an_answer_whose_reading_raises_is_unknown(
    server: ScriptedServer, fault: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    """Guard: a call that is never reported holds its charge until the lease ends."""
    server.will(PAID_ANSWER)
    with closing(Calls(PortOneSettings(server.url, IMP_KEY, IMP_SECRET, AMPLE), with_token())) as calls:
        calls.prepare()
        told = Told()
        calls.call_later(request("POST", "/x", {}), raising(fault(SECRET))).begin(elapsed() + 8, AT_ONCE, told)
        assert told.first() == Unknown("an answer that could not be read, for a fault of ours")
    assert len(told.came) == 1
    assert f"{fault.__name__} at test_faults.py:" in caplog.text
    assert SECRET not in caplog.text


def test_a_call_that_raises_is_unknown(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(Calls(PortOneSettings(server.url, IMP_KEY, IMP_SECRET, AMPLE), with_token())) as calls:
        calls.prepare()
        monkeypatch.setattr(calls, "_under", raising(AssertionError(SECRET)))
        told = Told()
        calls.call_later(request("POST", "/x", {}), lambda *_: "read").begin(elapsed() + 8, AT_ONCE, told)
        assert told.first() == Unknown("a fault of ours")
    assert "AssertionError at test_faults.py:" in caplog.text
    assert SECRET not in caplog.text


def test_who_waits_for_a_request_that_raises_is_told_at_once(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(HttpClient(AMPLE)) as client:
        monkeypatch.setattr(client, "_take", raising(AssertionError(SECRET)))
        began = elapsed()
        came = client.send_and_wait(Call("POST", f"{server.url}/x", {}, b"{}"), began + 30)
        assert came == Unknown("a fault of ours")
        assert elapsed() - began < 20


@pytest.mark.parametrize("fault", [OSError(SECRET), httpx.ReadError(SECRET), RuntimeError(SECRET)], ids=repr)
def test_an_answer_is_reported_though_its_connection_cannot_be_put_back(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: Exception
) -> None:
    """Guard: the answer of a charge that was paid would be lost, and the charge would be in doubt."""
    server.will(PAID_ANSWER)
    with closing(HttpClient(AMPLE)) as client:
        monkeypatch.setattr(client, "_put_back", raising(fault))
        came = client.send_and_wait(Call("POST", f"{server.url}/x", {}, b"{}"), elapsed() + 5)
    assert came == Reply(200, PAID_BODY)
    assert type(fault).__name__ in caplog.text
    assert SECRET not in caplog.text


def test_a_fault_of_whoever_is_told_is_logged_by_its_place(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)

    async def nothing() -> None:
        """Do nothing."""

    told = Told()
    event_loop.start(nothing, raising(AssertionError(SECRET)))
    event_loop.start(nothing, told)
    told.first()
    assert "AssertionError at test_faults.py:" in caplog.text
    assert SECRET not in caplog.text
