"""`--dry-run`: what a person does is done and undone in one transaction, so that what is told is true."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.output import os_user, print_json, say, wants_json

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


def facts_of(at: "Desk") -> dict[str, Any]:
    """Whether it was a dry run and what it would change, for an answer as JSON."""
    rehearsal = at.services.rehearsal
    if rehearsal is None:
        return {"dry_run": False}
    changes = {
        name: {"from": was, "to": becomes}
        for name, (was, becomes) in rehearsal.changes.items()
        if name not in UNTOLD
    }
    return {"dry_run": True, "changes": changes}


def told(at: "Desk", what: str, document: Mapping[str, Any] | None = None) -> bool:
    """Say what would have been done, if this was a dry run; whether it was.

    With --json the document is printed instead, with the changes; without a document it was printed before.
    """
    rehearsal = at.services.rehearsal
    if rehearsal is None:
        return False
    if document is not None and wants_json():
        print_json(dict(document) | facts_of(at))
    say(f"nothing is done; it would {what}")
    for name, (was, becomes) in rehearsal.changes.items():
        if name not in UNTOLD and was is not None:
            say(f"  {name.replace('_', ' ')}: {was} -> {'none' if becomes is None else becomes}")
        elif name not in UNTOLD:
            say(f"  {name.replace('_', ' ')}: {becomes}")
    return True
