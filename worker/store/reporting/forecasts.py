"""Queries of a forecast: subscriptions and the next tries of debts, from one snapshot."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, case, func, select

from schedules.charging.charges import SubscriptionStatus, TriedBy
from worker.store.tables import billing_keys, charges, subscriptions

PAGE = 5000  # rows in memory at once


@dataclass(frozen=True, slots=True)
class Reach:
    """The filter of a forecast."""

    since: datetime | None  # of a debt's next attempt; None includes late ones
    until: datetime  # not included
    plans: Collection[int] | None  # row ids; None includes all, and debts without a plan


class StoredStand(NamedTuple):
    """The state of a subscription that decides its next periods, in the order of `_stand`."""

    plan_id: int
    billing_time: time | None
    next_period_no: int
    next_period_date: date
    next_due_at: datetime
    open_at: datetime
    anchor: date
    anchor_no: int
    anchor_day: int | None
    ends_at: datetime | None
    skip_to: int | None


class CountedStand(NamedTuple):
    """Equal subscriptions."""

    stand: StoredStand
    card: str | None  # what prevents a try of the card
    many: int


class SubscriptionStand(NamedTuple):
    """A subscription."""

    stand: StoredStand
    card: str | None  # what prevents a try of the card
    key: str
    customer_uid: str
    account: str


class NextTry(NamedTuple):
    """An open charge that is tried, in the order of the query."""

    key: str
    account: str
    amount: int
    currency: str
    due_at: datetime
    next_attempt_at: datetime
    attempts: int
    declines: int
    card: str | None  # what prevents a try of the card
    customer_uid: str
    subscription: str | None


_WIDTH = len(StoredStand._fields)


def stands(db: Connection, reach: Reach) -> Iterator[CountedStand]:
    """Count the subscriptions that opening reads by their state, without their keys."""
    query = _of(select(*_stand(), _card(), func.count()), reach).group_by(*_stand(), "card")
    return (CountedStand(StoredStand(*row[:_WIDTH]), *row[_WIDTH:]) for row in _stream(db, query))


def each(db: Connection, reach: Reach) -> Iterator[SubscriptionStand]:
    """Yield the subscriptions that opening reads, in no order."""
    k = billing_keys.c
    query = _of(select(*_stand(), _card(), subscriptions.c.key, k.customer_uid, k.account), reach)
    return (SubscriptionStand(StoredStand(*row[:_WIDTH]), *row[_WIDTH:]) for row in _stream(db, query))


def debts(db: Connection, reach: Reach) -> Iterator[NextTry]:
    """Yield the open charges whose next attempt is in the requested span, in no order."""
    c = charges.c
    query = (
        select(c.key, c.account, c.amount, c.currency, c.due_at, c.next_attempt_at, c.attempts, c.declines)
        .add_columns(_card(c.tried_by.is_distinct_from(TriedBy.PERSON.value)))
        .add_columns(billing_keys.c.customer_uid, subscriptions.c.key)
        .join_from(charges, billing_keys)
        .outerjoin(subscriptions, subscriptions.c.id == c.subscription_id)
        .where(c.next_attempt_at.is_not(None), c.held_why.is_(None), c.next_attempt_at < reach.until)
    )
    if reach.since is not None:
        query = query.where(c.next_attempt_at >= reach.since)
    if reach.plans is not None:
        query = query.where(subscriptions.c.plan_id.in_(reach.plans))
    return map(NextTry._make, _stream(db, query))


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
