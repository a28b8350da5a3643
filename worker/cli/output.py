"""How lists and facts are shown: tables for people, JSON for programs."""

import getpass
import json
import logging
import os
import pwd
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import date, datetime, time, timedelta
from enum import Enum
from typing import Annotated, Any, TextIO, cast

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from schedules.errors import Code
from schedules.money import amount_words
from schedules.texts import cleaned, escaped, escaped_in_json

LONGEST_KEY = 80  # characters of a customer_uid
AMOUNTS = frozenset({"price", "amount", "balance", "refunded"})  # facts in minor units of the fact `currency`
UNBOUNDED = 10_000  # columns; a table is only as wide as what it holds

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON; an error is JSON on standard error.")]
_AS_JSON: ContextVar[bool] = ContextVar("again_as_json", default=False)


def _reason(words: str) -> str:
    if not words.strip():
        raise typer.BadParameter("say why, for whoever reads the audit; it is empty")
    return cleaned("why", words.strip())


Why = Annotated[str, typer.Option("--why", help="The reason, for the audit.", callback=_reason)]
Actor = Annotated[
    str,
    typer.Option(
        "--actor",
        envvar="AGAIN_ACTOR",
        help="Who does it, for the audit.",
        callback=lambda text: cleaned("actor", text),
    ),
]


def actor() -> str:
    """The person at the keyboard, as the system names him."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def os_user() -> str:
    """The user that the operating system runs this process as; no environment variable changes it."""
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


class Escaping:
    """A stream whose reader may be a terminal: what that would take for a command is written out."""

    def __init__(self, stream: TextIO) -> None:
        self.unescaped = stream

    def write(self, text: str) -> int:
        """Write the text, with control characters as \\x1b."""
        return self.unescaped.write(escaped(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unescaped, name)


@contextmanager
def escaping_output() -> Iterator[None]:
    """Escape control characters in everything that a command prints."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast("TextIO", Escaping(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def wants_json() -> bool:
    """Whether this command was called with --json."""
    return _AS_JSON.get()


def use_json(*, wanted: bool) -> None:
    """Let this command print JSON alone."""
    _AS_JSON.set(wanted)


def make_console(*, stderr: bool = False, quiet: bool = False, **options: Any) -> Console:
    """A console of rich, which writes commands to the terminal itself; texts go through `escaped` before.

    With --json nothing is written to one on standard error: progress is for people.
    """
    stream = sys.stderr if stderr else sys.stdout
    silent = quiet or (stderr and wants_json())
    return Console(file=getattr(stream, "unescaped", stream), quiet=silent, **options)


def say(text: str) -> None:
    """Print a line for a person; with --json nothing."""
    if not wants_json():
        print(text)


def answer(document: Mapping[str, Any], *lines: str) -> None:
    """Print what a command did: lines for a person, or with --json the document."""
    if wants_json():
        print_json(document)
    for line in lines:
        say(line)


def warn(text: str) -> None:
    """Print a notice on standard error; with --json as an object."""
    print(json_text({"notice": text}) if wants_json() else f"again: {text}", file=sys.stderr)


class Notices(logging.Handler):
    """What a command logs, as notices: it has no log of its own."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message alone; an error of the program has its traceback elsewhere."""
        warn(record.getMessage())


def print_error(code: Code, message: str, field: str | None = None) -> None:
    """Print an error on standard error; with --json as an object, in one line."""
    if wants_json():
        print(json_text({"error": {"code": code, "field": field, "message": message}}), file=sys.stderr)
    else:
        print(f"again: {message}", file=sys.stderr)


def json_text(document: object, indent: int | None = None) -> str:
    """A document as JSON; instants in UTC with a Z, and no character that a terminal takes for a command."""
    return escaped_in_json(json.dumps(document, default=plain, ensure_ascii=False, indent=indent))


def print_json(document: object) -> None:
    """Print a document as JSON; instants in UTC with a Z."""
    print(json_text(document, indent=2))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under a title, with no word of them cut; a list that is empty says so. With --json nothing."""
    if wants_json():
        return
    cells = [[_words(cell) for cell in row] for row in rows]
    if not cells:
        make_console().print(f"{title}: none")
        return
    table = Table(title=title, title_justify="left", header_style="bold")
    for at, column in enumerate(columns):
        # A key that is cut, or goes on in the next line, is of no use to whoever wants to copy it.
        longest = max(len(word) for row in cells for word in ("", *row[at].split()))
        table.add_column(column, min_width=min(longest, LONGEST_KEY))
    for row in cells:
        table.add_row(*map(Text, row))
    shown = make_console()
    if not shown.is_terminal:
        shown.width = UNBOUNDED  # not a terminal: a program that reads it needs whole lines
    shown.print(table, crop=False)


def print_facts(title: str, facts: Mapping[str, Any]) -> None:
    """Print names and values, one line each; what is not so is left out. With --json nothing."""
    if wants_json():
        return
    shown = make_console(soft_wrap=True)
    shown.print(title, style="bold", markup=False)
    for name, value in facts.items():
        if value is not None:
            shown.print(f"  {name.replace('_', ' ')}: {_words(value)}", markup=False, highlight=False)


def with_currency(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts for people: amounts in minor units become amounts with their currency, 990 becomes 9.90 USD."""
    currency = facts.get("currency")
    if not isinstance(currency, str):
        return dict(facts)
    return {
        name: amount_words(value, currency) if name in AMOUNTS and isinstance(value, int) else value
        for name, value in facts.items()
        if name != "currency"
    }


def instant(at: datetime) -> str:
    """An instant in UTC, as JSON shows it: 2026-11-30T00:00:00Z."""
    return at.isoformat().replace("+00:00", "Z")


def age(span: timedelta) -> str:
    """A span of time as a person says it: 40 s, 12 min, 5 h, 3 d."""
    seconds = int(span.total_seconds())
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def plain(value: object) -> object:
    """A value as JSON takes it: instants in UTC with a Z."""
    match value:
        case datetime():
            return instant(value)
        case date() | time():
            return value.isoformat()
        case Enum():
            return value.value
        case _:
            return str(value)


def _words(value: object) -> str:
    match value:
        case None:
            return ""
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}Z"
        case _:
            return escaped(str(value), lines=False)
