"""Idempotency: a verb is carried out once for each request key, and the same request gets the same answer."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

from sqlalchemy import Connection

from schedules.errors import BadRequest, Code, UserError
from schedules.requests.adhoc import VerbRequest
from worker.services import Joined, Services
from worker.store import request_keys
from worker.store.request_keys import Answer, StoredRequest


class _CarriedOut(Exception):
    """Another delivery of the same request was committed first."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer


def once(services: Services, request: VerbRequest, verb: Callable[[Services], Answer]) -> tuple[Answer, bool]:
    """Carry out a verb, or answer as it was answered before; says whether it was carried out now.

    The key is written in the transaction of the verb's own `act`, and the answer with it: either all of it is
    committed, or nothing. A refusal writes nothing, so the same request may be sent again. A gateway call must
    come before the verb's first `act`, because the transaction stays open until the answer is written.
    BadRequest when the key was used for another verb or other arguments.
    """
    before = known(services, request)
    if before is not None:
        return before, False
    if services.dry_run is not None:
        return verb(services), True
    try:
        with ExitStack() as stack:
            joined = Joined(services.engine, lambda db: _claim(services, db, request), stack, request.request_key)
            answer = verb(replace(services, joined=joined))
            request_keys.keep_answer(joined.connection(), request.request_key, answer)
    except _CarriedOut as first:
        return first.answer, False
    except UserError:
        # Another delivery may have been committed since the first look: then this refusal is of its own work.
        meanwhile = known(services, request)
        if meanwhile is None:
            raise
        return meanwhile, False
    return answer, True


def known(services: Services, request: VerbRequest) -> Answer | None:
    """The answer of this request if it was carried out; BadRequest as `once`."""
    with services.engine.begin() as db:
        stored = request_keys.find(db, request.request_key)
    return None if stored is None else _same(stored, request)


def _claim(services: Services, db: Connection, request: VerbRequest) -> None:
    now = services.clock.now()
    if not request_keys.claim(db, request.request_key, request.verb, request.fingerprint, now):
        stored = request_keys.find(db, request.request_key)
        if stored is None:
            raise LookupError(f"request {request.request_key!r} is neither written nor there")
        raise _CarriedOut(_same(stored, request))


def _same(stored: StoredRequest, request: VerbRequest) -> Answer:
    if stored.fingerprint != request.fingerprint:
        raise BadRequest(
            Code.CONFLICT,
            "request_key",
            f"{request.request_key!r} was used for `{stored.verb}`"
            f"{' with other arguments' if stored.verb == request.verb else ''}; "
            "send the same request, or take a new key",
        )
    return stored.answer
