"""Cursors of lists: read as they were written, and refused with the reason otherwise."""

import json
from base64 import urlsafe_b64encode
from datetime import UTC, datetime

import pytest

from schedules.paging import BadCursor, read_cursor, write_cursor

AT = datetime(2026, 12, 1, 0, 0, 0, 123456, tzinfo=UTC)
KINDS = (datetime, int)


def encoded(document: object) -> str:
    return urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")


def test_a_cursor_is_read_as_it_was_written() -> None:
    assert read_cursor(write_cursor("charges", "due", (AT, 7)), "charges", "due", KINDS) == (AT, 7)
    assert read_cursor(write_cursor("charges", "", (2**63 - 1,)), "charges", "", (int,)) == (2**63 - 1,)


def test_a_cursor_of_another_list_is_refused_with_both_names() -> None:
    with pytest.raises(BadCursor, match="is of the list of attempts, not of charges"):
        read_cursor(write_cursor("attempts", "", (AT, 7)), "charges", "", KINDS)


def test_a_cursor_of_other_filters_is_refused() -> None:
    with pytest.raises(BadCursor, match="with other filters; repeat the filters"):
        read_cursor(write_cursor("charges", "paid", (7,)), "charges", "due", KINDS)


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "한글", "=", "a" * 500, write_cursor("charges", "", (AT, 7))[:-4], encoded([]), encoded({"a": 1}),
        encoded(["charges", ""]), encoded("charges"), encoded([1, 2, 3]), "W" * 20000,
    ],
)  # fmt: skip
def test_what_is_no_cursor_is_refused_in_words(text: str) -> None:
    with pytest.raises(BadCursor, match="cannot be read; give the whole cursor") as refused:
        read_cursor(text, "charges", "", KINDS)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    "values",
    [
        ["2026-12-01", 1], ["no time", 1], [5, 5], [AT.isoformat(), -1], [AT.isoformat(), 2**63], [AT.isoformat()],
        [AT.isoformat(), True], [AT.isoformat(), 1.5], [AT.isoformat(), "1"], [AT.isoformat(), 1, 1], [None, 1],
    ],
)  # fmt: skip
def test_values_that_the_list_is_not_ordered_by_are_refused(values: list[object]) -> None:
    _, digest, *_ = json.loads(_decoded(write_cursor("charges", "", (AT, 7))))
    with pytest.raises(BadCursor, match="cannot be read"):
        read_cursor(encoded(["charges", digest, *values]), "charges", "", KINDS)


def _decoded(cursor: str) -> bytes:
    from base64 import urlsafe_b64decode

    return urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
