"""`again dead-letters`: messages from the broker that were refused."""

from dataclasses import asdict
from typing import Annotated

import typer

from worker.cli.terminal.output import answer, print_table, say
from worker.cli.terminal.sections import Listed
from worker.cli.terminal.wired import services
from worker.store.operations import dead_letters as rows

MOST_LISTED = 1000
app = typer.Typer()
dead_letters_app = typer.Typer(
    cls=Listed, help="Messages from the broker that were refused, without their contents."
)
app.add_typer(dead_letters_app, name="dead-letters", invoke_without_command=True)


@dead_letters_app.callback()
def dead_letters(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=MOST_LISTED, help="How many at most.")] = 50,
) -> None:
    """List refused messages, newest first; docs/how-to/dead-letters.md describes each reason."""
    if context.invoked_subcommand is not None:
        return
    with services().engine.begin() as db:
        listed, total = rows.listed(db, limit), rows.total(db)
    answer({"total": total, "dead_letters": [asdict(letter) for letter in listed]})
    names = ("queue", "reason", "task", "message_id", "size", "digest", "first_at", "last_at", "count")
    print_table("dead letters", names, ([getattr(letter, name) for name in names] for letter in listed))
    say(f"{total} messages were refused")


@dead_letters_app.command("purge")
def purge() -> None:
    """Remove all dead letters from the list."""
    with services().engine.begin() as db:
        removed = rows.purge(db)
    answer({"removed": removed}, f"removed; they counted {removed} refused messages")
