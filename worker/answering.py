"""Answering: what another backend asks for is read field by field, done, and answered in plain JSON."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from inspect import Parameter, signature
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from schedules.errors import BadRequest, ToldInWords
from worker.logs import masked
from worker.requests import Answer, Desk

log = logging.getLogger("again.answering")


def answer(
    desk: Desk, asked: Callable[..., Answer], positional: Sequence[object], named: Mapping[str, Any]
) -> Answer:
    """Do what is asked for, and answer in plain JSON; what is wrong with it is an answer too, and never repeated.

    A broken machine is no answer: its errors are the caller's.
    """
    try:
        return {"ok": True, **asked(desk, **read_fields(asked, positional, named))}
    except ValidationError as error:
        errors = [{"field": _field(problem), "words": masked(problem["msg"])} for problem in _problems(error)]
        return _no(asked, "bad_arguments", errors)
    except BadRequest as error:
        return _no(asked, "bad_arguments", [{"field": error.field, "words": masked(error.words)}])
    except ToldInWords as error:
        return _no(asked, "refused", [{"field": None, "words": masked(str(error))}])


def _no(asked: Callable[..., Answer], code: str, errors: list[dict[str, str | None]]) -> Answer:
    told = "; ".join(
        f"{error['field']}: {error['words']}" if error["field"] else f"{error['words']}" for error in errors
    )
    log.warning("again.%s is not done: %s", asked.__name__, told)
    return {"ok": False, "error": code, "errors": errors}


def _problems(error: ValidationError) -> list[Any]:
    return list(error.errors(include_input=False, include_url=False, include_context=False))


def _field(problem: Mapping[str, Any]) -> str | None:
    return str(problem["loc"][0]) if problem["loc"] else None


def read_fields(
    asked: Callable[..., Answer], positional: Sequence[object], named: Mapping[str, Any]
) -> dict[str, Any]:
    """The fields as the function takes them: no other, none left out, none of another type."""
    if positional:
        raise BadRequest("args", "give every argument by its name, in kwargs")
    # Through JSON, so that a date may be written as one, and nothing but what JSON has comes in.
    read = _model(asked).model_validate_json(json.dumps(named, default=str))
    return {name: getattr(read, name) for name in type(read).model_fields}


@cache
def _model(asked: Callable[..., Answer]) -> type[BaseModel]:
    hints = get_type_hints(asked, include_extras=True)
    fields: dict[str, Any] = {
        parameter.name: (hints[parameter.name], ... if parameter.default is Parameter.empty else parameter.default)
        for parameter in list(signature(asked).parameters.values())[1:]
    }
    config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)
    return create_model(asked.__name__, __config__=config, **fields)
