"""Read the fields of a message, carry out its verb, and return the answer as plain JSON."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from inspect import Parameter, signature
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from sqlalchemy.exc import DBAPIError

from schedules.errors import BadRequest, Code, UserError
from schedules.requests.adhoc import VerbRequest
from schedules.texts import cleaned, escaped
from worker import idempotency
from worker.logs import masked
from worker.store import failures
from worker.task_api.verbs import NEEDS_KEY, NULL_NEEDS_KEY, TAKES_KEY, Answer, Context, Words

QUOTE_PERSONS = frozenset({"find", "why"})  # their errors have names, e-mail addresses and telephone numbers
log = logging.getLogger("again.answers")
LONGEST_FIELD = 80  # characters of a field's name in answers and logs


def answer(
    context: Context, verb: Callable[..., Answer], positional: Sequence[object], named: Mapping[str, Any]
) -> Answer:
    """Carry out a verb and return its answer. A wrong request gets an answer too, and is not retried.

    A transient database error is raised, so that the caller retries; other database errors become an answer.
    """
    try:
        fields = read_fields(verb, positional, named)
        request_key = fields.pop("request_key") if verb in TAKES_KEY else None
        _refuse_repeatable(verb, fields, request_key)
        done, _ = carry_out(context, verb, fields, request_key)
        return {"ok": True, **done}
    except ValidationError as error:
        errors = [{"field": _field(problem), "words": masked(problem["msg"])} for problem in _problems(error)]
        return _no(verb, Code.INVALID, "bad_arguments", errors)
    except BadRequest as error:
        return _no(verb, error.code, "bad_arguments", [{"field": error.field, "words": masked(error.words)}])
    except UserError as error:
        return _no(verb, error.code, "refused", [{"field": None, "words": masked(str(error))}])
    except DBAPIError as error:
        if failures.is_transient(error):
            raise
        # A retry would fail again. The error's text can quote values of a row, so the answer has its kind only.
        summary = failures.summary(error)
        words = f"the database refused a statement: {summary}; the worker's log has a traceback"
        log.error("again.%s failed: %s", verb.__name__, summary, exc_info=error)
        return _no(verb, failures.code_of(error), "failed", [{"field": None, "words": words}])


def _refuse_repeatable(
    verb: Callable[..., Answer], fields: Mapping[str, Any], request_key: str | None
) -> None:  # fmt: skip
    """Raise BadRequest for a request that would do something else when its message is delivered again."""
    field = NULL_NEEDS_KEY.get(verb)
    if request_key is None and field is not None and fields[field] is None:
        raise BadRequest(
            Code.INVALID, field, "null means another thing each time; name what is meant, or add a request_key"
        )


def carry_out(
    context: Context, verb: Callable[..., Answer], fields: Mapping[str, Any], request_key: str | None
) -> tuple[Answer, bool]:
    """Carry out a verb, once per request key; return its answer, and whether it was carried out now.

    An argument with its default value is compared as if it were absent.
    """
    if request_key is None:
        return verb(context, **fields), True
    defaults = {parameter.name: parameter.default for parameter in fields_of(verb)}
    arguments = {name: value for name, value in fields.items() if name != "actor" and value != defaults[name]}
    request = VerbRequest(request_key=request_key, verb=verb.__name__, arguments=arguments)
    return idempotency.once(context.services, request, lambda at: verb(replace(context, services=at), **fields))


def fields_of(verb: Callable[..., Answer]) -> list[Parameter]:
    """The fields of a request: the parameters of the verb and, where it takes one, the request key."""
    own = list(signature(verb).parameters.values())[1:]
    if verb not in TAKES_KEY:
        return own
    default = Parameter.empty if verb in NEEDS_KEY else None
    return [*own, Parameter("request_key", Parameter.KEYWORD_ONLY, default=default)]


def _no(
    verb: Callable[..., Answer], code: Code, error_kind: str, errors: list[dict[str, str | None]]
) -> Answer:  # fmt: skip
    for error in errors:  # the sender of a message chooses its field names
        field = error["field"]
        error["field"] = masked(escaped(field[:LONGEST_FIELD], lines=False)) if field is not None else None
    if verb.__name__ in QUOTE_PERSONS:
        summary = "the answer quotes what was looked for"
    else:
        summary = "; ".join(
            f"{error['field']}: {error['words']}" if error["field"] else f"{error['words']}" for error in errors
        )
    log.warning("again.%s is not done, %s: %s", verb.__name__, code, summary)
    return {"ok": False, "code": code.value, "error": error_kind, "errors": errors}


def _problems(error: ValidationError) -> list[Any]:
    return list(error.errors(include_input=False, include_url=False, include_context=False))


def _field(problem: Mapping[str, Any]) -> str | None:
    return str(problem["loc"][0]) if problem["loc"] else None


def read_fields(
    verb: Callable[..., Answer], positional: Sequence[object], named: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments by field, validated; raises an error for unknown and missing fields and wrong types."""
    if positional:
        raise BadRequest(Code.INVALID, "args", "give every argument by its name, in kwargs")
    named = {name: cleaned(name, value) if isinstance(value, str) else value for name, value in named.items()}
    # Through JSON, so that dates are read from text and only JSON types are accepted.
    read = _model(verb).model_validate_json(json.dumps(named, default=str))
    return {name: getattr(read, name) for name in type(read).model_fields}


@cache
def _model(verb: Callable[..., Answer]) -> type[BaseModel]:
    hints = get_type_hints(verb, include_extras=True)
    hints.setdefault("request_key", Words if verb in NEEDS_KEY else Words | None)
    fields: dict[str, Any] = {
        parameter.name: (hints[parameter.name], ... if parameter.default is Parameter.empty else parameter.default)
        for parameter in fields_of(verb)
    }
    config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)
    return create_model(verb.__name__, __config__=config, **fields)
