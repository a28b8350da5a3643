"""Queries of subscriptions and their cursors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from typing import TypedDict, Unpack

from sqlalchemy import ARRAY, BigInteger, Connection, Update, any_, bindparam, column, select, update
from sqlalchemy.dialects.postgresql import insert

from schedules.charging.charges import SubscriptionStatus
from schedules.subscriptions.cursor import Cursor, Opening, Series
from schedules.texts import forms
from worker.store.customers import plans as plan_rows
from worker.store.rows import as_rows, given_rows, read_all, read_first
from worker.store.tables import billing_keys, charges, plans, subscriptions


@dataclass(frozen=True, slots=True)
class DueSubscription:
    """A subscription that opening has locked."""

    id: int
    key: str
    billing_key_id: int
    account: str
    plan_id: int
    anchor: date
    cursor: Cursor
    ends_at: datetime | None
    anchor_no: int
    billing_time: time | None
    skip_to: int | None
    anchor_day: int | None = None

    @property
    def series(self) -> Series:
        """Its periods as a value of `schedules`."""
        return Series(self.key, self.anchor, self.anchor_no, self.ends_at, self.skip_to or 0, self.anchor_day)


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription with its plan's code, version and price, and its customer_uid."""

    id: int
    key: str
    customer_id: int
    billing_key_id: int
    customer_uid: str
    account: str
    plan_id: int
    code: str
    version: int
    price: int  # minor units
    currency: str
    status: SubscriptionStatus
    anchor: date
    anchor_no: int
    anchor_day: int | None
    billing_time: time | None
    next_period_no: int
    next_period_date: date
    next_due_at: datetime
    skip_to: int | None
    open_at: datetime | None
    ends_at: datetime | None
    held_why: str | None
    another: bool  # requested beside another one of the same customer and plan
    external_ref: str | None
    created_at: datetime

    @property
    def cursor(self) -> Cursor:
        """Its next period."""
        return Cursor(self.next_period_no, self.next_period_date, self.next_due_at)

    def at(self, cursor: Cursor) -> "Subscription":
        """Return it with another next period."""
        return replace(self, **cursor_columns(cursor))


class CursorColumns(TypedDict):
    """The columns of a cursor."""

    next_period_no: int
    next_period_date: date
    next_due_at: datetime


class SubscriptionColumns(TypedDict, total=False):
    """The columns of a subscription that are written after it began; one that is left out keeps its value."""

    plan_id: int
    billing_key_id: int
    status: str
    anchor: date
    anchor_no: int
    anchor_day: int | None
    billing_time: time | None
    next_period_no: int
    next_period_date: date
    next_due_at: datetime
    skip_to: int | None
    open_at: datetime | None
    ends_at: datetime | None
    tell_at: datetime | None
    told_as: str | None
    held_why: str | None
    another: bool


class NewSubscription(CursorColumns):
    """The columns of a subscription that begins."""

    key: str
    customer_id: int
    billing_key_id: int
    plan_id: int
    anchor: date
    status: str
    open_at: datetime | None
    tell_at: datetime | None
    created_at: datetime
    external_ref: str | None
    another: bool
    trial_of: str | None
    held_why: str | None


def cursor_columns(cursor: Cursor) -> CursorColumns:
    """Return a cursor as columns of its subscription."""
    return {
        "next_period_no": cursor.period_no, "next_period_date": cursor.period_date, "next_due_at": cursor.due_at,
    }  # fmt: skip


def add(db: Connection, row: NewSubscription) -> bool:
    """Insert a subscription; False when one_subscription_for_each_external_ref refuses it.

    False too when one_live_subscription_for_each_customer_and_plan refuses it.
    """
    statement = insert(subscriptions).values(row).on_conflict_do_nothing()
    return db.execute(statement.returning(subscriptions.c.id)).scalar() is not None


def by_external_ref(db: Connection, external_ref: str) -> str | None:
    """Return the key of the subscription with this reference of the former system, in any normal form."""
    is_it = subscriptions.c.external_ref.in_(forms(external_ref))
    return db.execute(select(subscriptions.c.key).where(is_it)).scalar()


