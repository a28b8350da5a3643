"""`again report`: the recovery rate by amount, and failures by class and PG, as tables, JSON or CSV."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any

import typer

from schedules.calendar.zones import local_date
from schedules.calendar.zones import zone as read_zone
from schedules.money.amounts import amount_words
from worker.cli.terminal.options import AsCsv, read_date, refuse_json_with_csv
from worker.cli.terminal.output import OfZone, answer, print_table
from worker.cli.terminal.sections import Listed
from worker.cli.terminal.tables import print_csv
from worker.cli.terminal.wired import services
from worker.reporting import reports
from worker.reporting.reports import By, Span
from worker.services import Services
from worker.store.reporting.reports import Cohort, Failures

USUAL_DAYS = 30
BAR = 20  # characters of a rate of 100%
From = Annotated[str | None, typer.Option("--from", help="First local day; thirty days ago unless given.")]
To = Annotated[str | None, typer.Option("--to", help="Last local day, included; today unless given.")]
app = typer.Typer()
group = typer.Typer(cls=Listed, help="Reports on declines and recovered amounts.", no_args_is_help=True)
app.add_typer(group, name="report")


@group.command("recovery")
def recovery(
    zone: OfZone,
    from_: From = None,
    to: To = None,
    by: Annotated[By, typer.Option(help="The length of a cohort.")] = By.DAY,
    as_csv: AsCsv = False,
) -> None:
    """Show for each cohort which share of the amounts first declined was paid later, by any card or way.

    A cohort of the last weeks is not complete: charges that are still owed may be paid.
    """
    refuse_json_with_csv(as_csv=as_csv)
    made = services()
    each, sums = reports.recovery(made, _span(made, from_, to, zone), by)
    if as_csv:
        print_csv([_cohort_facts(cohort) for cohort in (*each, *sums)])
        return
    answer({"cohorts": [_cohort_facts(c) for c in each], "all": [_cohort_facts(c) for c in sums]})
    names = ("first declined", "failed", "money", "recovered", "money", "rate", "", "owed", "tries", "days")
    rows = [_cohort_cells(cohort) for cohort in (*each, *sums)]
    print_table(f"recovery by {by} of the first decline, {zone}", names, rows)


@group.command("failures")
def failures(zone: OfZone, from_: From = None, to: To = None, as_csv: AsCsv = False) -> None:
    """Show the declines by decline class and PG, the most frequent first."""
    refuse_json_with_csv(as_csv=as_csv)
    made = services()
    found = reports.failures(made, _span(made, from_, to, zone))
    total = sum(row.declines for row in found)
    facts = [_failure_facts(row, total) for row in found]
    if as_csv:
        print_csv(facts)
        return
    answer(facts)
    names = ("class", "PG", "declines", "share", "charges", "money")
    print_table("declines", names, (_failure_cells(row, total) for row in found))


def _span(made: Services, first: str | None, last: str | None, zone: str) -> Span:
    today = local_date(made.clock.now(), read_zone(zone))
    until = read_date(last) if last else today
    return Span(read_date(first) if first else until - timedelta(days=USUAL_DAYS), until, zone)


def _cohort_facts(cohort: Cohort) -> dict[str, Any]:
    rates = {"rate_by_volume": _share(cohort.recovered_money, cohort.failed_money)}
    rates["rate_by_count"] = _share(cohort.recovered, cohort.failed)
    rates["attempts_per_recovery"] = _ratio(cohort.attempts, cohort.recovered)
    days = None if cohort.median_days is None else round(cohort.median_days, 2)
    return asdict(cohort) | {"median_days": days} | rates


def _cohort_cells(cohort: Cohort) -> Sequence[object]:
    rate = _share(cohort.recovered_money, cohort.failed_money) or 0.0
    tries = _ratio(cohort.attempts, cohort.recovered)
    return (
        cohort.begins or "all",
        cohort.failed,
        amount_words(cohort.failed_money, cohort.currency),
        cohort.recovered,
        amount_words(cohort.recovered_money, cohort.currency),
        f"{rate:.1%}",
        "█" * round(rate * BAR),
        amount_words(cohort.owed_money, cohort.currency),
        "" if tries is None else f"{tries:.1f}",
        "" if cohort.median_days is None else f"{cohort.median_days:.1f}",
    )


def _failure_facts(row: Failures, total: int) -> dict[str, Any]:
    return asdict(row) | {"share": _share(row.declines, total)}


def _failure_cells(row: Failures, total: int) -> Sequence[object]:
    money = amount_words(row.money, row.currency)
    share = f"{_share(row.declines, total) or 0:.1%}"
    return (
        row.decline_class or "not classed",
        row.pg_provider or "not said",
        row.declines,
        share,
        row.charges,
        money,
    )


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 2) if whole else None
