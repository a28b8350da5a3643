"""Many rows as one JSON text: a parameter for each value costs more time than all that is done with them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import JSON, ColumnClause, TableValuedAlias, bindparam, cast, func
from sqlalchemy.sql.type_api import TypeEngine

ROWS = "rows"  # the name of the parameter


def given_rows(name: str, *columns: ColumnClause[Any]) -> TableValuedAlias:
    """The rows that a statement is given, as a table of this name with these columns, each with its type."""
    text = cast(bindparam(ROWS, type_=_AsItIs()), JSON)
    return func.json_to_recordset(text).table_valued(*columns).render_derived(name=name, with_types=True)


def as_rows(rows: Sequence[Mapping[str, object]]) -> dict[str, str]:
    """The parameter of given_rows; instants and dates go as text."""
    return {ROWS: json.dumps(rows, default=str, ensure_ascii=False)}


class _AsItIs(TypeEngine[str]):
    """JSON that is text already; SQLAlchemy's own type would encode it once more."""

    __visit_name__ = "text"
