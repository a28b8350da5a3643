"""`--request-key`: what a command does is done once for each key, as by the tasks of other backends."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from worker.requests import Answer, Desk

RequestKey = Annotated[
    str | None,
    typer.Option(help="Your own key of this request: given again, nothing is done and the answer is the same."),
]


def carry_out(at: "Desk", asked: "Callable[..., Answer]", request_key: str | None, **fields: Any) -> "Answer":
    """Do it, or say on standard error that it was done before and answer as then."""
    from worker import answering

    answer, is_new = answering.carry_out(at, asked, fields, request_key)
    if not is_new:
        typer.echo(f"again: request {request_key!r} was carried out before; this is its answer", err=True)
    return answer


def when(instant: str) -> str:
    """An instant of an answer as commands print it: 2026-11-30 09:00Z."""
    return f"{instant[:10]} {instant[11:16]}Z"
