"""Rows as values, and rows as one JSON parameter.

A result is read into a dataclass that has a field for each column. One parameter for each value of many rows costs
more time than the statement.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar, get_args, get_type_hints

from sqlalchemy import JSON, ColumnClause, Result, TableValuedAlias, bindparam, cast, func
from sqlalchemy.sql.type_api import TypeEngine

ROWS = "rows"  # the name of the parameter
T = TypeVar("T")
_FIELDS: dict[type[Any], Sequence[tuple[str, type[Enum] | None]]] = {}


def read_each(kind: type[T], found: Result[Any]) -> Iterator[T]:
    """Yield each row as a value of a dataclass or a named tuple, whose fields have the names of the columns.

    The text of a column becomes the enum of its field. Further columns are left out.
    """
    names = list(found.keys())
    places = [(names.index(name), enum) for name, enum in _fields(kind)]
    for row in found:
        yield kind(*[
            row[place] if enum is None or row[place] is None else enum(row[place]) for place, enum in places
        ])  # fmt: skip


def read_all(kind: type[T], found: Result[Any]) -> list[T]:
    """As `read_each`, all rows at once."""
    return list(read_each(kind, found))


def read_first(kind: type[T], found: Result[Any]) -> T | None:
    """As `read_each`, of a statement that returns one row at most."""
    return next(iter(read_all(kind, found)), None)


def _fields(kind: type[Any]) -> Sequence[tuple[str, type[Enum] | None]]:
    """The fields of a class in their order, each with its enum; found once, not for each result."""
    if kind not in _FIELDS:
        _FIELDS[kind] = [(name, _enum_of(hint)) for name, hint in get_type_hints(kind).items()]
    return _FIELDS[kind]


def _enum_of(hint: Any) -> type[Enum] | None:
    parts = [part for part in (hint, *get_args(hint)) if isinstance(part, type) and issubclass(part, Enum)]
    return parts[0] if parts else None


def given_rows(name: str, *columns: ColumnClause[Any]) -> TableValuedAlias:
    """Return the given rows as a table with this name and these typed columns, for a statement."""
    text = cast(bindparam(ROWS, type_=_AsItIs()), JSON)
    return func.json_to_recordset(text).table_valued(*columns).render_derived(name=name, with_types=True)


def as_rows(rows: Sequence[Mapping[str, object]]) -> dict[str, str]:
    """The parameter of given_rows; instants and dates go as text."""
    return {ROWS: json.dumps(rows, default=str, ensure_ascii=False)}


class _AsItIs(TypeEngine[str]):
    """JSON that is encoded already; SQLAlchemy's own type would encode it again."""

    __visit_name__ = "text"
