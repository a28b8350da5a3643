"""Read CSV as spreadsheets write it; write CSV and JSON lines."""

import csv
import json
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from itertools import chain
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from schedules.requests.batches import Line
from worker.cli.terminal.output import json_text, plain, wants_json
from worker.cli.terminal.streams import takes_all

Bom = Annotated[bool, typer.Option("--bom", help="Begin with a byte order mark, so that Excel reads UTF-8.")]
Encoding = Annotated[
    str | None,
    typer.Option("--encoding", help="The file's encoding, such as cp949; UTF-8, UTF-16 and CP949 are detected."),
]
MODE = 0o600  # files contain customers and payments
# Texts that Excel and others read as formulas, also after apostrophes, so that an export can be reversed.
_FORMULA = re.compile(r"'*\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|'*[\t\r]")


def read_csv(stream: IO[str], check: Callable[[list[str]], None]) -> Iterator[Line]:
    """Yield the lines of a file; a line with a wrong number of columns is marked as wrong."""
    number = 1
    try:
        first = stream.readline().removeprefix("\ufeff")
        # Spreadsheets write ; where the decimal separator is a comma, and tabs in "Unicode text".
        delimiter = max(",;\t", key=first.count)
        reader = csv.reader(chain([first], stream), strict=True, delimiter=delimiter)
        names = [name.strip().lower() for name in next(reader, [])]
        check(names)
        for cells in reader:
            number = reader.line_num
            if not any(cell.strip() for cell in cells):
                continue  # for example an empty last line
            fits = len(cells) == len(names)
            wrong = None if fits else f"it has {len(cells)} columns, the first line {len(names)}"
            yield Line(number, dict(zip(names, map(text_of, cells), strict=False)), wrong)
    except csv.Error as error:
        raise typer.BadParameter(f"what follows line {number} cannot be taken apart: {error}") from None


def refuse_bom_of_lines(*, bom: bool, as_lines: bool) -> None:
    """Raise when a byte order mark is requested for JSON lines."""
    if bom and as_lines:
        raise typer.BadParameter("--bom is for CSV; JSON lines have no byte order mark")


def refuse_json_beside_rows(out: Path | None) -> None:
    """Raise when rows and the JSON answer would both be written to standard output."""
    if out is None and wants_json():
        raise typer.BadParameter(
            "--json describes the file that is written, so give --out; --jsonl writes rows as JSON"
        )


@contextmanager
def to_write(out: Path | None, *, bom: bool = False) -> Iterator[IO[str]]:
    """A file that only this user may read, or standard output. With `bom` Excel reads it as UTF-8."""
    if out is None:
        stream = csv_output()
        stream.write("\ufeff" if bom else "")
        yield stream
        return
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, MODE)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.fchmod(descriptor, MODE)  # an existing file may have a wider mode
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise typer.BadParameter(f"{out} cannot be written: {why}") from None
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as stream:
        stream.write("\ufeff" if bom else "")
        yield stream


def write(stream: IO[str], names: Sequence[str], rows: Iterable[Mapping[str, Any]], *, as_lines: bool) -> int:
    """Write rows as CSV with a header, or as one JSON object per line; return how many."""
    count = 0
    writer = csv.writer(stream)
    if not as_lines:
        writer.writerow(names)
    for row in rows:
        count += 1
        if as_lines:
            document = {name: row[name] for name in names}
            stream.write(json_text(document) + "\n")
        else:
            writer.writerow([cell(row[name]) for name in names])
    return count


def csv_output() -> IO[str]:
    """Standard output for CSV: unchanged for a program, escaped for a terminal.

    Raises for characters that it cannot encode, because replacements in a file would be taken for data.
    """
    stream: Any = getattr(sys.stdout, "unescaped", sys.stdout)
    if not takes_all(stream):
        stream.reconfigure(errors="strict")
    return sys.stdout if sys.stdout.isatty() else stream


def print_csv(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print a header and the rows; nothing without rows."""
    writer = None
    for row in rows:
        if writer is None:
            writer = csv.writer(csv_output())
            writer.writerow(row)
        writer.writerow([cell(value) for value in row.values()])


def cell(value: object) -> object:
    """A value for a cell; a text that a spreadsheet would read as a formula gets an apostrophe."""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and not isinstance(value, Enum):
        return f"'{value}" if _FORMULA.match(value) else value
    is_plain = value is None or isinstance(value, int | float)
    return value if is_plain else plain(value)


def text_of(cell: str) -> str:
    """The text of a cell, without the apostrophe of an export."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
