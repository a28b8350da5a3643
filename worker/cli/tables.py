"""CSV and JSON lines: read as spreadsheets write them, and written to be read by anything."""

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from itertools import chain
from pathlib import Path
from typing import IO, Any

import typer

from schedules.batches import Line
from worker.cli.output import plain


def read_csv(stream: IO[str], check: Callable[[list[str]], None]) -> Iterator[Line]:
    """The lines of a file; one that has more or fewer columns than the first says so."""
    number = 1
    try:
        first = stream.readline().removeprefix("\ufeff")
        # What a spreadsheet writes where the comma stands before decimals.
        delimiter = ";" if first.count(";") > first.count(",") else ","
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
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"the file is not UTF-8: {error.reason} at byte {error.start}") from None
    except csv.Error as error:
        raise typer.BadParameter(f"what follows line {number} cannot be taken apart: {error}") from None


@contextmanager
def opened(file: Path) -> Iterator[IO[str]]:
    """A file to be read, or standard input for -."""
    if str(file) == "-":
        yield sys.stdin
        return
    try:
        stream = file.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror}") from None
    with stream:
        yield stream


@contextmanager
def to_write(out: Path | None) -> Iterator[IO[str]]:
    """A file to be written, or standard output for none."""
    if out is None:
        yield sys.stdout
        return
    try:
        stream = out.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise typer.BadParameter(f"{out} cannot be written: {error.strerror}") from None
    with stream:
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
