"""Lists in pages: their options, and their output as a table, as one JSON document or as CSV."""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer

from worker.cli.terminal.output import json_text, print_table, say, wants_json, warn, with_currency
from worker.cli.terminal.tables import print_csv

if TYPE_CHECKING:
    from worker.reporting.listing import Page

ON_A_PAGE = 50  # rows of a table unless a limit is given
AT_ONCE = 1000  # rows in memory where a whole list is written
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit", min=1, max=100_000, show_default=f"{ON_A_PAGE}; everything with --json or --csv",
        help="At most so many.",
    ),
]  # fmt: skip
After = Annotated[
    str | None, typer.Option("--after", help="The cursor that the page before ended with; the filters stay.")
]
Facts = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Paged:
    """How a list is printed."""

    name: str
    limit: int | None
    as_csv: bool
    columns: Mapping[str, str]  # of the table: the heading of each fact
    local: ZoneInfo | None = None


def print_list(paged: Paged, after: str | None, read: "Callable[[str | None, int], Page[Facts]]") -> None:
    """Print the rows that `read` returns after a cursor, and how to get those that follow."""
    if wants_json() or paged.as_csv:
        writing = _Written(read, after, paged.limit)
        if paged.as_csv:
            print_csv(writing.rows())
        else:
            _print_json(paged.name, writing)
        if writing.next is not None and paged.as_csv:
            warn(f"more {paged.name} follow; for the next page add --after {writing.next}")
        return
    found = read(after, paged.limit or ON_A_PAGE)
    rows = ([row[name] for name in paged.columns] for row in map(with_currency, found.rows))
    print_table(paged.name, tuple(paged.columns.values()), rows, paged.local)
    if found.next is not None:
        is_full = len(found.rows) == (paged.limit or ON_A_PAGE)
        what = "more follow; for the next page" if is_full else "not everything was looked at; to look further,"
        say(f"{what} add --after {found.next}")


class _Written:
    """Rows that are written as they are read, page by page."""

    def __init__(
        self, read: "Callable[[str | None, int], Page[Facts]]", after: str | None, limit: int | None
    ) -> None:
        self._read, self._limit = read, limit
        self._page = self._read(after, min(AT_ONCE, limit or AT_ONCE))  # an error comes before any output

    @property
    def next(self) -> str | None:
        """The cursor after the rows that were read."""
        return self._page.next

    def rows(self) -> Iterator[Facts]:
        """Each row; the pages after the first are read when they are needed."""
        left = self._limit
        while True:
            yield from self._page.rows
            left = None if left is None else left - len(self._page.rows)
            if self.next is None or left == 0:
                return
            self._page = self._read(self.next, AT_ONCE if left is None else min(AT_ONCE, left))


def _print_json(name: str, writing: _Written) -> None:
    """Print one document; a row is written when it is read."""
    sys.stdout.write(f'{{\n  "{name}": [')
    for number, row in enumerate(writing.rows()):
        sys.stdout.write(f"{',' if number else ''}\n    {json_text(row)}")
    sys.stdout.write(f'\n  ],\n  "next": {json_text(writing.next)}\n}}\n')
    sys.stdout.flush()  # a closed pipe raises here, where it is handled, and not at exit
