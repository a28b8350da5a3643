"""`again dates`: the dates on which a rule renews a subscription."""

from datetime import date
from typing import Annotated

import typer

from schedules.calendar.cadence import Cadence, Cron, Unit, short_month_warning
from schedules.calendar.periods import first_on_or_after, next_after, period_date
from schedules.calendar.shifts import Shift, shifted
from schedules.calendar.zones import wall_to_utc
from schedules.calendar.zones import zone as read_zone
from worker.cli.terminal.options import (
    cadence_words,
    default_time,
    read_cadence,
    read_date,
    read_time,
    warn_of_times,
)
from worker.cli.terminal.output import OfZone, answer, instant, moment, print_table, warn

MOST_DATES = 10_000
app = typer.Typer()


@app.command("dates")
def dates(
    anchor: Annotated[str, typer.Option(help="First date, YYYY-MM-DD.")],
    zone: OfZone,
    every: Annotated[int | None, typer.Option(help="Every so many units.")] = None,
    unit: Annotated[Unit | None, typer.Option(help="The unit.")] = None,
    cron: Annotated[str | None, typer.Option(help="A cron text of five fields instead.")] = None,
    time: Annotated[str | None, typer.Option(help="Billing time, HH:MM; a cron's own, else 09:00.")] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="Begin with the first date on or after this.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=MOST_DATES, help="How many dates.")] = 12,
    shift: Annotated[Shift, typer.Option(help="Where a date on a weekend or holiday moves.")] = Shift.NONE,
    holidays: Annotated[str | None, typer.Option(help="Country whose holidays count, such as KR.")] = None,
) -> None:
    """Show the dates of a cadence; needs no database.

    Dates are numbered from the anchor, which is number 0; for a cron text that does not fire on the anchor,
    number 0 is the first date after it on which it does.
    """
    cadence = read_cadence(every, unit, cron)
    begins = read_date(anchor)
    start = first_on_or_after(begins, cadence, read_date(from_)) if from_ else (0, period_date(begins, cadence, 0))
    wall = read_time(time) if time is not None else default_time(cadence)
    tz = read_zone(zone)
    rows = [
        (n, day, wall_to_utc(shifted(day, shift, holidays), wall, tz))
        for n, day in _series(begins, cadence, start, count)
    ]
    warning = short_month_warning(cadence) if isinstance(cadence, Cron) else None
    if warning:
        warn(warning)
    warn_of_times(cadence)
    answer([{"n": n, "date": day.isoformat(), "at": instant(at)} for n, day, at in rows])
    shown = ((n, day, moment(at, tz)) for n, day, at in rows)
    print_table(f"{cadence_words(cadence)} from {begins}", ("n", "date", "at"), shown)


def _series(anchor: date, cadence: Cadence, start: tuple[int, date], count: int) -> list[tuple[int, date]]:
    series = [start]
    while len(series) < count:
        n, day = series[-1]
        series.append((n + 1, next_after(cadence, anchor, n, day)))
    return series
