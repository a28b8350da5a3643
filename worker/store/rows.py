"""Rows as one JSON parameter: one parameter for each value costs more time than the statement."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import JSON, ColumnClause, TableValuedAlias, bindparam, cast, func
from sqlalchemy.sql.type_api import TypeEngine

ROWS = "rows"  # the name of the parameter


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
