"""`again audit`: who did what to which, when and why."""

from typing import Annotated

import typer

from worker.cli.terminal.options import read_instant
from worker.cli.terminal.output import AsJson, print_json, print_table


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command("audit")(audit)


def audit(
    subject: Annotated[
        str | None, typer.Argument(help="A key, customer_uid, plan or account; everything unless given.")
    ] = None,
    by: Annotated[str | None, typer.Option("--by", help="Only what this actor did.")] = None,
    verb: Annotated[str | None, typer.Option(help="Only this verb, such as waive.")] = None,
    since: Annotated[str | None, typer.Option(help="Only from this instant on, ISO 8601.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The newest so many.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List what people did, newest first; nothing is ever taken out of it."""
    from worker.store.reporting import timeline
    from worker.wiring import services

    begins = read_instant(since) if since else None
    with services().engine.begin() as db:
        acts = timeline.audit_page(db, timeline.Acts(subject, by, verb, begins), limit)
    names = ("at", "actor", "verb", "subject", "why", "details")
    if as_json:
        print_json([{name: act[name] for name in names} for act in acts])
        return
    rows = ((*(act[name] for name in names[:-1]), act["details"]) for act in acts)
    print_table("audit", names, rows)
