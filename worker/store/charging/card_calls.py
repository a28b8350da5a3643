"""The calls under way of each stored card: one at a time, as an index says."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.exc import IntegrityError

from schedules.charging.charges import AttemptState
from worker.store.tables import attempts

ONE_CALL = "one_call_at_a_time_for_each_card"
# Statements of the hot path are built once: building one costs as much as running it.
_CALL = (
    select(attempts.c.id)
    .where(attempts.c.billing_key_id == bindparam("billing_key"), attempts.c.charge_id != bindparam("charge"))
    .where(attempts.c.state == AttemptState.SENDING.value)
)


class CardInUse(Exception):
    """Another charge of the same stored card has a call under way, so that ONE_CALL refused a claim."""


def is_in_use(db: Connection, billing_key_id: int, charge_id: int) -> bool:
    """Whether a call of another charge is under way for this stored card; found through ONE_CALL."""
    return db.execute(_CALL, {"billing_key": billing_key_id, "charge": charge_id}).first() is not None


@contextmanager
def card_in_use_raised() -> Iterator[None]:
    """Raise CardInUse where ONE_CALL refuses a write of this block."""
    try:
        yield
    except IntegrityError as error:
        if getattr(getattr(error.orig, "diag", None), "constraint_name", None) == ONE_CALL:
            raise CardInUse from error
        raise
