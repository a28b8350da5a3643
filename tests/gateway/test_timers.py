"""The lists of PortOne's schedules: a plain array, as the interface file says, or pages, as its clients read."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schedules.charging.outcomes import Refused, Unknown
from tests.gateway.scripted import Act, ScriptedServer, answer, client_of, scripted
from worker.gateway.port import Timed
from worker.gateway.portone_v1.client import PortOneV1

SINCE = datetime(2026, 3, 1, tzinfo=UTC)
UNTIL = SINCE + timedelta(days=60)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted() as running:
        yield running


@pytest.fixture
def portone(server: ScriptedServer) -> Iterator[PortOneV1]:
    with client_of(server.url) as client:
        yield client


def entry(number: int) -> dict[str, Any]:
    return {
        "merchant_uid": f"later{number}", "schedule_at": int(SINCE.timestamp()) + number, "amount": 9900,
        "currency": "KRW", "schedule_status": "scheduled",
    }  # fmt: skip


def page(*numbers: int, total: int, following: object) -> Act:
    listed = [entry(number) for number in numbers]
    response = {"total": total, "previous": 0, "next": following, "list": listed}
    return answer(200, {"code": 0, "message": None, "response": response})


def array(*numbers: int) -> Act:
    return answer(200, {"code": 0, "message": None, "response": [entry(number) for number in numbers]})


PAST = answer(400, {"code": -1, "message": "존재하지 않는 페이지입니다.", "response": None})


def asked(server: ScriptedServer, portone: PortOneV1, *acts: Act) -> tuple[object, int]:
    """What the schedules of ann are when these pages are answered, and how many of them were asked for."""
    server.will(*acts)
    found = portone.timed("ann", SINCE, UNTIL)
    return found, sum("/schedule/" in received.path for received in server.received)


@pytest.mark.parametrize(
    ("acts", "count"),
    [
        ([page(1, 2, total=3, following=2), page(3, total=3, following=0)], 2),
        ([page(1, 2, 3, total=3, following=0)], 1),
        ([page(1, 2, 3, total=3, following=None)], 1),
        ([array(1, 2), array(3), array()], 3),
        ([array(1, 2, 3), PAST], 2),
    ],
    ids=["pages", "one page", "null", "arrays", "past the end"],
)
def test_every_schedule_is_listed_and_no_page_past_the_last_is_asked_for(
    server: ScriptedServer, portone: PortOneV1, acts: list[Act], count: int
) -> None:
    found, pages = asked(server, portone, *acts)
    assert isinstance(found, Timed)
    assert [entry.merchant_uid for entry in found.entries] == ["later1", "later2", "later3"]
    assert pages == count


@pytest.mark.parametrize(
    "acts",
    [
        [page(1, total=2, following=0)],
        [page(1, total=2, following=1)],
        [page(1, total=2, following="x")],
        [answer(200, {"code": 0, "message": None, "response": {"total": 1}})],
    ],
    ids=["fewer than the total", "a page that leads to itself", "no page number", "no list"],
)
def test_a_list_that_is_not_whole_is_no_answer(
    server: ScriptedServer, portone: PortOneV1, acts: list[Act]
) -> None:
    assert isinstance(asked(server, portone, *acts)[0], Unknown)


def test_a_400_on_the_first_page_is_a_refusal(server: ScriptedServer, portone: PortOneV1) -> None:
    assert isinstance(asked(server, portone, PAST)[0], Refused)
