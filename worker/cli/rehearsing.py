"""`--dry-run`: what a person does is done and undone in one transaction, so that what is told is true."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.output import os_user

if TYPE_CHECKING:
    from worker.requests import Desk

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell what would be done; nothing is.")]
UNTOLD = frozenset({"id", "created_at"})


def desk(*, dry_run: bool) -> "Desk":
    """Where a command is carried out, or only rehearsed."""
    from worker import tasks
    from worker.workflows.services import Rehearsal

    made = replace(tasks.desk(), os_user=os_user())
    return replace(made, services=replace(made.services, rehearsal=Rehearsal())) if dry_run else made


def told(at: "Desk", what: str) -> bool:
    """Say what would have been done, if this was a rehearsal; whether it was."""
    rehearsal = at.services.rehearsal
    if rehearsal is None:
        return False
    print(f"nothing is done; it would {what}")
    for name, (was, becomes) in rehearsal.changes.items():
        if name not in UNTOLD and was is not None:
            print(f"  {name.replace('_', ' ')}: {was} -> {'none' if becomes is None else becomes}")
        elif name not in UNTOLD:
            print(f"  {name.replace('_', ' ')}: {becomes}")
    return True
