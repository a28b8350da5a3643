"""`again show`, `due`, `dates` and `held`: read-only commands."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Annotated, Any

import typer

from schedules.calendar.cadence import Cron, Unit, short_month_warning
from schedules.calendar.periods import first_on_or_after, next_after, period_date
from schedules.calendar.shifts import Shift, shifted
from schedules.calendar.zones import wall_to_utc
from schedules.calendar.zones import zone as read_zone
from schedules.money.amounts import amount_words
from worker.cli.plans import default_time
from worker.cli.terminal.options import cadence_words, read_cadence, read_date, read_time, warn_of_times
from worker.cli.terminal.output import (
    AsJson,
    OfZone,
    instant,
    moment,
    print_facts,
    print_json,
    print_table,
    say,
    warn,
    with_currency,
)

MOST_DATES = 10_000


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for command in (show, due, dates, held):
        app.command(command.__name__)(command)


def show(
    key: Annotated[str, typer.Argument(help="A subscription's key, a charge's key, or a merchant_uid.")],
    ask: Annotated[bool, typer.Option("--ask", help="Ask the gateway too, for a merchant_uid.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show everything that happened to a subscription, a charge or a merchant_uid, in order."""
    from worker.reporting import history
    from worker.wiring import services

    story = history.show(services(), key, ask_gateway=ask)
    if as_json:
        happenings = [{"at": h.at, "what": h.what, "words": h.words} for h in story.happenings]
        parts = "charges" if story.kind == "subscription" else "attempts"
        print_json({"kind": story.kind, **story.facts, parts: story.parts, "history": happenings})
        return
    print_facts(f"{story.kind} {story.facts['key']}", with_currency(story.facts))
    if story.kind == "subscription":
        names = ("period_no", "key", "amount", "status", "due_at", "next_attempt_at")
        rows = ([charge[name] for name in names] for charge in map(with_currency, story.parts))
        print_table("charges", ("period", "key", "amount", "status", "due", "next attempt"), rows)
    else:
        for part in story.parts:
            print_facts("attempt", with_currency(part))
    print_table("history", ("at", "what", "words"), ((h.at, h.what, h.words) for h in story.happenings))


def due(
    on: Annotated[str, typer.Option("--on", help="The local day, YYYY-MM-DD.")],
    zone: OfZone,
    as_json: AsJson = False,
) -> None:
    """List who will be charged on a day, how much, and why, in the order of time."""
    from worker.cli.forecast import forecast_facts
    from worker.reporting import billing_forecast
    from worker.reporting.billing_forecast import Asked
    from worker.wiring import services

    day = read_date(on)
    tz = read_zone(zone)
    made = services()
    charges = sorted(billing_forecast.foresee(made, Asked(day, day, zone)), key=lambda f: (f.at, f.charge))
    foreseen = [charge for charge in charges if charge.left_out is None]
    if as_json:
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
    as_json: AsJson = False,
) -> None:
    """Show the dates that a rule means; needs no database.

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
    if as_json:
        print_json([{"n": n, "date": day.isoformat(), "at": instant(at)} for n, day, at in rows])
    else:
        shown = ((n, day, moment(at, tz)) for n, day, at in rows)
        print_table(f"{cadence_words(cadence)} from {begins}", ("n", "date", "at"), shown)


def _series(anchor: date, cadence: Any, start: tuple[int, date], count: int) -> list[tuple[int, date]]:
    series = [start]
    while len(series) < count:
        n, day = series[-1]
        series.append((n + 1, next_after(cadence, anchor, n, day)))
    return series


def held(
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many that wait for a card.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """List what waits for an operator, and the charges that wait for another card, with the reasons."""
    from worker.store.charging import waits
    from worker.store.customers import subscriptions
    from worker.wiring import services

    with services().engine.begin() as db:
        waiting, aside = waits.held(db), subscriptions.held(db)
        for_card = [row | {"why": _why_it_waits(row)} for row in waits.for_card(db, limit)]
    names = ("key", "status", "amount", "currency", "due_at", "held_why")
    fewer = ("key", "status", "next_due_at", "held_why")
    of_card = ("key", "customer_uid", "status", "amount", "currency", "due_at", "look_at", "why")
    if as_json:
        print_json({
            "charges": [{name: row[name] for name in names} for row in waiting],
            "subscriptions": [{name: row[name] for name in fewer} for row in aside],
            "waiting_for_card": [{name: row[name] for name in of_card} for row in for_card],
        })  # fmt: skip
        return
    _print_charges("held charges", names, waiting)
    print_table("held subscriptions", fewer, ([row[name] for name in fewer] for row in aside))
    _print_charges("charges that wait for a card", of_card, for_card)


def _print_charges(title: str, names: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    shown = [name for name in names if name != "currency"]
    print_table(title, shown, ([row[name] for name in shown] for row in map(with_currency, rows)))


def _why_it_waits(row: Mapping[str, Any]) -> str:
    """Why a charge is not tried before its card changes."""
    if row["stopped_as"] is not None:
        why = f"its card is not tried any more, {row['stopped_as']}"
    elif row["given_up"] is not None:
        why = f"the tries of its policy are over, {row['given_up']}"
    else:
        why = "it is tried when the card changes or a person says so"
    return f"{why}: {row['reason']}" if row["reason"] else why
