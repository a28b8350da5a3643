"""Classify database errors: transient ones are retried later, all others are reported."""

import logging

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from schedules.errors import Code
from worker.runtime.outages import Outage

outage = Outage(logging.getLogger("again.database"), "the database")  # of this process
# What a statement, a connection or a connection pool can raise.
DATABASE_ERRORS = (DBAPIError, PoolTimeout)
# SQLSTATE classes, PostgreSQL manual, appendix A. Within them nothing was committed, and a retry can succeed.
TRANSIENT_CLASSES = frozenset({
    "08",  # connection exception
    "40",  # transaction rollback: serialization failure, deadlock
    "53",  # insufficient resources: too many connections, disk full, out of memory
    "57",  # operator intervention: shutdown, cannot connect now, statement time-out
    "58",  # system error outside of PostgreSQL
})  # fmt: skip
TRANSIENT_STATES = frozenset({
    "25006",  # read-only transaction: a standby before its promotion, or before the host name changes
    "25P03",  # idle-in-transaction time-out
    "25P04",  # transaction time-out
    "55006",  # object in use
    "55P03",  # lock not available: lock_timeout
})  # fmt: skip


def is_transient(error: BaseException) -> bool:
    """Whether the same work can succeed later without a change by a person.

    A commit whose answer is lost counts as transient too, so the work must be idempotent.
    """
    if isinstance(error, PoolTimeout):
        return True
    if not isinstance(error, DBAPIError):
        return False
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        # libpq reports a refused, lost or timed-out connection without a SQLSTATE.
        return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)
    return state in TRANSIENT_STATES or state[:2] in TRANSIENT_CLASSES


def code_of(error: BaseException) -> Code:
    """The code of the answer for a database error."""
    return Code.UNAVAILABLE if is_transient(error) else Code.FAILED


def summary(error: BaseException) -> str:
    """The error's type and SQLSTATE; never its text, which can quote values of a row."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    state = getattr(cause, "sqlstate", None)
    return f"{type(cause).__name__} ({state})" if state else type(cause).__name__
