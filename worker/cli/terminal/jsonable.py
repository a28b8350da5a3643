"""`--json` before or after the name of every command, which has no parameter for it: `answer` prints JSON."""

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from typing import Any

import typer

from worker.cli.terminal.output import AsJson
from worker.cli.terminal.sections import PROCESSES

NAME = "as_json"


def add_to_commands(app: typer.Typer) -> None:
    """Add --json to every command, except to long-running processes."""
    for command in app.registered_commands:
        if command.callback is not None and command.name not in PROCESSES:
            command.callback = _with_json(command.callback)
    for group in app.registered_groups:
        below = group.typer_instance
        if below is None:
            continue
        if below.registered_callback is not None and below.registered_callback.callback is not None:
            below.registered_callback.callback = _with_json(below.registered_callback.callback)
        add_to_commands(below)


def _with_json(command: Callable[..., Any]) -> Callable[..., Any]:
    taken = signature(command, eval_str=True)
    if NAME in taken.parameters:
        return command  # added when these commands were put together before

    @wraps(command)
    def run(**arguments: Any) -> Any:
        del arguments[NAME]  # `use_json` knows it: --json may also precede the name of the command
        return command(**arguments)

    option = Parameter(NAME, Parameter.KEYWORD_ONLY, default=False, annotation=AsJson)
    others = [each.replace(kind=Parameter.KEYWORD_ONLY) for each in taken.parameters.values()]
    run.__signature__ = taken.replace(parameters=[*others, option])  # type: ignore[attr-defined]  # inspect reads it
    run.__annotations__ = {**command.__annotations__, NAME: AsJson}
    return run
