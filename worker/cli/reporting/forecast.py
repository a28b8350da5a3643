"""`again forecast` and `due`: the charges of the coming days, one by one or as sums."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from schedules.calendar.zones import local_date
from schedules.calendar.zones import zone as read_zone
from schedules.money.amounts import amount_words
from worker.cli.terminal.options import AsCsv, read_date, refuse_json_with_csv
from worker.cli.terminal.output import (
    OfZone,
    answer,
    instant,
    json_text,
    make_console,
    moment,
    print_json,
    print_table,
    say,
    wants_json,
)
from worker.cli.terminal.tables import print_csv
from worker.cli.terminal.wired import services
from worker.reporting import billing_forecast
from worker.reporting.billing_forecast import Asked, DaySum, Foreseen, Totals
from worker.services import Services

USUAL_DAYS = 30
BAR = 40  # characters; length for the day with the highest sum
UPDATE_EVERY = 1000  # charges or subscriptions between two updates of the progress display

app = typer.Typer()


@app.command("forecast")
def forecast(
    zone: OfZone,
    from_: Annotated[str | None, typer.Option("--from", help="First local day; today unless given.")] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="Last local day, included; a month of 30 days unless given.")
    ] = None,
    plan: Annotated[str | None, typer.Option(help="Only this plan, by its code, in all its versions.")] = None,
    as_csv: AsCsv = False,
    by_day: Annotated[
        bool, typer.Option("--by-day", help="Sums by day, where --json or --csv would print each charge.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw the sums by day into this PNG file as well.")] = None,
) -> None:
    """Forecast the coming days if every card pays: sums by day, or with --json or --csv each charge.

    --json prints a line for each charge as it is found, in no order; nothing is written to the database.
    """
    refuse_json_with_csv(as_csv=as_csv)
    made = services()
    asked = _asked(made, from_, to, zone, plan)
    draw = _pencil(plot)
    each = (wants_json() or as_csv) and not by_day
    totals = None
    if plot is not None or not each:
        with _progress("subscriptions", shown=True) as on_progress:
            totals = billing_forecast.add_up(made, asked, on_progress)
        draw(totals)
    if totals is not None and not each:
        _print_totals(totals, asked, as_csv=as_csv)
    else:
        _print_each(billing_forecast.foresee(made, asked), print_csv if as_csv else _print_lines)


def forecast_facts(charge: Foreseen) -> dict[str, Any]:
    """A forecast charge for JSON and CSV."""
    return {
        "charge": charge.charge, "customer_uid": charge.customer_uid, "subscription": charge.subscription,
        "amount": charge.money.amount, "currency": charge.money.currency, "day": charge.day.isoformat(),
        "due_at": instant(charge.due_at), "at": instant(charge.at), "why": charge.why,
    }  # fmt: skip


def _asked(made: Services, first: str | None, last: str | None, zone: str, plan: str | None) -> Asked:
    tz = read_zone(zone)
    begins = read_date(first) if first else local_date(made.clock.now(), tz)
    return Asked(begins, read_date(last) if last else _usual_end(begins), zone, plan)


def _usual_end(begins: date) -> date:
    return begins + min(timedelta(days=USUAL_DAYS - 1), date.max - begins)


def _pencil(plot: Path | None) -> Callable[[Totals], None]:
    """The function that draws the sums; raises before the work begins when drawing is not possible."""
    if plot is None:
        return lambda _: None
    from worker.cli.reporting.pictures import Picture

    return Picture(plot).draw


@contextmanager
def _progress(what: str, *, shown: bool) -> Iterator[Callable[[int], object]]:
    """Show on a terminal, on standard error, how many were processed."""
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    console = make_console(stderr=True)
    columns = (TextColumn("{task.completed:,.0f} " + what), TimeElapsedColumn())
    hidden = not (shown and console.is_terminal)
    # Without this, rich redirects the printed lines to standard error.
    with Progress(
        *columns, console=console, transient=True, disable=hidden, redirect_stdout=False, redirect_stderr=False
    ) as progress:
        task = progress.add_task(what, total=None)
        seen = 0

        def on_progress(many: int) -> None:
            nonlocal seen
            seen += many
            if seen >= UPDATE_EVERY:
                progress.advance(task, seen)
                seen = 0

        yield on_progress


def _print_each(foreseen: Iterator[Foreseen], write: Callable[[Iterable[Mapping[str, Any]]], None]) -> None:
    # On the same terminal, lines and progress would overwrite each other.
    with _progress("charges", shown=not sys.stdout.isatty()) as on_progress:
        write(_documents(foreseen, on_progress))


def _documents(foreseen: Iterator[Foreseen], on_progress: Callable[[int], object]) -> Iterator[dict[str, Any]]:
    for charge in foreseen:
        if charge.left_out is None:
            yield forecast_facts(charge)
            on_progress(1)


def _print_lines(rows: Iterable[Mapping[str, Any]]) -> None:
    for row in rows:
        sys.stdout.write(json_text(row) + "\n")
    sys.stdout.flush()  # a closed pipe raises here, where it is handled, and not at exit


def _print_totals(totals: Totals, asked: Asked, *, as_csv: bool) -> None:
    days = [asdict(day) | {"day": day.day.isoformat()} for day in totals.days]
    if as_csv:
        print_csv(days)
        return
    left_out = [asdict(left) for left in totals.left_out]
    answer({"days": days, "sums": _sums(totals), "left_out": left_out, "broken_subscriptions": totals.broken})
    of_plan = f" of plan {asked.plan}" if asked.plan else ""
    names = ("day", "new", "owed before", "money", "")
    for currency in sorted({day.currency for day in totals.days}):
        rows = _cells([day for day in totals.days if day.currency == currency], asked)
        print_table(f"{currency}{of_plan}, {asked.first} to {asked.last}", names, rows)
    charges = sum(day.periods + day.debts for day in totals.days)
    sums = ", ".join(amount_words(amount, currency) for currency, amount in _sums(totals).items())
    say(f"{charges:,} charges, {sums or 'nothing'}, if every card pays")
    for left in totals.left_out:
        money = amount_words(left.amount, left.currency)
        say(f"not in it: {left.charges:,} charges, {money}: {left.why}")
    if totals.broken:
        say(f"not in it: {totals.broken:,} subscriptions that opening cannot work on, and will set aside")


def _cells(days: Sequence[DaySum], asked: Asked) -> Iterator[Sequence[object]]:
    """A row for each day, also for days without a charge, so that the bars form a calendar."""
    found = {day.day: day for day in days}
    most = max(day.amount for day in days)
    for on in _every_day(asked.first, asked.last):
        if (day := found.get(on)) is None:
            yield (f"{on} {on:%a}", "", "", "", "")
        else:
            bar = "█" * max(1, round(day.amount / most * BAR))
            money = amount_words(day.amount, day.currency)
            yield (f"{on} {on:%a}", f"{day.periods:,}", f"{day.debts:,}", money, bar)


def _every_day(first: date, last: date) -> Iterator[date]:
    return (first + timedelta(days=n) for n in range((last - first).days + 1))


def _sums(totals: Totals) -> dict[str, int]:
    sums: dict[str, int] = {}
    for day in totals.days:
        sums[day.currency] = sums.get(day.currency, 0) + day.amount
    return sums


@app.command("due")
def due(on: Annotated[str, typer.Option("--on", help="The local day, YYYY-MM-DD.")], zone: OfZone) -> None:
    """List the charges of a day in order of time: customer, amount and reason."""
    day = read_date(on)
    tz = read_zone(zone)
    made = services()
    charges = sorted(billing_forecast.foresee(made, Asked(day, day, zone)), key=lambda f: (f.at, f.charge))
    foreseen = [charge for charge in charges if charge.left_out is None]
    if wants_json():
        print_json([forecast_facts(charge) for charge in foreseen])
        return
    rows = ((f.at, f.customer_uid, f.money, f.charge, f.why) for f in foreseen)
    print_table(f"due on {day}", ("at", "customer", "amount", "charge", "why"), rows, tz)
    if len(charges) > len(foreseen):
        others = ((f.at, f.customer_uid, f.money, f.charge, f.left_out) for f in charges if f.left_out is not None)
        print_table("not charged", ("at", "customer", "amount", "charge", "why"), others, tz)
    sums = ", ".join(
        amount_words(amount, currency) for currency, amount in billing_forecast.sums(foreseen).items()
    )
    say(f"{len(foreseen)} charges, {sums or 'nothing'}")
    for account, taken in billing_forecast.paces(made, foreseen).items():
        rate = made.account(account).rate
        cap = f"at {rate:g} a second they take {_took(taken.busy)}" if rate else "there is no cap"
        waits = f"none waits longer than {_took(taken.longest_wait)}"
        last = moment(taken.last_at, tz)
        say(f"account {account}: {taken.calls} calls; {cap}; {waits}; the last leaves at {last}", tz)


def _took(time: timedelta) -> str:
    """A duration as text: 1:02:03 from an hour on, seconds below a minute."""
    seconds = time.total_seconds()
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))
