"""The calls under way of each stored card: one at a time, as an index says."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, select
from sqlalchemy.exc import IntegrityError

from schedules.charging.charges import AttemptState
from worker.store.tables import attempts

ONE_CALL = "one_call_at_a_time_for_each_card"


class CardInUse(Exception):
    """Another charge of the same stored card has a call under way, so that ONE_CALL refused a claim."""


@contextmanager
def card_in_use_raised() -> Iterator[None]:
    """Raise CardInUse where ONE_CALL refuses a write of this block."""
    try:
        yield
    except IntegrityError as error:
        if getattr(getattr(error.orig, "diag", None), "constraint_name", None) == ONE_CALL:
            raise CardInUse from error
        raise


def under_way(db: Connection, billing_key_id: int) -> str | None:
    """The merchant_uid of a card's call under way; None when it has none."""
    a = attempts.c
    query = select(a.merchant_uid).where(a.billing_key_id == billing_key_id)
    return db.execute(query.where(a.state == AttemptState.SENDING.value)).scalar()
