"""Work that is rung for again: a failure that passes is logged as an outage, and not with each ring."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from worker import brokers
from worker.store import failures
from worker.wiring import BadDatabase
from worker.workflows.dispatching import BrokerUnreachable

P = ParamSpec("P")


def rung_again(work: Callable[P, None]) -> Callable[P, None]:
    """A task whose rows stay due when the database or the broker fails for a reason that passes."""

    @wraps(work)
    def done(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            work(*args, **kwargs)
        except BrokerUnreachable as error:
            brokers.outage.failed(str(error))
        except (*failures.DATABASE_ERRORS, BadDatabase) as error:
            if not (isinstance(error, BadDatabase) or failures.is_transient(error)):
                raise
            failures.outage.failed(str(error) if isinstance(error, BadDatabase) else failures.summary(error))
        else:
            failures.outage.succeeded()

    return done
