"""`again pause`, `resume`, `undo`, `skip`, `move-anchor`, `move-time`, `change-plan` and `change-card`."""

from collections.abc import Mapping
from datetime import time
from typing import Any

import typer

from worker.cli.terminal.options import read_time
from worker.cli.terminal.verbs import add_verb
from worker.task_api import verbs


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    add_verb(
        app, verbs.pause,
        ("pause subscription {subscription}", "subscription {subscription} is paused until `again resume`"),
    )  # fmt: skip
    add_verb(
        app, verbs.resume, ("resume subscription {subscription}", "subscription {subscription} continues"),
    )  # fmt: skip
    add_verb(
        app, verbs.undo, _undone,
        what=typer.Option(None, help="`end` or `skip`; needed when the subscription ends and skips a period."),
    )  # fmt: skip
    add_verb(
        app, verbs.skip,
        (
            "not charge period {period_no} of {period_date}, {not_charged}",
            "period {period_no} of {period_date}, {not_charged}, of subscription {subscription} will not be "
            "charged; `again undo` takes that back",
        ),
        period_no=typer.Option(
            None, "--period", help="The number of the period; the next one that is not skipped unless given."
        ),
    )  # fmt: skip
    add_verb(
        app, verbs.move_anchor,
        (
            "begin period {period_no} on {period_date}",
            "period {period_no} of subscription {subscription} begins on {period_date}, due {next_due_at}",
        ),
    )  # fmt: skip
    add_verb(
        app, verbs.move_time,
        ("charge it next at {next_due_at}", "subscription {subscription} is charged next at {next_due_at}"),
        time=typer.Argument(
            help="Local time `HH:MM` in the plan's zone; `plan` for the plan's own.", callback=_read_time
        ),
    )  # fmt: skip
    terms = (
        "plan {plan} version {version}, {amount_before} -> {amount}, from period {period_no} on, due {next_due_at}"
    )
    add_verb(
        app, verbs.change_plan, (f"charge by {terms}", f"subscription {{subscription}} is charged by {terms}")
    )  # fmt: skip
    add_verb(
        app, verbs.change_card,
        (
            "charge {customer_uid}, and try {tried} open debts with it at once",
            "subscription {subscription} is charged to {customer_uid}; open debts tried with it now: {tried}",
        ),
    )  # fmt: skip


def _read_time(text: str) -> time | None:
    return None if text == "plan" else read_time(text)


def _undone(words: Mapping[str, Any]) -> tuple[str, str]:
    if words["undone"] == "end":
        undone = f"the end at {words['ended_at']}; debts tried again: {words['debts_tried']}"
    else:
        undone = f"the skip of the periods below {words['skipped_below']}"
    return f"undo {undone}", f"subscription {words['subscription']}: undone is {undone}"
