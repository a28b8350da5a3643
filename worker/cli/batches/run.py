"""`again batch`: list, approve, stop, resume and watch batches."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from schedules.errors import Code, OwnCode
from schedules.money.amounts import amount_words
from schedules.requests.batches import BatchState
from worker.batches import drafts, run_batch
from worker.cli.terminal.output import (
    Actor,
    Why,
    actor,
    answer,
    make_console,
    os_user,
    print_facts,
    print_json,
    print_table,
    wants_json,
    warn,
)
from worker.cli.terminal.sections import Listed
from worker.cli.terminal.tables import Bom, refuse_bom_of_lines, refuse_json_beside_rows, to_write, write
from worker.cli.terminal.wired import services
from worker.clock import wait
from worker.services import Services
from worker.store import batches
from worker.store.batches import Batch

LOOK_EVERY = 1.0  # seconds
RESULTS = (
    "number", "customer_uid", "amount", "currency", "name", "request_key", "charge", "status", "merchant_uid",
    "imp_uid", "decline_class", "reason", "words",
)  # fmt: skip
app = typer.Typer()
group = typer.Typer(cls=Listed, help="Batches of charges that are requested together.", no_args_is_help=True)
app.add_typer(group, name="batch")
Key = Annotated[str, typer.Argument(help="The batch's key.")]


class NotAllPaid(OwnCode):
    """The batch has ended or stopped, and not all charges are paid."""


@group.command("list")
def list_batches(limit: Annotated[int, typer.Option(min=1, max=10_000, help="The newest so many.")] = 50) -> None:
    """List batches, newest first."""
    with services().engine.begin() as db:
        found = batches.listed(db, limit)
    answer([_facts(batch) for batch in found])
    names = ("key", "state", "lines", "opened", "created_by", "created_at", "approved_by", "words")
    print_table("batches", names, ([getattr(batch, name) for name in names] for batch in found))


@group.command("show")
def show_batch(key: Key) -> None:
    """Show the progress of a batch and the results of its lines."""
    facts = progress_of(services(), key)
    answer(facts)
    sums = ", ".join(amount_words(amount, currency) for currency, amount in facts["sums"].items())
    print_facts(f"batch {key}", facts | {"sums": sums})


@group.command("approve")
def approve(key: Key, why: Why, who: Actor = actor()) -> None:
    """Approve a batch above the limit; a second person must do it."""
    run_batch.approve(services(), key, who, why, os_user())
    _answer(key, f"batch {key} is charged now; `again batch watch {key}` shows how it goes on")


@group.command("drop")
def drop(key: Key, why: Why, who: Actor = actor()) -> None:
    """Drop a batch of which nothing was charged."""
    run_batch.drop(services(), key, who, why)
    _answer(key, f"batch {key} is dropped; nothing of it was charged")


@group.command("stop")
def stop(key: Key, why: Why, who: Actor = actor()) -> None:
    """Stop a batch: no further line is opened, untried charges wait, and calls under way end."""
    waiting = run_batch.stop(services(), key, who, why)
    _answer(key, f"batch {key} is stopped; charges that wait: {waiting}")


@group.command("resume")
def resume(key: Key, why: Why, who: Actor = actor()) -> None:
    """Resume a stopped batch where it was stopped."""
    released = run_batch.resume(services(), key, who, why)
    _answer(key, f"batch {key} goes on; charges that wait no longer: {released}")


@group.command("watch")
def watch(key: Key) -> None:
    """Show the progress of a batch until it ends; Ctrl-C ends only the display."""
    made = services()
    try:
        watch_batch(made, key)
    finally:
        if wants_json():
            print_json(progress_of(made, key))


@group.command("export")
def export(
    key: Key,
    out: Annotated[Path | None, typer.Option(help="A file to write; standard output unless given.")] = None,
    as_lines: Annotated[bool, typer.Option("--jsonl", help="A JSON object for each line instead of CSV.")] = False,
    bom: Bom = False,
) -> None:
    """Write every line of a batch with its result."""
    refuse_bom_of_lines(bom=bom, as_lines=as_lines)
    refuse_json_beside_rows(out)

    with services().one_moment(for_long=True) as db, to_write(out, bom=bom) as stream:
        batch = drafts.known_batch(db, key, lock=False)
        count = write(stream, RESULTS, map(asdict, batches.results(db, batch.id)), as_lines=as_lines)
    if wants_json():
        print_json({"batch": key, "rows": count, "out": out})
    else:
        warn(f"{count:,} lines of batch {key}")


def _answer(key: str, words: str) -> None:
    """Print the result of a command; with --json the progress of the batch."""
    answer(progress_of(services(), key), words)


def _facts(batch: Batch) -> dict[str, Any]:
    names = (
        "key", "state", "lines", "opened", "created_by", "created_os_user", "created_at", "approved_by",
        "approved_os_user", "words", "canary_passed",
    )  # fmt: skip
    return {name: getattr(batch, name) for name in names} | {"sums": dict(batch.sums)}


def progress_of(made: Services, key: str) -> dict[str, Any]:
    """The progress of a batch, for JSON."""
    with made.engine.begin() as db:
        batch = drafts.known_batch(db, key, lock=False)
        found = batches.tally(db, batch)
    tallied = {name: getattr(found, name) for name in ("paid", "failed", "undecided", "without_charge")}
    return _facts(batch) | tallied


def watch_batch(made: Services, key: str) -> None:
    """Show the progress of a batch until it ends; raises NotAllPaid unless all of it is paid."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=make_console(stderr=True)) as bar:
        task = bar.add_task(key)
        while True:
            seen = progress_of(made, key)
            over = seen["paid"] + seen["failed"] + seen["without_charge"]
            description = f"{key}: paid {seen['paid']:,}, failed {seen['failed'] + seen['without_charge']:,}"
            bar.update(task, total=seen["lines"], completed=over, description=description)
            if seen["state"] in (BatchState.STOPPED, BatchState.WAITING, BatchState.DROPPED):
                raise NotAllPaid(
                    Code.CONFLICT if seen["state"] is BatchState.DROPPED else Code.HELD,
                    f"batch {key} is {seen['state']}: {seen['words'] or 'another person must approve it'}",
                )
            if over >= seen["lines"]:
                break
            wait(LOOK_EVERY)
    if over > seen["paid"]:
        raise NotAllPaid(
            Code.DECLINED,
            f"{over - seen['paid']:,} of {over:,} charges failed; `again batch export {key}` lists them",
        )
