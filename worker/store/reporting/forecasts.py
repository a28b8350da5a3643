"""Queries of a forecast: subscriptions and the next tries of debts, from one snapshot."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, case, func, select

from schedules.charging.charges import SubscriptionStatus, TriedBy
from worker.store.tables import billing_keys, charges, subscriptions

PAGE = 5000  # rows in memory at once
STAND = 11  # leading columns of a row that hold the subscription's state


@dataclass(frozen=True, slots=True)
class Reach:
    """The filter of a forecast."""

    since: datetime | None  # of a debt's next attempt; None includes late ones
    until: datetime  # not included
    plans: Collection[int] | None  # row ids; None includes all, and debts without a plan


def stands(db: Connection, reach: Reach) -> Iterator[Row[Any]]:
    """Count the subscriptions that opening reads by their state, without their keys."""
    query = _of(select(*_stand(), _card(), func.count().label("many")), reach)
    return _stream(db, query.group_by(*_stand(), "card"))


def each(db: Connection, reach: Reach) -> Iterator[Row[Any]]:
    """Yield the subscriptions that opening reads, in no order."""
    return _stream(
        db,
        _of(
            select(*_stand(), _card(), subscriptions.c.key, billing_keys.c.customer_uid, billing_keys.c.account),
            reach,
        ),
    )


def debts(db: Connection, reach: Reach) -> Iterator[Row[Any]]:
    """Yield the open charges whose next attempt is in the requested span, in no order."""
    c = charges.c
    query = (
        select(c.key, c.account, c.amount, c.currency, c.due_at, c.next_attempt_at, c.attempts, c.declines)
        .add_columns(_card(c.tried_by.is_distinct_from(TriedBy.PERSON.value)))
        .add_columns(billing_keys.c.customer_uid, subscriptions.c.key.label("subscription"))
        .join_from(charges, billing_keys)
        .outerjoin(subscriptions, subscriptions.c.id == c.subscription_id)
        .where(c.next_attempt_at.is_not(None), c.held_why.is_(None), c.next_attempt_at < reach.until)
    )
    if reach.since is not None:
        query = query.where(c.next_attempt_at >= reach.since)
    if reach.plans is not None:
        query = query.where(subscriptions.c.plan_id.in_(reach.plans))
    return _stream(db, query)


def _stand() -> tuple[Any, ...]:
    s = subscriptions.c
    cursor = (s.next_period_no, s.next_period_date, s.next_due_at)
    anchor = (s.anchor, s.anchor_no, s.anchor_day)
    return (s.plan_id, s.billing_time, *cursor, s.open_at, *anchor, s.ends_at, s.skip_to)


def _card(*heeded: Any) -> Any:
    """Return what prevents a try of the card; None when nothing does."""
    k = billing_keys.c
    stopped = k.stopped_as.is_not(None)
    for condition in heeded:
        stopped &= condition
    return case((k.deleted_at.is_not(None), "deleted"), (stopped, "stopped"), else_=None).label("card")


def _of(query: Select[Any], reach: Reach) -> Select[Any]:
    s = subscriptions.c
    query = query.join_from(subscriptions, billing_keys).where(
        s.status == SubscriptionStatus.ACTIVE.value, s.open_at < reach.until
    )
    return query if reach.plans is None else query.where(s.plan_id.in_(reach.plans))


def _stream(db: Connection, query: Select[Any]) -> Iterator[Row[Any]]:
    return iter(db.execute(query, execution_options={"yield_per": PAGE}))
