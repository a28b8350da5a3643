"""`again reconcile`, `findings` and `unknown`: compare the gateway's records with the database."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from schedules.errors import Code
from schedules.money.amounts import amount_words
from worker.cli.terminal.options import read_instant, until_interrupted
from worker.cli.terminal.output import (
    Actor,
    Why,
    actor,
    age,
    answer,
    instant,
    make_console,
    moment,
    print_table,
    say,
    wants_json,
    warn,
)
from worker.cli.terminal.sections import Listed
from worker.cli.terminal.wired import services
from worker.reconciliation import reconciler, resolve_finding
from worker.services import Services, UnusableAccount
from worker.store.reconciliation import findings as rows
from worker.store.reconciliation.findings import Finding
from worker.store.reconciliation.reconciliations import Run

MOST_LISTED = 1000
USUAL_SPAN = timedelta(days=2)
Number = Annotated[int, typer.Argument(help="The finding's number.")]
app = typer.Typer()
findings_app = typer.Typer(cls=Listed, help="Differences between the gateway's records and the database.")
app.add_typer(findings_app, name="findings", invoke_without_command=True)


@app.command("reconcile")
def reconcile(
    from_: Annotated[
        str | None, typer.Option("--from", help="Begin here: an instant or a date; two days ago unless given.")
    ] = None,
    to: Annotated[str | None, typer.Option("--to", help="End here; two minutes ago unless given.")] = None,
    account: Annotated[str | None, typer.Option(help="A gateway account; all of them unless given.")] = None,
) -> None:
    """Compare the gateway's list with the database now, and show the findings.

    It can be stopped with Ctrl-C; the same command with the same --from and --to continues where it stopped.
    """
    made = services()
    now = made.clock.now()
    since = read_instant(from_) if from_ else now - USUAL_SPAN
    until = read_instant(to) if to else now - reconciler.SETTLING_TIME
    under_way = f"calls of the last {age(reconciler.SETTLING_TIME)} may be under way"
    newer = "they are after --to" if to else f"{under_way}; the next hourly run compares them"
    if until > now:
        raise typer.BadParameter(f"--to {to} is not in the past")
    runs, left_out = [], 0
    for name in [account] if account else made.account_names:
        try:
            runs.append(_reconcile(made, name, since, until, quiet=wants_json()))
        except UnusableAccount as error:
            if account:
                raise
            left_out += 1  # the other accounts are still compared
            warn(f"account {name} is left out: {error}")
    with made.engine.begin() as db:
        found = rows.listed(db, limit=MOST_LISTED)
    answer({"runs": [_run(run, newer) for run in runs], "findings": [_document(finding) for finding in found]})
    for run in runs:
        _print_run(run, newer)
    _print_findings(found)
    if left_out or any(run.ended_at is None for run in runs):
        raise typer.Exit(1)


def _reconcile(made: Services, account: str, since: datetime, until: datetime, *, quiet: bool) -> Run:
    run = reconciler.begin_asked(made, account, since, until)
    console = make_console(stderr=True, quiet=quiet)
    if run.done_until > run.since:
        console.print(f"going on from {moment(run.done_until)}", markup=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[counts]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        total = (run.until - run.since).total_seconds()
        bar = progress.add_task(f"account {account}", total=total, counts="")

        def show(run: Run) -> None:
            done = (run.done_until - run.since).total_seconds()
            progress.update(bar, completed=done, counts=f"{run.payments:,} payments, new findings: {run.findings}")

        with until_interrupted() as going_on:
            worked = reconciler.work(made, run.id, going_on, show)
    if worked is None:
        busy = f"another process is comparing account {account}"
        raise reconciler.CannotReconcile(Code.BUSY, busy)
    if worked.ended_at is None:
        why = worked.words or "interrupted"
        stopped = f"stopped at {moment(worked.done_until)}: {why}; to go on: {_to_go_on(worked)}"
        console.print(stopped, markup=False)
    return worked


@findings_app.callback()
def findings(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Those that are over too, newest first.")] = False,
) -> None:
    """List where the gateway's records and the database differ."""
    if context.invoked_subcommand is not None:
        return
    with services().engine.begin() as db:
        found = rows.listed(db, ended=everything, limit=MOST_LISTED)
    answer([_document(finding) for finding in found])
    _print_findings(found, everything=everything)


@findings_app.command("resolve")
def resolve(
    number: Number,
    why: Why,
    accept: Annotated[bool, typer.Option("--accept", help="Write what the gateway has to the database.")] = False,
    unpaid: Annotated[
        bool, typer.Option("--unpaid", help="The money is back: the debt may be tried again, under a new uid.")
    ] = False,
    who: Actor = actor(),
) -> None:
    """End a finding; the charge is not changed unless --accept or --unpaid is given."""
    if accept and unpaid:
        raise typer.BadParameter("give --accept or --unpaid, not both")
    chosen = {(True, False): resolve_finding.Verdict.ACCEPTED, (False, True): resolve_finding.Verdict.UNPAID}
    verdict = chosen.get((accept, unpaid), resolve_finding.Verdict.NOTED)
    finding = resolve_finding.resolve(services(), number, verdict, who, why)
    answer(
        {"finding": number, "kind": finding.kind, "verdict": verdict},
        f"finding {number} ({finding.kind}) is resolved: {verdict}",
    )


@findings_app.command("refund")
def refund(number: Number, why: Why, who: Actor = actor()) -> None:
    """Refund a double payment, or the payment of a closed charge: all that is left of it, once."""
    finding = resolve_finding.refund(services(), number, who, why)
    left = amount_words(finding.balance, finding.currency)
    answer(
        {"finding": number, "imp_uid": finding.imp_uid, "amount": finding.balance, "currency": finding.currency},
        f"{left} of {finding.imp_uid} will be given back, all that is left of it",
    )


def _print_run(run: Run, newer: str) -> None:
    """Print what a run has compared, and why newer records were left out."""
    say(f"account {run.account}: {run.payments:,} payments compared, new findings: {run.findings}")
    say(f"  from {run.since:%Y-%m-%d %H:%M:%S}Z to {run.done_until:%Y-%m-%d %H:%M:%S}Z")
    say(f"  newer records are left out: {_why_newer_are_left_out(run, newer)}")


def _run(run: Run, newer: str) -> dict[str, Any]:
    return {
        "account": run.account, "since": run.since, "until": run.until, "done_until": run.done_until,
        "newer_left_out": _why_newer_are_left_out(run, newer), "payments": run.payments,
        "new_findings": run.findings, "to_go_on": _to_go_on(run) if run.ended_at is None else None,
    }  # fmt: skip


def _to_go_on(run: Run) -> str:
    """The command that continues an interrupted run."""
    return f"again reconcile --from {instant(run.since)} --to {instant(run.until)} --account {run.account}"


def _why_newer_are_left_out(run: Run, newer: str) -> str:
    return newer if run.ended_at is not None else "the run stopped before them"


def _print_findings(listed: Sequence[Finding], *, everything: bool = False) -> None:
    names = ("no", "kind", "state", "merchant_uid", "imp_uid", "left", "what")
    title = "findings" if everything else "open findings"
    shown = (
        (f.id, f.kind, f.state, f.merchant_uid, f.imp_uid, amount_words(f.balance, f.currency), f.words)
        for f in listed
    )
    print_table(title, names, shown)


def _document(finding: Finding) -> dict[str, Any]:
    return {name: getattr(finding, name) for name in type(finding).__slots__ if name != "fence"}
