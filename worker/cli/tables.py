"""CSV and JSON lines: read as spreadsheets write them, and written to be read by anything."""

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from itertools import chain
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from schedules.batches import Line
from worker.cli.output import plain

Bom = Annotated[bool, typer.Option("--bom", help="Begin with a byte order mark, so that Excel reads UTF-8.")]
Encoding = Annotated[
    str | None,
    typer.Option("--encoding", help="The file's encoding, such as cp949; UTF-8, UTF-16 and CP949 are detected."),
]


def read_csv(stream: IO[str], check: Callable[[list[str]], None]) -> Iterator[Line]:
    """The lines of a file; one that has more or fewer columns than the first says so."""
    number = 1
    try:
        first = stream.readline().removeprefix("\ufeff")
        # Spreadsheets write ; where decimals have a comma, and tabs in "Unicode text".
        delimiter = max(",;\t", key=first.count)
        reader = csv.reader(chain([first], stream), strict=True, delimiter=delimiter)
        names = [name.strip().lower() for name in next(reader, [])]
        check(names)
        for cells in reader:
            number = reader.line_num
            if not any(cell.strip() for cell in cells):
                continue  # an empty line at the end, say
            fits = len(cells) == len(names)
            wrong = None if fits else f"it has {len(cells)} columns, the first line {len(names)}"
            yield Line(number, dict(zip(names, cells, strict=False)), wrong)
    except csv.Error as error:
        raise typer.BadParameter(f"what follows line {number} cannot be taken apart: {error}") from None


def refuse_bom_of_lines(*, bom: bool, as_lines: bool) -> None:
    """Raise unless a byte order mark was asked for CSV."""
    if bom and as_lines:
        raise typer.BadParameter("--bom is for CSV; JSON lines have no byte order mark")


@contextmanager
def to_write(out: Path | None, *, bom: bool = False) -> Iterator[IO[str]]:
    """A file to be written, or standard output for none; with a byte order mark Excel reads it as UTF-8."""
    if out is None:
        sys.stdout.write("\ufeff" if bom else "")
        yield sys.stdout
        return
    try:
        stream = out.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise typer.BadParameter(f"{out} cannot be written: {error.strerror}") from None
    with stream:
        stream.write("\ufeff" if bom else "")
        yield stream


def write(stream: IO[str], names: Sequence[str], rows: Iterable[Mapping[str, Any]], *, as_lines: bool) -> int:
    """Write rows as CSV with a first line of names, or as one JSON object a line; answers how many."""
    count = 0
    writer = csv.writer(stream)
    if not as_lines:
        writer.writerow(names)
    for row in rows:
        count += 1
        if as_lines:
            document = {name: row[name] for name in names}
            stream.write(json.dumps(document, default=plain, ensure_ascii=False) + "\n")
        else:
            writer.writerow([_cell(row[name]) for name in names])
    return count


def _cell(value: object) -> object:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    is_plain = value is None or (isinstance(value, str | int) and not isinstance(value, Enum))
    return value if is_plain else plain(value)
