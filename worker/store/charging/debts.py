"""Several debts of one customer, and debts whose next step is due by time alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Connection,
    Select,
    any_,
    bindparam,
    exists,
    select,
    text,
    true,
    tuple_,
    update,
)

from schedules.charging.charges import AttemptState, ChargeKind, TriedBy
from schedules.charging.claiming import Ahead
from schedules.dunning.policies import FinalAction
from worker.store.tables import OWED, attempts, charges, subscriptions
from worker.store.tables.base import INSTANT

UNDER_WAY = (AttemptState.SENDING.value, AttemptState.UNKNOWN.value)
UNCLEAR_AT_MOST = timedelta(days=1)  # how long an unknown attempt delays other subscriptions of the card


def _ahead() -> Select[Any]:
    c, this = charges.c, charges.alias("this")
    same = c.subscription_id == this.c.subscription_id
    # Of another subscription only debts that end without a person: others could block this one without end.
    moves = c.next_attempt_at.is_not(None) | c.waits.is_not(None)
    ends = c.given_up.is_(None) & (c.refusals == 0) & (c.attempts > 0) & moves
    fresh = c.due_at > bindparam("not_since", type_=INSTANT)
    oldest = (
        select(c.key, c.next_attempt_at, c.waits)
        .where(c.billing_key_id == this.c.billing_key_id, text(OWED), c.held_why.is_(None))
        .where(c.kind == ChargeKind.RENEWAL.value, c.given_up.is_distinct_from(FinalAction.KEEP.value))
        .where(tuple_(c.due_at, c.id) < tuple_(this.c.due_at, this.c.id))
        .where(same | ends | (fresh & c.given_up.is_(None) & (c.refusals == 0)))
        .order_by(c.due_at, c.id)
        .limit(1)
        .lateral("ahead")
    )
    these = this.c.id == any_(bindparam("charges", type_=ARRAY(BigInteger)))
    return (
        select(this.c.id, oldest.c.key, oldest.c.next_attempt_at, oldest.c.waits)
        .join_from(this, oldest, true())
        .where(these)
    )


def _behind() -> Select[Any]:
    c, other = charges.c, charges.alias("ended")
    same = select(other.c.billing_key_id).where(other.c.id == bindparam("ended"))
    now = bindparam("now", type_=INSTANT)
    return (
        select(c.id)
        .where(c.billing_key_id == same.scalar_subquery(), text(OWED), c.id != bindparam("ended"))
        .where((c.attempts == 0) | (c.tried_by == TriedBy.CARD.value))
        .where(c.kind == ChargeKind.RENEWAL.value, c.next_attempt_at > now, c.due_at <= now)
        .order_by(c.due_at)
        .with_for_update(skip_locked=True)
    )


# Statements of the hot path are built once: building one costs as much as running it.
_AHEAD = _ahead()
_BEHIND = _behind()


def ahead_of(db: Connection, charge_ids: Sequence[int], now: datetime) -> dict[int, Ahead]:
    """Return the oldest open renewal of the same card that is due before each of these renewals, by their row ids.

    A held debt, or one that was given up and kept, blocks no other. A debt that was given up otherwise, was
    refused, or has been unknown for a day blocks only debts of its own subscription.
    """
    rows = db.execute(_AHEAD, {"charges": list(charge_ids), "not_since": now - UNCLEAR_AT_MOST})
    return {row.id: Ahead(row.key, row.next_attempt_at, row.waits is not None) for row in rows}


def wake_behind(db: Connection, charge_id: int, now: datetime) -> None:
    """Reschedule the customer's debts that were blocked by this one.

    Locked debts are skipped: they have a time of their own at which they are looked at.
    """
    ids = list(db.execute(_BEHIND, {"ended": charge_id, "now": now}).scalars())
    if ids:
        db.execute(update(charges).where(charges.c.id.in_(ids)).values(next_attempt_at=now))


def owed_by_card(db: Connection, billing_key_id: int) -> list[int]:
    """Return the row ids of a billing key's open charges, oldest first."""
    c = charges.c
    query = select(c.id).where(c.billing_key_id == billing_key_id, text(OWED)).order_by(c.due_at, c.id)
    return list(db.execute(query).scalars())


def to_look(db: Connection, now: datetime, after: int, limit: int) -> list[int]:
    """Return the row ids, above this one, of the debts whose next step is due by time."""
    c = charges.c
    query = select(c.id).where(c.look_at.is_not(None), c.look_at <= now, c.id > after).order_by(c.id).limit(limit)
    return list(db.execute(query).scalars())


def wake_waiting(db: Connection, billing_key_id: int, now: datetime) -> None:
    """Reschedule the debts that wait for a card that has just paid, except those of ended subscriptions."""
    c = charges.c
    live = exists().where(subscriptions.c.id == c.subscription_id, subscriptions.c.ends_at.is_(None))
    waiting = (
        select(c.id)
        .where(c.billing_key_id == billing_key_id, text(OWED), c.waits.is_not(None), c.held_why.is_(None), live)
        .with_for_update(skip_locked=True)
    )
    ids = list(db.execute(waiting).scalars())
    if ids:
        woken = {"waits": None, "next_attempt_at": now, "tried_by": TriedBy.CARD.value}
        db.execute(update(charges).where(c.id.in_(ids)).values(woken))


@dataclass(frozen=True, slots=True)
class Owes:
    """The states of a subscription's open charges."""

    declined: bool
    sending: bool  # a call is under way
    unknown: bool  # the outcome of a call is unknown
    held: bool  # one waits for an operator


def facts_of(db: Connection, subscription_id: int) -> Owes:
    """The states of a subscription's open charges."""
    c, a = charges.c, attempts.c
    at_it = select(a.state).where(a.charge_id == c.id, a.state.in_(UNDER_WAY)).limit(1).scalar_subquery()
    query = select(c.first_declined_at, c.held_why, at_it.label("state")).where(
        c.subscription_id == subscription_id, text(OWED)
    )
    rows = list(db.execute(query))
    found = {row.state for row in rows}
    declined = any(row.first_declined_at is not None for row in rows)
    held = any(row.held_why is not None for row in rows)
    return Owes(declined, AttemptState.SENDING.value in found, AttemptState.UNKNOWN.value in found, held)


def others_rest(db: Connection, subscription_id: int, charge_id: int) -> bool:
    """Whether a subscription owes another debt for which it was paused."""
    c = charges.c
    query = select(c.id).where(c.subscription_id == subscription_id, text(OWED), c.id != charge_id)
    return db.execute(query.where(c.given_up == FinalAction.PAUSE.value).limit(1)).first() is not None


def rests_for(db: Connection, subscription_id: int) -> str | None:
    """The key of a debt for which a subscription was paused, if it owes one."""
    c = charges.c
    query = select(c.key).where(c.subscription_id == subscription_id, text(OWED))
    return db.execute(query.where(c.given_up == FinalAction.PAUSE.value).limit(1)).scalar()
