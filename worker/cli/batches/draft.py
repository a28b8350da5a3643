"""`again charge-batch`: check the lines of a file or a segment, show the draft, and charge it step by step."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

import typer

from schedules.charging.charges import SubscriptionStatus
from schedules.dunning.policies import ONCE
from schedules.money.amounts import amount_words
from schedules.requests.batches import COLUMNS, BatchState, Line, Preview, Terms, checked_columns
from worker.batches import drafts, run_batch
from worker.cli.batches.run import progress_of, watch_batch
from worker.cli.terminal.options import confirm
from worker.cli.terminal.output import Actor, Why, actor, answer, os_user, print_json, print_table, say, wants_json
from worker.cli.terminal.tables import Encoding, read_csv
from worker.cli.terminal.wired import services
from worker.services import DryRunChanges, Services
from worker.store.batches import Batch
from worker.textfiles import open_text

app = typer.Typer()


@app.command("charge-batch")
def charge_batch(
    name: Annotated[str, typer.Option(help="On the customers' statements, where a line has none of its own.")],
    why: Why,
    file: Annotated[
        Path | None, typer.Argument(help=f"A CSV file with the columns {', '.join(COLUMNS)}; - is standard input.")
    ] = None,
    plan: Annotated[str | None, typer.Option(help="Instead of a file: everybody on this plan.")] = None,
    status: Annotated[SubscriptionStatus, typer.Option(help="Of those on the plan.")] = SubscriptionStatus.ACTIVE,
    amount: Annotated[str | None, typer.Option(help="For everybody on the plan, in major units.")] = None,
    key: Annotated[
        str | None, typer.Option(help="Your key of this batch: given again, it is the same. A file has its own.")
    ] = None,
    currency: Annotated[str, typer.Option(help="ISO 4217, where a line has none of its own.")] = "KRW",
    policy: Annotated[str, typer.Option(help="The policy by which each is tried again.")] = ONCE.code,
    canary: Annotated[int, typer.Option(min=0, help="Charge so many first, and look at them.")] = 0,
    canary_bound: Annotated[str, typer.Option(help="Percent of the first that may fail.")] = "20",
    repeats: Annotated[
        str, typer.Option(help="Key of an earlier batch with the same lines, to charge all of them once more.")
    ] = "",
    encoding: Encoding = None,
    yes: Annotated[bool, typer.Option("--yes", help="Go on without asking.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Show its progress until it ends.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check and preview only; nothing is charged.")
    ] = False,
    who: Actor = actor(),
) -> None:
    """Charge many customers once: lines are checked, a summary is shown, then they are charged in parts."""
    if (file is None) is (plan is None):
        raise typer.BadParameter("give a file, or --plan with --amount; not both")
    if (plan is None) is not (amount is None):
        raise typer.BadParameter("--amount goes with --plan: in a file each line has its own")
    chosen = key or (_key_of(file, name, why) if file is not None and str(file) != "-" else None)
    if chosen is None:
        raise typer.BadParameter("give --key: what is not a file has no key of its own")
    terms = Terms(
        key=chosen, name=name, reason=why, policy=policy, currency=currency, canary=canary,
        canary_bound=_percent(canary_bound), repeats=repeats,
    )  # fmt: skip
    made = replace(services(), dry_run=DryRunChanges()) if dry_run else services()
    with _lines(made, file, plan, status, amount, encoding) as lines:
        batch, preview = drafts.draft(made, terms, lines, who)
    _print_preview(batch, preview)
    sums = {"lines": preview.count, "sums": dict(preview.sums)}
    if dry_run:
        answer({"key": chosen, "dry_run": True} | sums, "nothing is done; every line can be charged")
        return
    if batch.state is BatchState.DRAFT:
        confirm(yes=yes)
        batch = run_batch.begin(made, chosen, who, os_user())
    _print_state(batch)
    try:
        if wait:
            watch_batch(made, chosen)
    finally:
        if wants_json():
            print_json(progress_of(made, chosen) | {"dry_run": False})


def _key_of(file: Path, name: str, why: str) -> str:
    """The key of a file: the same file for the same reason is the same batch."""
    digest = hashlib.sha256(json.dumps([name, why]).encode())
    try:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror}") from None
    return f"file-{digest.hexdigest()[:16]}"


def _percent(text: str) -> Decimal:
    try:
        return Decimal(text.removesuffix("%"))
    except InvalidOperation:
        raise typer.BadParameter(f"--canary-bound {text!r} is not a percentage; write it like 20") from None


@contextmanager
def _lines(
    made: Services,
    file: Path | None,
    plan: str | None,
    status: SubscriptionStatus,
    amount: str | None,
    encoding: str | None,
) -> Iterator[Iterator[Line]]:
    if file is None:
        from worker.batches import drafts

        yield drafts.segment(made, plan or "", status.value, amount or "")
        return
    with open_text(file, encoding) as stream:
        yield read_csv(stream, checked_columns)


def _print_preview(batch: Batch, preview: Preview) -> None:
    sums = ", ".join(amount_words(amount, currency) for currency, amount in preview.sums.items())
    say(f"batch {batch.key}: {preview.count:,} charges, {sums}")
    rows = ((number, uid, str(money)) for number, uid, money in preview.largest)
    print_table("the largest", ("line", "customer_uid", "amount"), rows)


def _print_state(batch: Batch) -> None:
    if batch.state is BatchState.WAITING:
        say(f"it waits: {batch.words}; another person says `again batch approve {batch.key} --why …`")
    else:
        say(f"batch {batch.key} is {batch.state}; `again batch watch {batch.key}` shows how it goes on")
