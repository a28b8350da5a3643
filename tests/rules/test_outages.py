"""What fails many times is logged when it begins, once a minute, and when it is over."""

import logging

import pytest
from celery.worker.consumer import consumer

from worker.logs import LostBroker
from worker.runtime import outages
from worker.runtime.outages import Outage


def test_an_outage_has_a_line_at_its_begin_each_minute_and_at_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    clock = [1000.0]
    outage = Outage(logging.getLogger("test"), "the database", now=lambda: clock[0])
    for _ in range(125):
        outage.failed("no connection")
        outage.succeeded()  # some work gets a connection meanwhile
        clock[0] += 1
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 3
    clock[0] += outages.CALM
    outage.succeeded()
    outage.succeeded()
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 3 + ["WARNING"]
    assert "failed 125 times" in caplog.records[-1].getMessage()
    outage.failed("no connection")
    assert caplog.records[-1].levelname == "ERROR"


def test_a_success_without_an_outage_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    Outage(logging.getLogger("test"), "the database").succeeded()
    assert caplog.records == []


def test_celerys_lines_about_a_broker_that_is_away_come_once_a_minute_until_it_connects() -> None:
    now = [0.0]
    lines, cannot_connect = LostBroker(lambda: now[0]), vars(consumer)["CONNECTION_ERROR"]

    def is_logged(words: str) -> bool:
        return lines.filter(logging.LogRecord("celery", logging.ERROR, "", 0, words, None, None))

    assert is_logged("Connection to broker lost. Trying to re-establish the connection...")
    seen = []
    for second in range(0, 130, 2):
        now[0] = float(second)
        seen += [second] if is_logged(cannot_connect) else []
    assert seen == [0, 60, 120]
    for again in ("Connection to broker lost. Trying", "Frequent restarts detected: %r"):
        assert is_logged(again)
        assert not is_logged(again)
    lines.connected()
    assert is_logged(cannot_connect), "the next outage"