def take_due(db: Connection, plan_id: int | None, now: datetime, limit: int) -> Sequence[DueSubscription]:
    """Lock the next subscriptions to open, skipping those that another process has locked."""
    s, k = subscriptions.c, billing_keys.c
    query = (
        select(s.id, s.key, s.billing_key_id, k.account, s.plan_id, s.anchor)
        .add_columns(s.next_period_no, s.next_period_date, s.next_due_at, s.ends_at)
        .add_columns(s.anchor_no, s.billing_time, s.skip_to, s.anchor_day)
        .join_from(subscriptions, billing_keys)
        .where(s.status == SubscriptionStatus.ACTIVE.value, s.open_at <= now)
        .order_by(s.open_at)
        .limit(limit)
        .with_for_update(of=subscriptions, skip_locked=True)
    )
    if plan_id is not None:
        query = query.where(s.plan_id == plan_id)
    return [
        DueSubscription(r.id, r.key, r.billing_key_id, r.account, r.plan_id, r.anchor,
                        Cursor(r.next_period_no, r.next_period_date, r.next_due_at), r.ends_at,
                        r.anchor_no, r.billing_time, r.skip_to, r.anchor_day)
        for r in db.execute(query)
    ]  # fmt: skip


def any_due(db: Connection, now: datetime) -> bool:
    """Whether a subscription is due for opening."""
    s = subscriptions.c
    query = select(s.id).where(s.status == SubscriptionStatus.ACTIVE.value, s.open_at <= now).limit(1)
    return db.execute(query).first() is not None


def move_cursors(db: Connection, openings: Sequence[tuple[DueSubscription, Opening, timedelta | None]]) -> None:
    """Write the cursors after opening, and when the next charge is announced before it is due.

    A subscription that has reached its end is not opened again.
    """
    rows = []
    for due, opening, ahead in openings:
        ended = due.ends_at is not None and opening.cursor.due_at >= due.ends_at
        rows.append({
            "id": due.id, "next_period_no": opening.cursor.period_no,
            "next_period_date": opening.cursor.period_date, "next_due_at": opening.cursor.due_at,
            "open_at": None if ended else opening.open_at,
            "tell_at": None if ended or ahead is None else opening.cursor.due_at - ahead,
        })  # fmt: skip
    if rows:
        db.execute(_MOVE, {**as_rows(rows), "ids": [row["id"] for row in rows]})


def _move() -> Update:
    rows = given_rows("moved", *(column(name, subscriptions.c[name].type) for name in ("id", *MOVED)))
    # By row id as well: else the planner may scan all subscriptions for a few hundred rows.
    by_number = subscriptions.c.id == any_(bindparam("ids", type_=ARRAY(BigInteger)))
    statement = update(subscriptions).where(subscriptions.c.id == rows.c.id, by_number)
    return statement.values({name: rows.c[name] for name in MOVED})


MOVED = ("next_period_no", "next_period_date", "next_due_at", "open_at", "tell_at")
_MOVE = _move()


def by_key(db: Connection, key: str, *, lock: bool = False) -> Subscription | None:
    """The subscription with this key, optionally locked until the transaction ends."""
    query = (
        select(subscriptions, plans.c.code, plans.c.version, plans.c.price, plans.c.currency)
        .add_columns(billing_keys.c.customer_uid, billing_keys.c.account)
        .join_from(subscriptions, plans)
        .join(billing_keys, billing_keys.c.id == subscriptions.c.billing_key_id)
        .where(subscriptions.c.key == key)
    )
    if lock:
        query = query.with_for_update(of=subscriptions)
    return read_first(Subscription, db.execute(query))


def names(db: Connection, subscription_id: int) -> tuple[str, str]:
    """A subscription's key and the customer_uid that pays for it."""
    query = (
        select(subscriptions.c.key, billing_keys.c.customer_uid)
        .join_from(subscriptions, billing_keys)
        .where(subscriptions.c.id == subscription_id)
    )
    row = db.execute(query).one()
    return row.key, row.customer_uid


def change(db: Connection, subscription_id: int, **values: Unpack[SubscriptionColumns]) -> None:
    """Write these columns of one subscription."""
    db.execute(update(subscriptions).where(subscriptions.c.id == subscription_id).values(**values))


def plans_of(db: Connection, plan_ids: set[int]) -> tuple[dict[int, plan_rows.StoredPlan], dict[int, Exception]]:
    """Return the plans with these row ids, and the errors of rows that break a rule."""
    return plan_rows.readable(db, plan_ids)


@dataclass(frozen=True, slots=True)
class HeldSubscription:
    """A quarantined subscription."""

    key: str
    status: SubscriptionStatus
    next_due_at: datetime
    held_why: str


def held(db: Connection, limit: int) -> list[HeldSubscription]:
    """Return the quarantined subscriptions, oldest first."""
    query = select(subscriptions).where(subscriptions.c.held_why.is_not(None)).order_by(subscriptions.c.id)
    return read_all(HeldSubscription, db.execute(query.limit(limit)))


