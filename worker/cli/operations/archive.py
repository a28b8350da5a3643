"""`again archive`: move old, ended charges to the archive."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn

from worker.cli.terminal.options import read_month, until_interrupted
from worker.cli.terminal.output import Actor, actor, answer, make_console, print_facts, wants_json, warn
from worker.cli.terminal.wired import services
from worker.operations import archiving
from worker.operations.archiving import Tally

app = typer.Typer()


@app.command("archive")
def archive(
    before: Annotated[str, typer.Option(help="A month such as 2025-10, in UTC: what ended before it.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count; nothing is written.")] = False,
    who: Actor = actor(),
) -> None:
    """Move the attempts of charges that ended before a month to the archive, while workers run.

    It works in small batches and can be stopped with Ctrl-C; the same command continues with the rest.
    """
    month = read_month(before)
    with until_interrupted() as going_on, _progress() as show:
        tally = archiving.archive(services(), month, who, going_on=going_on, on_progress=show, dry_run=dry_run)
    answer({"before": before, "dry_run": dry_run, **tally.facts()})
    if not wants_json():
        _print(before, tally, dry_run=dry_run)
    if not tally.is_whole:
        raise typer.Exit(1)


@contextmanager
def _progress() -> Iterator[Callable[[Tally], None]]:
    """Show the counts so far on standard error."""
    console = make_console(stderr=True, quiet=wants_json())
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), console=console, transient=True) as progress:
        task = progress.add_task("looking", total=None)

        def show(tally: Tally) -> None:
            words = (
                f"{tally.looked_at:,} charges looked at, {tally.attempts:,} attempts, {tally.notices:,} notices"
            )
            progress.update(task, description=words)

        yield show


def _print(before: str, tally: Tally, *, dry_run: bool) -> None:
    months = sorted(tally.months)
    span = f"{len(months)}, {months[0]} to {months[-1]}" if months else "none"
    facts = {
        "months": span, "charges looked at": f"{tally.looked_at:,}", "charges archived": f"{tally.charges:,}",
        "attempts moved": f"{tally.attempts:,}", "events moved": f"{tally.events:,}",
        "notices moved": f"{tally.notices:,}",
    }  # fmt: skip
    print_facts(f"before {before}" + (": nothing is done; it would be" if dry_run else ""), facts)
    if not tally.is_whole:
        warn("stopped; the same command goes on with what is left")
