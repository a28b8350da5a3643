"""What other backends may ask for: each function is a task, its parameters are the message's fields."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from inspect import Parameter, signature
from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError, create_model

from schedules.errors import BadRequest, RuleBroken, ToldInWords
from schedules.money import Money
from schedules.policies import ONCE
from schedules.requests import ChargeRequest
from worker.logs import masked
from worker.workflows import cards, dispatching, operating, requesting, showing
from worker.workflows.dispatching import Publish
from worker.workflows.services import Services

log = logging.getLogger("again.requests")
Words = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Desk:
    """Where what is asked for is carried out, and charges are handed to workers."""

    services: Services
    publish: Publish


def charge_adhoc(
    desk: Desk,
    *,
    customer_uid: Words,
    amount: int,
    currency: Words,
    name: Words,
    request_key: Words,
    reason: Words,
    actor: Words,
    policy: Words = ONCE.code,
) -> Answer:
    """Charge a customer once for something that no plan asks for; amount in minor units."""
    try:
        money = Money(amount, currency)
    except RuleBroken as error:
        raise BadRequest("currency" if "currency" in str(error) else "amount", str(error)) from None
    request = ChargeRequest(
        customer_uid=customer_uid, money=money, name=name, request_key=request_key, reason=reason, policy=policy
    )
    asked = requesting.charge(desk.services, request, actor)
    dispatching.send_now(desk.services, asked.id, desk.publish)
    return {"charge": asked.key, "status": asked.status.value, "is_new": asked.is_new}


def charge_status(desk: Desk, *, charge: Words | None = None, request_key: Words | None = None) -> Answer:
    """Tell what has become of a charge, by its key or its request key; nothing is changed."""
    if (charge is None) is (request_key is None):
        raise BadRequest("charge", "give the charge's key, or the request_key, and not both")
    return showing.charge_status(desk.services, charge, request_key)


def try_charge(desk: Desk, *, charge: Words, reason: Words, actor: Words) -> Answer:
    """Try once to collect a charge now, whatever its ladder says."""
    operating.try_now(desk.services, charge, actor, reason)
    return {"charge": charge}


def card_changed(desk: Desk, *, customer_uid: Words, reason: Words, actor: Words) -> Answer:
    """Take a card as replaced or mended: what is open is tried at once."""
    return {"tried": cards.changed(desk.services, customer_uid, actor, reason)}


ASKED: tuple[Callable[..., Answer], ...] = (charge_adhoc, charge_status, try_charge, card_changed)


def answer(
    desk: Desk, asked: Callable[..., Answer], positional: Sequence[object], named: Mapping[str, Any]
) -> Answer:
    """Do what is asked for, and answer in plain JSON; what is wrong with it is an answer too, and never repeated.

    A broken machine is no answer: its errors are the caller's.
    """
    try:
        return {"ok": True, **asked(desk, **_read(asked, positional, named))}
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


def _read(asked: Callable[..., Answer], positional: Sequence[object], named: Mapping[str, Any]) -> dict[str, Any]:
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
