"""What becomes of a task when the database or the broker fails for a reason that passes."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec

from celery.exceptions import Reject

from worker.clock import wait
from worker.renewals.enqueue import BrokerUnreachable
from worker.runtime import outages
from worker.runtime.outages import Outage
from worker.store import failures
from worker.wiring import BadDatabase

RETURN_PAUSE = 2.0  # seconds before a message goes back to the broker after a transient database error
_returned = Outage(logging.getLogger("again.tasks"), "a request or webhook")
P = ParamSpec("P")


def rung_again(work: Callable[P, None]) -> Callable[P, None]:
    """A task whose rows stay due when the database or the broker fails for a reason that passes."""

    @wraps(work)
    def done(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            work(*args, **kwargs)
        except BrokerUnreachable as error:
            outages.broker.failed(str(error))
        except (*failures.DATABASE_ERRORS, BadDatabase) as error:
            if not (isinstance(error, BadDatabase) or failures.is_transient(error)):
                raise
            failures.outage.failed(str(error) if isinstance(error, BadDatabase) else failures.summary(error))
        else:
            failures.outage.succeeded()

    return done


@contextmanager
def returned_if_transient(name: str, pause: float = RETURN_PAUSE) -> Iterator[None]:
    """Return the message to the broker, after `pause` seconds, when the database fails for a reason that passes.

    The sender may not send again, so the message must not be acknowledged. The rows make the work idempotent.
    """
    try:
        yield
    except (*failures.DATABASE_ERRORS, BadDatabase) as error:
        if not (isinstance(error, BadDatabase) or failures.is_transient(error)):
            raise
        summary = str(error) if isinstance(error, BadDatabase) else failures.summary(error)
        _returned.failed(f"{name} is returned to the broker: {summary}")
        wait(pause)
        raise Reject("transient database error", requeue=True) from None
    else:
        _returned.succeeded()
