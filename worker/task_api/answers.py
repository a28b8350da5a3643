"""Answering: what another backend asks for is read field by field, done, and answered in plain JSON."""

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
from worker.task_api.verbs import NEEDS_KEY, NULL_NEEDS_KEY, TAKES_KEY, Answer, Desk, Words

log = logging.getLogger("again.answering")
LONGEST_FIELD = 80  # characters of a field's name that are answered and logged


def answer(
    desk: Desk, asked: Callable[..., Answer], positional: Sequence[object], named: Mapping[str, Any]
) -> Answer:
    """Do what is asked for, and answer in plain JSON; what is wrong with it is an answer too, and never repeated.

    A transient database error is raised for the caller to retry; any other database error is answered.
    """
    try:
        fields = read_fields(asked, positional, named)
        request_key = fields.pop("request_key") if asked in TAKES_KEY else None
        _refuse_repeatable(asked, fields, request_key)
        done, _ = carry_out(desk, asked, fields, request_key)
        return {"ok": True, **done}
    except ValidationError as error:
        errors = [{"field": _field(problem), "words": masked(problem["msg"])} for problem in _problems(error)]
        return _no(asked, Code.INVALID, "bad_arguments", errors)
    except BadRequest as error:
        return _no(asked, error.code, "bad_arguments", [{"field": error.field, "words": masked(error.words)}])
    except UserError as error:
        return _no(asked, error.code, "refused", [{"field": None, "words": masked(str(error))}])
    except DBAPIError as error:
        if failures.is_transient(error):
            raise
        # A retry would fail again. The error's text can quote values of a row, so the answer has its kind only.
        summary = failures.summary(error)
        words = f"the database refused a statement: {summary}; the worker's log has a traceback"
        log.error("again.%s failed: %s", asked.__name__, summary, exc_info=error)
        return _no(asked, failures.code_of(error), "failed", [{"field": None, "words": words}])


def _refuse_repeatable(
    asked: Callable[..., Answer], fields: Mapping[str, Any], request_key: str | None
) -> None:  # fmt: skip
    """BadRequest for a request that would do another thing when its message is delivered a second time."""
    field = NULL_NEEDS_KEY.get(asked)
    if request_key is None and field is not None and fields[field] is None:
        raise BadRequest(
            Code.INVALID, field, "null means another thing each time; name what is meant, or add a request_key"
        )


def carry_out(
    desk: Desk, asked: Callable[..., Answer], fields: Mapping[str, Any], request_key: str | None
) -> tuple[Answer, bool]:
    """Do what is asked for, once for a request key; says whether it was done now.

    An argument that has its default counts as left out.
    """
    if request_key is None:
        return asked(desk, **fields), True
    defaults = {parameter.name: parameter.default for parameter in fields_of(asked)}
    said = {name: value for name, value in fields.items() if name != "actor" and value != defaults[name]}
    request = VerbRequest(request_key=request_key, verb=asked.__name__, arguments=said)
    return idempotency.once(desk.services, request, lambda at: asked(replace(desk, services=at), **fields))


def fields_of(asked: Callable[..., Answer]) -> list[Parameter]:
    """The fields that a request has: the function's own and, where it takes one, the request key."""
    own = list(signature(asked).parameters.values())[1:]
    if asked not in TAKES_KEY:
        return own
    default = Parameter.empty if asked in NEEDS_KEY else None
    return [*own, Parameter("request_key", Parameter.KEYWORD_ONLY, default=default)]


def _no(
    asked: Callable[..., Answer], code: Code, error_kind: str, errors: list[dict[str, str | None]]
) -> Answer:  # fmt: skip
    for error in errors:  # the sender of a message chooses its field names
        field = error["field"]
        error["field"] = masked(escaped(field[:LONGEST_FIELD], lines=False)) if field is not None else None
    told = "; ".join(
        f"{error['field']}: {error['words']}" if error["field"] else f"{error['words']}" for error in errors
    )
    log.warning("again.%s is not done, %s: %s", asked.__name__, code, told)
    return {"ok": False, "code": code.value, "error": error_kind, "errors": errors}


def _problems(error: ValidationError) -> list[Any]:
    return list(error.errors(include_input=False, include_url=False, include_context=False))


def _field(problem: Mapping[str, Any]) -> str | None:
    return str(problem["loc"][0]) if problem["loc"] else None


def read_fields(
    asked: Callable[..., Answer], positional: Sequence[object], named: Mapping[str, Any]
) -> dict[str, Any]:
    """The fields as the function takes them: no other, none left out, none of another type."""
    if positional:
        raise BadRequest(Code.INVALID, "args", "give every argument by its name, in kwargs")
    named = {name: cleaned(name, value) if isinstance(value, str) else value for name, value in named.items()}
    # Through JSON, so that a date may be written as one, and nothing but what JSON has comes in.
    read = _model(asked).model_validate_json(json.dumps(named, default=str))
    return {name: getattr(read, name) for name in type(read).model_fields}


@cache
def _model(asked: Callable[..., Answer]) -> type[BaseModel]:
    hints = get_type_hints(asked, include_extras=True)
    hints.setdefault("request_key", Words if asked in NEEDS_KEY else Words | None)
    fields: dict[str, Any] = {
        parameter.name: (hints[parameter.name], ... if parameter.default is Parameter.empty else parameter.default)
        for parameter in fields_of(asked)
    }
    config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)
    return create_model(asked.__name__, __config__=config, **fields)