@dataclass(frozen=True, slots=True)
class ToAnnounce:
    """A subscription whose announcement is due, with its content."""

    id: int
    key: str
    status: SubscriptionStatus
    next_period_no: int
    next_due_at: datetime
    ends_at: datetime | None
    customer_uid: str
    skip_to: int | None
    told_as: str | None
    card_name: str | None
    card_number: str | None
    price: int
    currency: str


def take_to_tell(db: Connection, now: datetime, limit: int) -> list[ToAnnounce]:
    """Lock the subscriptions whose announcement is due, with its content."""
    s = subscriptions.c
    query = (
        select(s.id, s.key, s.status, s.next_period_no, s.next_due_at, s.ends_at, billing_keys.c.customer_uid)
        .add_columns(s.skip_to, s.told_as, billing_keys.c.card_name, billing_keys.c.card_number)
        .add_columns(plans.c.price, plans.c.currency)
        .join_from(subscriptions, billing_keys)
        .join(plans, plans.c.id == s.plan_id)
        .where(s.tell_at.is_not(None), s.tell_at <= now)
        .order_by(s.tell_at)
        .limit(limit)
        .with_for_update(of=subscriptions, skip_locked=True)
    )
    return read_all(ToAnnounce, db.execute(query))


@dataclass(frozen=True, slots=True)
class Announced:
    """A subscription whose next charge was announced."""

    id: int
    key: str
    next_period_no: int
    told_as: str  # the content of the notice


def lock_announced(db: Connection, billing_key_id: int) -> list[Announced]:
    """Lock the subscriptions of a card whose next charge was announced, with the content of the notice."""
    s = subscriptions.c
    query = (
        select(s.id, s.key, s.next_period_no, s.told_as)
        .where(s.billing_key_id == billing_key_id, s.status == SubscriptionStatus.ACTIVE.value)
        .where(s.told_as.is_not(None), s.ends_at.is_(None), s.held_why.is_(None))
        .order_by(s.id)
        .with_for_update()
    )
    return read_all(Announced, db.execute(query))


def told(db: Connection, ids: Sequence[int], says: Mapping[int, str]) -> None:
    """Write that these were handled, and the content of the notices that were sent for some of them."""
    s = subscriptions.c
    db.execute(update(subscriptions).where(s.id.in_(ids)).values(tell_at=None))
    if says:
        statement = (
            update(subscriptions).where(s.id == bindparam("subscription")).values(told_as=bindparam("said"))
        )
        db.execute(statement, [{"subscription": row_id, "said": said} for row_id, said in says.items()])


_LOCK_OF_CHARGE = (
    select(subscriptions.c.id)
    .where(
        subscriptions.c.id
        == select(charges.c.subscription_id).where(charges.c.id == bindparam("charge")).scalar_subquery()
    )
    .with_for_update()
)


def lock_of_charge(db: Connection, charge_id: int) -> None:
    """Lock the subscription of a charge, if it has one."""
    db.execute(_LOCK_OF_CHARGE, {"charge": charge_id})


def on_plan(db: Connection, code: str, status: str, after: int, limit: int) -> Sequence[tuple[int, str]]:
    """Row ids and customer_uids of the subscriptions on any version of a plan, in pages by row id."""
    s = subscriptions.c
    query = (
        select(s.id, billing_keys.c.customer_uid)
        .join_from(subscriptions, billing_keys)
        .join(plans, plans.c.id == s.plan_id)
        .where(plans.c.code == code, s.status == status, s.id > after)
        .order_by(s.id)
        .limit(limit)
    )
    return [(row.id, row.customer_uid) for row in db.execute(query)]


def live_by_card(db: Connection, billing_key_id: int, *, lock: bool = True) -> Sequence[tuple[int, str]]:
    """Row ids and keys of the subscriptions that are charged to a card and have not ended; locked by default."""
    s = subscriptions.c
    query = select(s.id, s.key).where(s.billing_key_id == billing_key_id)
    query = query.where(s.status != SubscriptionStatus.CANCELED.value).order_by(s.id)
    rows = db.execute(query.with_for_update() if lock else query)
    return [(row.id, row.key) for row in rows]


def newest_by_card(db: Connection, billing_key_id: int) -> list[str]:
    """The key of the newest subscription that is, or was, charged to a card; empty when there was none."""
    s = subscriptions.c
    query = select(s.key).where(s.billing_key_id == billing_key_id).order_by(s.id.desc()).limit(1)
    return list(db.execute(query).scalars())
