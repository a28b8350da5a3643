"""Which broker messages are accepted, and which headers Celery gets."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from worker.broker import messages
from worker.broker.messages import MessageRefused, Reason, Received

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TASKS = frozenset({"again.charge_status"})
RESERVED = ("requests", "charges")
HEADERS = {"task": "again.charge_status", "id": "a-1"}
RIGHT = Received("requests", b"[[], {}, {}]", "application/json", "utf-8", HEADERS, None, None)


def accepted(received: Received) -> dict[str, Any]:
    """The headers that Celery gets."""
    return messages.accepted_headers(received, TASKS, RESERVED, NOW)


def reason(check: Callable[[], object]) -> Reason:
    """Why something is refused."""
    with pytest.raises(MessageRefused) as refused:
        check()
    return refused.value.reason


def with_headers(**headers: object) -> Received:
    """A message that is right but for these headers."""
    return replace(RIGHT, headers=dict(RIGHT.headers) | headers)


def test_celery_gets_no_header_that_was_not_checked() -> None:
    soon = (NOW + timedelta(minutes=10)).isoformat()
    headers = {"expires": soon, "ignore_result": True, "timelimit": [None, None], "retries": 0}
    dropped = {"shadow": "x", "stamps": {"a": 1}, "group": "g", "root_id": [], "argsrepr": "a" * 9, "other": {}}
    assert accepted(with_headers(**headers, **dropped)) == {
        "id": "a-1", "task": "again.charge_status", "lang": "py", "expires": soon, "ignore_result": True,
    }  # fmt: skip


@pytest.mark.parametrize("task", ["again.charge", "celery.starmap", None, ["again.charge_status"], {}])
def test_a_task_that_the_queue_may_not_carry_is_refused(task: object) -> None:
    assert reason(lambda: accepted(with_headers(task=task))) is Reason.TASK_NOT_ALLOWED


@pytest.mark.parametrize("eta", ["2026-01-01T00:00:00+00:00", "2999-01-01T00:00:00+00:00", 5, ""])
def test_a_delayed_message_is_refused(eta: object) -> None:
    assert reason(lambda: accepted(with_headers(eta=eta))) is Reason.DELAYED


@pytest.mark.parametrize("expires", ["soon", 5, [], "2026-01-01T00:00:00", "2026-01-02T00:00:01+00:00"])
def test_an_expiry_that_is_far_ahead_or_no_instant_is_refused(expires: object) -> None:
    assert reason(lambda: accepted(with_headers(expires=expires))) is Reason.BAD_EXPIRY


@pytest.mark.parametrize("name", ["callbacks", "errbacks", "chain", "chord", "delivery_info"])
def test_a_body_that_names_further_tasks_is_refused(name: str) -> None:
    assert (
        reason(lambda: messages.check_body([[], {}, {name: [{"task": "again.charge"}]}])) is Reason.EMBEDDED_TASKS
    )


def test_the_body_that_celery_itself_sends_is_accepted() -> None:
    nothing = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    messages.check_body([[1], {"a": 2}, nothing])
    messages.check_body([[], {}, {}])


def test_an_answer_is_sent_to_no_queue_of_ours() -> None:
    assert reason(lambda: accepted(replace(RIGHT, reply_to="charges"))) is Reason.BAD_REPLY
    assert reason(lambda: accepted(replace(RIGHT, reply_to=["a"]))) is Reason.BAD_REPLY
    assert accepted(replace(RIGHT, reply_to="amq.gen-1", correlation_id="a-1"))["id"] == "a-1"


def test_a_message_above_the_bound_is_refused_before_it_is_decoded() -> None:
    large = b" " * (messages.LARGEST + 1)
    assert reason(lambda: accepted(replace(RIGHT, body=large))) is Reason.TOO_LARGE
    assert reason(lambda: messages.read_envelope(large, "requests")) is Reason.TOO_LARGE


def test_an_envelope_keeps_neither_its_route_nor_its_tag_nor_a_field_of_ours() -> None:
    sent = {
        "body": "e30=", "content-type": "application/json", "content-encoding": "utf-8", "headers": {"id": "a-1"},
        "properties": {
            "body_encoding": "base64", "delivery_tag": "another's", "correlation_id": "a-1", "priority": 9,
            "delivery_info": {"exchange": "x", "routing_key": "charges"},
        },
        "again-refused": ["too_large", "x"],
    }  # fmt: skip
    read = messages.read_envelope(json.dumps(sent).encode(), "requests")
    assert read["properties"].pop("delivery_tag") != "another's"
    assert read == {
        "body": "e30=", "content-type": "application/json", "content-encoding": "utf-8", "headers": {"id": "a-1"},
        "properties": {
            "body_encoding": "base64", "correlation_id": "a-1",
            "delivery_info": {"exchange": "", "routing_key": "requests"},
        },
    }  # fmt: skip


def given_back(envelope: dict[str, Any]) -> dict[str, Any]:
    """What kombu pushes when it returns a message to its queue."""
    envelope["headers"]["redelivered"] = True
    envelope["properties"]["delivery_info"]["redelivered"] = True
    return envelope


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff",
        b" " * (messages.LARGEST + 1),
        b'{"headers": {"compression": "zlib"}, "properties": {}, "body": ""}',
    ],
)
def test_a_refused_message_that_is_delivered_again_keeps_its_reason_its_size_and_its_digest(raw: bytes) -> None:
    why = reason(lambda: messages.read_envelope(raw, "requests"))
    refused = messages.refused_envelope(raw, "requests", why)
    again = messages.read_envelope(json.dumps(given_back(refused)).encode(), "requests")
    letter = messages.refused_letter("requests", again["properties"])
    assert letter == messages.dead_letter("requests", raw, {}, why)
    assert again["properties"]["delivery_tag"] != refused["properties"]["delivery_tag"]


DIGEST = "0" * 64


@pytest.mark.parametrize(
    "mark",
    [
        None, 5, [], ["too_large", 5], ["unknown", 5, DIGEST], ["forged_mark", 5, DIGEST], [[], 5, DIGEST],
        ["too_large", -1, DIGEST], ["too_large", True, DIGEST], ["too_large", 2**40, DIGEST],
        ["too_large", 5, "4111 1111 1111 1111"], ["too_large", 5, None], ["too_large", 5, DIGEST, 5],
    ],
)  # fmt: skip
def test_a_mark_of_refusal_that_this_code_cannot_have_written_is_no_mark(mark: object) -> None:
    forged = messages.refused_envelope(b"", "requests", Reason.TOO_LARGE)
    forged["properties"][messages.REFUSED] = mark
    read = messages.read_envelope(json.dumps(given_back(forged)).encode(), "requests")
    assert messages.refused_letter("requests", read["properties"]) is None


@pytest.mark.parametrize("change", [{"body": "e30="}, {"headers": {"id": "a-1", "task": "again.charge_status"}}])
def test_a_mark_of_refusal_on_a_message_with_contents_is_no_mark(change: dict[str, Any]) -> None:
    marked = messages.refused_envelope(b"", "requests", Reason.TOO_LARGE) | change
    read = messages.read_envelope(json.dumps(given_back(marked)).encode(), "requests")
    assert messages.refused_letter("requests", read["properties"]) is None
    assert read["body"] == marked["body"]


def test_a_dead_letter_holds_nothing_of_the_contents() -> None:
    card = "4111 1111 1111 1111"
    letter = messages.dead_letter("requests", card.encode(), {"task": card, "id": card}, Reason.BAD_BODY)
    assert (letter.task, letter.message_id, letter.size) == (None, None, len(card))
    assert card not in repr(letter)


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_wrong_clock_lets_no_message_expire(hours: int) -> None:
    """Guard: Celery compares the expiry with the machine's clock, and so gets it by that clock."""
    ahead = timedelta(hours=hours)
    received = with_headers(expires=(NOW + timedelta(minutes=10)).isoformat())
    headers = messages.accepted_headers(received, TASKS, RESERVED, NOW + ahead, ahead)
    assert datetime.fromisoformat(headers["expires"]) == NOW + ahead + timedelta(minutes=10)
