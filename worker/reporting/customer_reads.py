"""Reads for other backends: whether a customer may be served, and what the customer has and owes.

Each is one short transaction on one snapshot, and takes no lock.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Connection

from schedules.charging.charges import ChargeStatus, SubscriptionStatus
from schedules.dunning.standings import Overdue, Standing, standing, usable_until
from schedules.errors import BadRequest, Code
from worker.charging import dunning
from worker.reporting import listing
from worker.reporting.listing import Kind, Page
from worker.services import Services
from worker.store.charging import charges
from worker.store.customers import customers, subscriptions
from worker.store.customers.subscriptions import Subscription
from worker.store.reporting import lists, timeline
from worker.store.reporting.lists import CardLine, ChargeLine, SubscriptionLine, Wanted

T = TypeVar("T")
CARDS: Kind[CardLine] = Kind("cards", lists.card_list)


@dataclass(frozen=True, slots=True)
class OwedDebt:
    """An open charge of a subscription."""

    charge: str  # its key
    amount: int
    currency: str
    status: ChargeStatus
    due_at: datetime
    next_attempt_at: datetime | None


@dataclass(frozen=True, slots=True)
class Service:
    """Whether the customer of a subscription may be served, and why."""

    subscription: str  # its key
    external_ref: str | None
    customer_uid: str
    plan: str  # its code
    status: SubscriptionStatus
    standing: Standing
    served: bool
    until: datetime | None  # when `served` ends if nothing changes; None without a known end, or when not served
    next_due_at: datetime | None
    ends_at: datetime | None
    owed: tuple[OwedDebt, ...]  # oldest first


def standings(
    services: Services, subscription: str | None, external_ref: str | None, customer_uid: str | None
) -> list[Service]:
    """Return the standing of one subscription, or of those of a customer: the live ones, or else the newest.

    Raises BadRequest for a name that is not known, and unless exactly one is given.
    """
    if [subscription, external_ref, customer_uid].count(None) != 2:
        raise BadRequest(
            Code.INVALID, "subscription", "give one of subscription, external_ref and customer_uid, and no other"
        )
    now = services.clock.now()
    with services.one_moment() as db:
        if customer_uid is not None:
            keys = timeline.subscriptions_of(db, _customer(db, customer_uid))
        elif external_ref is not None:
            keys = [_by_reference(db, external_ref)]
        else:
            keys = [(subscription or "").lower()]
        return [_service(db, key, now) for key in keys]


def subscriptions_of(
    services: Services, customer_uid: str, after: str | None, limit: int
) -> Page[SubscriptionLine]:
    """Return a page of the subscriptions of a customer, newest first; those that have ended too."""
    return _of_customer(services, listing.SUBSCRIPTIONS, customer_uid, after, limit)


def charges_of(services: Services, customer_uid: str, after: str | None, limit: int) -> Page[ChargeLine]:
    """Return a page of the charges of all cards of a customer, newest first."""
    return _of_customer(services, listing.CHARGES, customer_uid, after, limit)


def cards_of(services: Services, customer_uid: str, after: str | None, limit: int) -> Page[CardLine]:
    """Return a page of the cards of a customer, newest first; deleted ones too."""
    return _of_customer(services, CARDS, customer_uid, after, limit)


def _of_customer(
    services: Services, kind: Kind[T], customer_uid: str, after: str | None, limit: int
) -> Page[T]:  # fmt: skip
    with services.one_moment() as db:
        return listing.page_of(db, kind, Wanted(customer=_customer(db, customer_uid)), after, limit)


def _customer(db: Connection, customer_uid: str) -> int:
    stored = customers.key_by_uid(db, customer_uid)
    if stored is None:
        raise BadRequest(Code.NOT_FOUND, "customer_uid", f"customer {customer_uid!r} is not known")
    return stored.customer_id


def _by_reference(db: Connection, external_ref: str) -> str:
    key = subscriptions.by_external_ref(db, external_ref)
    if key is None:
        raise BadRequest(
            Code.NOT_FOUND, "external_ref", f"no subscription has the external reference {external_ref!r}"
        )
    return key


def _service(db: Connection, key: str, now: datetime) -> Service:
    row = subscriptions.by_key(db, key)
    if row is None:
        raise BadRequest(Code.NOT_FOUND, "subscription", f"subscription {key!r} is not known")
    debts = charges.owed_of(db, row.id)
    overdue = [dunning.overdue(charge) for charge in debts]
    is_now = standing(row.status, row.ends_at, overdue, now)
    owed = tuple(
        OwedDebt(debt.key, debt.money.amount, debt.money.currency, debt.status, debt.due_at, debt.next_attempt_at)
        for debt in debts
    )
    return Service(
        subscription=row.key, external_ref=row.external_ref, customer_uid=row.customer_uid, plan=row.code,
        status=row.status, standing=is_now, served=is_now.is_usable,
        until=_until(row, overdue) if is_now.is_usable else None,
        next_due_at=row.next_due_at if row.open_at is not None else None, ends_at=row.ends_at, owed=owed,
    )  # fmt: skip


def _until(row: Subscription, overdue: list[Overdue]) -> datetime | None:
    """When a customer who is served is served no longer, unless something is paid or changed before."""
    ends = [row.ends_at, *map(usable_until, overdue)]
    return min((at for at in ends if at is not None), default=None)
