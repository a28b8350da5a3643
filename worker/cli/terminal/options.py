"""Parsers of options that several commands share: cadences, times and dates, each with a clear error."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from threading import Event
from typing import Annotated

import typer

from schedules.calendar.cadence import Cadence, Cron, Every, Unit, many_times_warning
from schedules.dunning.policies import DunningPolicy, FinalAction
from schedules.errors import BadPolicy
from worker.cli.terminal.output import wants_json, warn

Pg = Annotated[str | None, typer.Option(help="The channel, as PortOne names it: kcp, or kcp.MID.")]
InAccount = Annotated[
    str | None, typer.Option("--account", help="The gateway account; the main one unless given.")
]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV, with money in minor units.")]
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def read_cadence(every: int | None, unit: Unit | None, cron: str | None) -> Cadence:
    """The cadence of --every and --unit, or of --cron; raises an error for both or neither."""
    if cron is not None:
        if every is not None or unit is not None:
            raise typer.BadParameter("give --every with --unit, or --cron, not both")
        return Cron(cron)
    if unit is None:
        raise typer.BadParameter("give --unit (day, week, month or year), with --every N, or --cron")
    return Every(1 if every is None else every, unit)


def warn_of_times(cadence: Cadence) -> None:
    """Warn on standard error when a cron text fires more than once a day, because a plan bills once a day."""
    warning = many_times_warning(cadence) if isinstance(cadence, Cron) else None
    if warning:
        warn(warning)


def read_time(text: str) -> time:
    """A wall time HH:MM."""
    hours, colon, minutes = text.partition(":")
    if not (colon and hours.isdecimal() and minutes.isdecimal() and int(hours) < 24 and int(minutes) < 60):
        raise typer.BadParameter(f"{text!r} is not a time of day; write it like 09:00")
    return time(int(hours), int(minutes))


def read_date(text: str) -> date:
    """A date YYYY-MM-DD."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a date; write it like 2026-01-31") from None


def read_month(text: str) -> date:
    """The first day of a month YYYY-MM."""
    try:
        return date.fromisoformat(f"{text}-01")
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a month; write it like 2026-01") from None


def read_instant(text: str) -> datetime:
    """An instant in ISO 8601. A date means its midnight; UTC unless an offset is given."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not an instant; write it like 2026-01-31T09:00:00+09:00") from None
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def read_policy(ladder: str, final: FinalAction) -> DunningPolicy:
    """A dunning policy from offsets such as 1d,3d,7d; an empty text means no further attempts."""
    offsets = []
    for text in filter(None, (part.strip() for part in ladder.split(","))):
        if not (text[:-1].isdecimal() and text[-1] in UNITS):
            raise BadPolicy(f"ladder offset {text!r} cannot be read; write offsets like 12h,1d,3d")
        offsets.append(timedelta(seconds=int(text[:-1]) * UNITS[text[-1]]))
    return DunningPolicy(tuple(offsets), final)


def cadence_words(cadence: Cadence) -> str:
    """A cadence in words."""
    match cadence:
        case Cron(text):
            return f"cron {text}"
        case Every(1, unit):
            return f"every {unit.value}"
        case Every(every, unit):
            return f"every {every} {unit.value}s"


def refuse_json_with_csv(*, as_csv: bool) -> None:
    """Raise when both --json and --csv are given."""
    if wants_json() and as_csv:
        raise typer.BadParameter("give --json or --csv, not both")


@contextmanager
def until_interrupted() -> Iterator[Callable[[], bool]]:
    """Return a function that is true until Ctrl-C or SIGTERM, so that work under way can end."""
    interrupted = Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda *_: interrupted.set())
    try:
        yield lambda: not interrupted.is_set()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def confirm(*, yes: bool) -> None:
    """Ask the person at the terminal whether to continue, unless `yes` is set."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter("nobody is there to ask; look at the preview, then say --yes")
    typer.confirm("go on?", abort=True)


def default_time(cadence: Cadence) -> time:
    """The billing time unless one is given: the cron text's own, else 09:00."""
    return cadence.wall_time() if isinstance(cadence, Cron) else time(9)
