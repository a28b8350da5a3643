"""Read a list in pages by key: each statement reads a bounded number of rows, in the order of an index."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Connection, Select, Subquery, literal, select, tuple_, union_all

from schedules.paging import Key
from worker.store.rows import read_all

T = TypeVar("T")
READ_AT_ONCE = 2000  # rows that a statement reads at least, where filters may leave few of them
READ_FOR_A_PAGE = 50_000  # rows after which a page ends, although it is not full


@dataclass(frozen=True, slots=True)
class Walk:
    """What is read for a list, newest first: selects with the same columns, each in the order of an index."""

    branches: tuple[Select[Any], ...]
    order: tuple[str, ...]  # columns, unique together
    indexed: int | None = None  # how many of them the index has; all of them unless given

    @property
    def kinds(self) -> tuple[type, ...]:
        """The types of a key."""
        columns = self.branches[0].selected_columns
        return tuple(columns[name].type.python_type for name in self.order)

    def part(self, after: Key | None, many: int) -> Subquery:
        """The next so many rows after a key."""
        parts = [self._part(branch, after, many) for branch in self.branches]
        if len(parts) == 1:
            return parts[0].subquery("walked")
        both = union_all(*(part.subquery().select() for part in parts)).subquery("walked_each")
        order = [both.c[name].desc() for name in self.order]
        return select(both).order_by(*order).limit(many).subquery("walked")

    def _part(self, branch: Select[Any], after: Key | None, many: int) -> Select[Any]:
        columns = [branch.selected_columns[name] for name in self.order]
        if after is not None:
            branch = branch.where(_below(columns, after))
            if self.indexed is not None:  # an index cannot serve a comparison with columns of another table
                branch = branch.where(_below(columns[: self.indexed], after[: self.indexed], or_same=True))
        return branch.order_by(*(column.desc() for column in columns)).limit(many)


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """A list under its filters: what is read, and what is shown of it."""

    kind: type[T]
    walk: Walk
    shown: Callable[[Subquery], Select[Any]]  # joins further columns to the rows that were read, and filters them
    filters: bool  # whether it filters: else every row that is read is shown


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """A page of a list, and the key after which the next page begins; None after the last page."""

    rows: list[T]
    next: Key | None


def page(db: Connection, listing: Listing[T], after: Key | None, limit: int) -> Part[T]:
    """Read a page. It may be short of `limit` before the end, where the filters leave few of many rows."""
    found: list[tuple[Key, T]] = []
    read = 0
    while True:
        rows, after = _read(db, listing, after, limit + 1 - len(found))
        found += rows
        read += READ_AT_ONCE
        if len(found) > limit:
            return Part([row for _, row in found[:limit]], found[limit - 1][0])
        if after is None or read >= READ_FOR_A_PAGE:
            return Part([row for _, row in found], after)


def _read(
    db: Connection, listing: Listing[T], after: Key | None, limit: int
) -> tuple[list[tuple[Key, T]], Key | None]:
    """Read once: what is shown, and where to read on; None when everything is read."""
    many = max(limit, READ_AT_ONCE) if listing.filters else limit
    walked = listing.walk.part(after, many)
    places = [walked.c[name] for name in listing.walk.order]
    query = listing.shown(walked).add_columns(*(each.label(f"place_{n}") for n, each in enumerate(places)))
    found = db.execute(query.order_by(*(each.desc() for each in places)).limit(limit)).freeze()
    keys: list[Key] = [tuple(row[-len(places) :]) for row in found()]
    rows = list(zip(keys, read_all(listing.kind, found()), strict=True))
    if len(rows) == limit:
        return rows, keys[-1]
    if not listing.filters:
        return rows, None
    last = db.execute(select(*places).order_by(*places).limit(1)).first()
    return rows, None if last is None else tuple(last)


def _below(columns: list[ColumnElement[Any]], key: Key, *, or_same: bool = False) -> ColumnElement[bool]:
    values = [literal(value, column.type) for value, column in zip(key, columns, strict=True)]
    if len(columns) == 1:
        return columns[0] <= values[0] if or_same else columns[0] < values[0]
    left, right = tuple_(*columns), tuple_(*values)
    return left <= right if or_same else left < right


def instants(since: datetime, until: datetime, column: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether a column is in a span of time, without its end."""
    return (column >= since) & (column < until)
