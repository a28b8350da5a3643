"""A result is read into values, whose fields have the names of its columns."""

from dataclasses import dataclass
from typing import NamedTuple

import pytest
from sqlalchemy import text

from schedules.charging.charges import ChargeStatus, KeyedIn
from worker.services import Services
from worker.store.rows import read_all, read_each, read_first


@dataclass(frozen=True, slots=True)
class Debt:
    status: ChargeStatus
    key: str
    keyed_in: KeyedIn | None


class Pair(NamedTuple):
    second: int
    first: int


ROWS = text(
    "SELECT * FROM (VALUES ('a', 'paid', NULL, 1), ('b', 'open', 'keep', 2)) AS t (key, status, keyed_in, n)"
)


def test_fields_are_found_by_name_and_text_becomes_the_enum_of_its_field(services: Services) -> None:
    with services.engine.begin() as db:
        first, second = read_all(Debt, db.execute(ROWS))
    assert (first, second) == (Debt(ChargeStatus.PAID, "a", None), Debt(ChargeStatus.OPEN, "b", KeyedIn.KEEP))
    assert isinstance(first.status, ChargeStatus)
    assert isinstance(second.keyed_in, KeyedIn)


def test_a_named_tuple_is_read_by_the_names_of_its_columns(services: Services) -> None:
    with services.engine.begin() as db:
        assert list(read_each(Pair, db.execute(text("SELECT 1 AS first, 2 AS second")))) == [Pair(2, 1)]


def test_no_row_is_none(services: Services) -> None:
    with services.engine.begin() as db:
        assert read_first(Pair, db.execute(text("SELECT 1 AS first, 2 AS second WHERE false"))) is None


def test_a_field_without_a_column_is_an_error_with_its_name(services: Services) -> None:
    with services.engine.begin() as db, pytest.raises(ValueError, match="second"):
        read_first(Pair, db.execute(text("SELECT 1 AS first")))


def test_a_text_that_is_no_member_of_the_enum_is_an_error(services: Services) -> None:
    with services.engine.begin() as db, pytest.raises(ValueError, match="gone"):
        read_first(Debt, db.execute(text("SELECT 'a' AS key, 'gone' AS status, NULL AS keyed_in")))
