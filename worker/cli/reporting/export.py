"""`again export`: write all records of one kind."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from worker.cli.terminal.output import print_json, wants_json, warn
from worker.cli.terminal.tables import Bom, refuse_bom_of_lines, refuse_json_beside_rows, to_write, write
from worker.cli.terminal.wired import services
from worker.store.reporting import exports

app = typer.Typer()


class Thing(StrEnum):
    """The kinds of records that can be exported."""

    CUSTOMERS = "customers"
    PLANS = "plans"
    POLICIES = "policies"
    SUBSCRIPTIONS = "subscriptions"
    CHARGES = "charges"
    ATTEMPTS = "attempts"
    REFUNDS = "refunds"
    FINDINGS = "findings"
    EVENTS = "events"
    AUDIT = "audit"


@app.command("export")
def export(
    thing: Annotated[Thing, typer.Argument(help="What to write.")],
    out: Annotated[Path | None, typer.Option(help="A file to write; standard output unless given.")] = None,
    as_lines: Annotated[bool, typer.Option("--jsonl", help="A JSON object for each line instead of CSV.")] = False,
    bom: Bom = False,
) -> None:
    """Export all rows of one kind from one snapshot; cards are masked, and no secret is written."""
    refuse_bom_of_lines(bom=bom, as_lines=as_lines)
    refuse_json_beside_rows(out)

    with services().one_moment(for_long=True) as db, to_write(out, bom=bom) as stream:
        count = write(stream, exports.columns(thing.value), exports.rows(db, thing.value), as_lines=as_lines)
    if wants_json():
        print_json({"what": thing, "rows": count, "out": out})
    else:
        warn(f"{count:,} {thing.value}")
