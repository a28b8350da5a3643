"""Output of lists and facts: tables for people, JSON for programs."""

import getpass
import json
import logging
import os
import pwd
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum
from functools import cache
from typing import Annotated, Any, TextIO, cast
from zoneinfo import ZoneInfo

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from schedules.calendar.zones import zone
from schedules.errors import BadZone, Code
from schedules.money.amounts import amount_words
from schedules.texts import cleaned, escaped, escaped_in_json
from worker.cli.terminal.streams import replacing, takes_all

LONGEST_KEY = 80  # characters of a customer_uid
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")  # as in JSON
_IN_UTC = re.compile(r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d(?:\.\d+)?)?Z(?! \()")
AMOUNTS = frozenset({"price", "amount", "balance", "refunded"})  # facts in minor units of the fact `currency`
UNBOUNDED = 10_000  # columns; a table is as wide as its contents

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
    """The name of the person at the keyboard, from the environment or the operating system."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def os_user() -> str:
    """The OS user of this process; environment variables do not change it."""
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


class Escaping:
    """A stream that escapes control characters, because its reader may be a terminal."""

    encoding = "utf-8"  # accepts every character; with ASCII the parser would bypass this stream

    def __init__(self, stream: TextIO) -> None:
        self.unescaped = stream

    def write(self, text: str) -> int:
        """Write the text, with control characters as \\x1b."""
        return self.unescaped.write(escaped(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unescaped, name)


@contextmanager
def escaping_output() -> Iterator[None]:
    """Escape control characters in all output, and replace characters that the stream cannot encode."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast("TextIO", Escaping(stream)) for stream in before)
    with replacing(*before):
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


def wants_json() -> bool:
    """Whether this command was called with --json."""
    return _AS_JSON.get()


def use_json(*, wanted: bool) -> None:
    """Make this command print JSON only."""
    _AS_JSON.set(wanted)


def make_console(*, stderr: bool = False, quiet: bool = False, **options: Any) -> Console:
    """A rich console, which writes control sequences itself; texts must go through `escaped` first.

    With --json, a console on standard error writes only to a terminal: progress is for people.
    """
    stream = sys.stderr if stderr else sys.stdout
    silent = quiet or (stderr and wants_json() and not stream.isatty())
    return Console(file=getattr(stream, "unescaped", stream), quiet=silent, **options)


def say(text: str, local: ZoneInfo | None = None) -> None:
    """Print a line for people, with local times of the shop or of `local`; nothing with --json."""
    if not wants_json():
        print(with_local_times(text, local))


def answer(document: object, *lines: str) -> None:
    """Print the result of a command: lines for people, or with --json the document. Tables may follow."""
    if wants_json():
        print_json(document)
    for line in lines:
        say(line)


def warn(text: str) -> None:
    """Print a notice on standard error; with --json as an object."""
    print(json_text({"notice": text}) if wants_json() else f"again: {with_local_times(text)}", file=sys.stderr)


class Notices(logging.Handler):
    """Prints log records of a command as notices, because a command has no log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message, and the traceback of an unexpected error."""
        warn(self.format(record))


def print_error(code: Code, message: str, field: str | None = None) -> None:
    """Print an error on standard error; with --json as an object in one line."""
    if wants_json():
        print(json_text({"error": {"code": code, "field": field, "message": message}}), file=sys.stderr)
    else:
        print(f"again: {with_local_times(message)}", file=sys.stderr)


def json_text(document: object, indent: int | None = None) -> str:
    """A document as JSON: instants in UTC with a Z, control characters escaped."""
    ascii_only = not takes_all(sys.stdout)  # JSON can escape every character
    return escaped_in_json(json.dumps(document, default=plain, ensure_ascii=ascii_only, indent=indent))


def print_json(document: object) -> None:
    """Print a document as JSON; instants in UTC with a Z."""
    print(json_text(document, indent=2))


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], local: ZoneInfo | None = None
) -> None:
    """Print rows under a title without truncating them; an empty list is reported as empty. Nothing with --json.

    Local times are those of the shop, or of `local`.
    """
    if wants_json():
        return
    title = with_local_times(title, local)
    cells = [[as_words(cell, local) for cell in row] for row in rows]
    if not cells:
        make_console().print(f"{title}: none")
        return
    # Keys are not truncated or wrapped, so that they can be copied.
    longest = [
        min(LONGEST_KEY, max(cell_len(word) for text in (column, *column_cells) for word in ("", *text.split())))
        for column, *column_cells in zip(columns, *cells, strict=True)
    ]
    shown = make_console()
    if shown.is_terminal and sum(longest) + 3 * len(columns) + 1 > shown.width:
        _print_records(shown, title, columns, cells)
        return
    table = Table(title=title, title_justify="left", header_style="bold")
    for at, column in enumerate(columns):
        table.add_column(column, min_width=longest[at])
    for row in cells:
        table.add_row(*map(Text, row))
    if not shown.is_terminal:
        shown.width = UNBOUNDED  # not a terminal: a program that reads it needs whole lines
    shown.print(table, crop=False)


