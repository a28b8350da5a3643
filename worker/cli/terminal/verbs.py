"""Commands that are made from the verbs of the task API.

A verb's signature gives the arguments and options, `REQUEST_FIELDS` their help, and its docstring the command's.
"""

from collections.abc import Callable, Mapping
from datetime import date
from datetime import time as clock_time
from inspect import Parameter, Signature, cleandoc
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

import typer

from worker.cli.terminal.answers import in_words, print_rest
from worker.cli.terminal.dry_run import DryRun, context, facts_of, print_if_dry_run
from worker.cli.terminal.options import read_date, read_time
from worker.cli.terminal.output import Actor, Why, actor, print_json, say, wants_json, warn
from worker.task_api import answers
from worker.task_api.request_fields import meaning

if TYPE_CHECKING:
    from worker.task_api.verbs import Answer, Context

RequestKey = Annotated[
    str | None,
    typer.Option(help="Your own key of this request: given again, nothing is done and the answer is the same."),
]
# What a command prints after "it would" in a dry run, and when it is done: two templates over the fields of the
# request and the answer, or a function of these fields.
Sentences = tuple[str, str] | Callable[[Mapping[str, Any]], tuple[str, str]]
READERS: Mapping[Any, Callable[[str], object]] = {date: read_date, clock_time: read_time}


def add_verb(
    app: typer.Typer, verb: "Callable[..., Answer]", sentences: Sentences,
    *, name: str | None = None, dry_run: bool = True, **options: Any,
) -> None:  # fmt: skip
    """Add the command of a verb to an app.

    `options` has a typer.Argument or typer.Option for each field whose generated one does not do.
    """
    names = [field.name for field in answers.fields_of(verb)]

    def run(*, dry_run: bool = False, request_key: str | None = None, **given: Any) -> None:
        at = context(dry_run=dry_run)
        given |= {"reason": given.pop("why", None), "actor": given.pop("who")}
        fields = {field: given[field] for field in names if field in given}
        done = carry_out(at, verb, request_key, **fields)
        words = in_words(fields | done)
        filled = sentences(words) if callable(sentences) else [each.format_map(words) for each in sentences]
        if not print_if_dry_run(at, filled[0]):
            say(filled[1])
        print_rest(done)

    run.__doc__ = cleandoc(verb.__doc__ or "").partition("\n\n")[0]
    parameters = _parameters(verb, options, dry_run=dry_run)
    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # inspect reads it
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    app.command(name or verb.__name__.replace("_", "-"))(run)


def _parameters(verb: "Callable[..., Answer]", options: Mapping[str, Any], *, dry_run: bool) -> list[Parameter]:
    """The parameters of a verb's command: its own arguments and options, then those that all verbs share."""
    hints = get_type_hints(verb)
    own = []
    for field in answers.fields_of(verb):
        match field.name:
            case "actor":
                continue
            case "reason":
                own.append(_keyword("why", Why))
            case "request_key":
                own.append(_keyword("request_key", RequestKey, None))
            case name:
                text = any(hint in READERS for hint in (hints[name], *get_args(hints[name])))
                option = options.get(name) or _option(field, hints[name], meaning(verb.__name__, name))
                own.append(_keyword(name, str if text else hints[name], option))
    if dry_run:
        own.append(_keyword("dry_run", DryRun, False))
    return [*own, _keyword("who", Actor, actor())]


def _keyword(name: str, annotation: Any, default: Any = Parameter.empty) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _option(field: Parameter, hint: Any, text: str) -> Any:
    if hint is bool:
        return typer.Option(False, f"--{field.name.replace('_', '-')}", help=text)
    if field.default is Parameter.empty:
        return typer.Argument(help=text, callback=READERS.get(hint))
    return typer.Option(field.default, help=text)


def carry_out(at: "Context", verb: "Callable[..., Answer]", request_key: str | None, **fields: Any) -> "Answer":
    """Carry out a verb and, with --json, print the answer; a repeated request gets the first answer."""
    done, is_new = carry_out_silently(at, verb, request_key, **fields)
    if wants_json():
        print_json(done | {"is_new": is_new} | facts_of(at))
    return done


def carry_out_silently(
    at: "Context", verb: "Callable[..., Answer]", request_key: str | None, **fields: Any
) -> "tuple[Answer, bool]":
    """Carry out a verb; return its answer, and whether it was carried out now."""
    done, is_new = answers.carry_out(at, verb, fields, request_key)
    if not is_new:
        say_repeated(request_key)
    return done, is_new


def say_repeated(request_key: str | None) -> None:
    """Print on standard error that nothing was done now."""
    warn(f"request {request_key!r} was carried out before; this is its answer")