def _print_records(shown: Console, title: str, columns: Sequence[str], cells: Iterable[Sequence[str]]) -> None:
    """Print each row as lines of names and values, for a terminal that is too narrow for the table."""
    shown.print(title, style="bold", markup=False, highlight=False, soft_wrap=True)
    for row in cells:
        lines = [f"{name}: {cell}" if name else cell for name, cell in zip(columns, row, strict=True) if cell]
        for at, line in enumerate(lines):
            shown.print(("- " if at == 0 else "  ") + line, markup=False, highlight=False, soft_wrap=True)


def print_facts(title: str, facts: Mapping[str, Any], local: ZoneInfo | None = None) -> None:
    """Print names and values, one line each, without empty ones. Nothing with --json.

    Local times are those of the shop, or of `local`.
    """
    if wants_json():
        return
    shown = make_console(soft_wrap=True)
    shown.print(with_local_times(title, local), style="bold", markup=False)
    for name, value in facts.items():
        if value is not None:
            shown.print(f"  {name.replace('_', ' ')}: {as_words(value, local)}", markup=False, highlight=False)


def with_currency(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts for people: 990 minor units become 9.90 USD."""
    currency = facts.get("currency")
    if not isinstance(currency, str):
        return dict(facts)
    return {
        name: amount_words(value, currency) if name in AMOUNTS and isinstance(value, int) else value
        for name, value in facts.items()
        if name != "currency"
    }


def _name_of_shop_zone() -> str:
    from worker.config import shop_zone_name

    return shop_zone_name()


OfZone = Annotated[
    str,
    typer.Option(
        "--zone", default_factory=_name_of_shop_zone, show_default="AGAIN_ZONE",
        help="IANA time zone of days and local times.",
    ),
]  # fmt: skip


@cache
def shop_zone() -> ZoneInfo:
    """The zone of AGAIN_ZONE for local times beside UTC; the default zone if the setting is wrong."""
    from worker.config import Settings

    try:
        return zone(_name_of_shop_zone())
    except BadZone:  # the message about the wrong zone also contains times
        return zone(Settings.model_fields["zone"].default)


def moment(at: datetime, local: ZoneInfo | None = None) -> str:
    """An instant for people, in UTC with the local time: 2026-11-30 15:00:00Z (12-01 00:00 KST)."""
    return with_local_times(f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z", local)


def with_local_times(text: str, local: ZoneInfo | None = None) -> str:
    """A text for people: each instant is followed by its local time, of the shop or of `local`."""
    return _IN_UTC.sub(lambda found: _beside(found, local or shop_zone()), text)


def _beside(found: re.Match[str], local: ZoneInfo) -> str:
    try:
        at = datetime.fromisoformat(found[0][:-1]).replace(tzinfo=UTC)
    except ValueError:
        return found[0]
    here = at.astimezone(local)
    if not here.utcoffset():
        return found[0]
    day = "" if here.date() == at.date() else f"{here:%m-%d} "
    return f"{found[0]} ({day}{here:%H:%M %Z})"


def instant(at: datetime) -> str:
    """An instant in UTC as in JSON: 2026-11-30T00:00:00Z."""
    return at.isoformat().replace("+00:00", "Z")


def age(span: timedelta) -> str:
    """A span of time for people: 40 s, 12 min, 5 h, 3 d."""
    seconds = int(span.total_seconds())
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def plain(value: object) -> object:
    """A value for JSON: instants in UTC with a Z."""
    match value:
        case datetime():
            return instant(value)
        case date() | time():
            return value.isoformat()
        case Enum():
            return value.value
        case _:
            return str(value)


def as_words(value: object, local: ZoneInfo | None = None) -> str:
    """A value for people in one line; local times are those of the shop, or of `local`."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case datetime():
            return moment(value, local)
        case str() if _INSTANT.fullmatch(value):
            return moment(datetime.fromisoformat(value), local)
        case Mapping():
            texts = {
                name: as_words(each, local) for name, each in with_currency(value).items() if each is not None
            }
            return ", ".join(f"{name.replace('_', ' ')} {each}" for name, each in texts.items())
        case list() | tuple():
            return ", ".join(as_words(each, local) for each in value)
        case _:
            return with_local_times(escaped(str(value), lines=False), local)
