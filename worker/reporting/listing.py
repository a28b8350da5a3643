"""Lists of customers, subscriptions, charges and attempts: their filters, and pages with a cursor."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from typing import Generic, TypeVar

from sqlalchemy import Connection

from schedules.calendar.zones import day_bounds, zone
from schedules.charging.charges import SubscriptionStatus
from schedules.errors import BadRequest, Code
from schedules.masking import masked_email, masked_name, masked_tel
from schedules.paging import Key, read_cursor, write_cursor
from worker.services import Services
from worker.store.customers import customers, plans
from worker.store.reporting import lists, pages
from worker.store.reporting.lists import AttemptLine, ChargeLine, CustomerLine, SubscriptionLine, Wanted
from worker.store.reporting.pages import Listing

T = TypeVar("T")
AT_ONCE = 1000  # rows in memory where a whole list is written
LONGEST_LIST = 20  # names in a message


@dataclass(frozen=True, slots=True)
class Filters:
    """The filters of a list, as they are asked for."""

    state: str | None = None
    plan: str | None = None
    account: str | None = None
    day: date | None = None  # a local day
    zone: str | None = None  # of the day; that of the plan, or else of the shop unless given
    card: str | None = None  # a customer_uid
    held: bool = False


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """One of the lists."""

    name: str
    listing: Callable[[Wanted], Listing[T]]
    is_of_customer: bool = False  # whether a card stands for its customer


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Rows of a list, and the cursor of the next page; None after the last one."""

    rows: list[T]
    next: str | None


CUSTOMERS: Kind[CustomerLine] = Kind("customers", lists.customer_list, is_of_customer=True)
SUBSCRIPTIONS: Kind[SubscriptionLine] = Kind("subscriptions", lists.subscription_list)
CHARGES: Kind[ChargeLine] = Kind("charges", lists.charge_list)
ATTEMPTS: Kind[AttemptLine] = Kind("attempts", lists.attempt_list)


def page(services: Services, kind: Kind[T], filters: Filters, after: str | None, limit: int) -> Page[T]:
    """Return a page of a list, newest first. It may be short before the end, where the filters leave few rows.

    Raises BadRequest for a value of a filter that is not known, and BadCursor.
    """
    with services.one_moment() as db:
        return page_of(db, kind, _resolved(services, db, kind, filters), after, limit)


def each(services: Services, kind: Kind[T], filters: Filters, after: str | None) -> Iterator[T]:
    """Yield every row of a list from a cursor on; each page is read in a short transaction of its own."""
    while True:
        found = page(services, kind, filters, after, AT_ONCE)
        yield from found.rows
        if found.next is None:
            return
        after = found.next


def page_of(db: Connection, kind: Kind[T], wanted: Wanted, after: str | None, limit: int) -> Page[T]:
    """Return a page of a list under resolved filters."""
    given = {name: str(value) for name, value in asdict(wanted).items() if value not in (None, False)}
    listing, filters = kind.listing(wanted), json.dumps(given, sort_keys=True)
    key: Key | None = None
    if after is not None:
        key = read_cursor(after, kind.name, filters, listing.walk.kinds)
    part = pages.page(db, listing, key, limit)
    return Page(part.rows, None if part.next is None else write_cursor(kind.name, filters, part.next))


def masked(line: CustomerLine) -> CustomerLine:
    """A customer without what would reach the person."""
    return replace(
        line, name=masked_name(line.name), email=masked_email(line.email), tel=masked_tel(line.tel)
    )  # fmt: skip


def _resolved(services: Services, db: Connection, kind: Kind[T], filters: Filters) -> Wanted:
    wanted = Wanted(state=filters.state, plan=filters.plan, held=filters.held)
    plan_zone = _zone_of_plan(db, filters.plan) if filters.plan is not None else None
    if filters.account is not None:
        wanted = replace(wanted, account=_known_account(services, filters.account))
    if filters.card is not None:
        stored = customers.key_by_uid(db, filters.card)
        if stored is None:
            raise BadRequest(Code.NOT_FOUND, "card", f"customer_uid {filters.card!r} is not known")
        is_person = kind.is_of_customer
        wanted = replace(wanted, customer=stored.customer_id) if is_person else replace(wanted, cards=(stored.id,))
    if filters.day is not None:
        if kind.name == SUBSCRIPTIONS.name and filters.state not in (None, SubscriptionStatus.ACTIVE):
            raise BadRequest(Code.INVALID, "day", f"a {filters.state} subscription has no day; leave one out")
        since, last = day_bounds(
            filters.day, filters.day, zone(filters.zone or plan_zone or services.settings.zone)
        )
        wanted = replace(wanted, span=(since, last + timedelta(seconds=1)))
    elif filters.zone is not None:
        raise BadRequest(Code.INVALID, "zone", "it is the zone of a day; give the day too")
    return wanted


def zone_of(services: Services, filters: Filters) -> str | None:
    """Return the name of the zone in which the day of these filters was read; None without a day."""
    if filters.day is None or filters.zone is not None or filters.plan is None:
        return filters.zone
    with services.one_moment() as db:
        return _zone_of_plan(db, filters.plan)


def _zone_of_plan(db: Connection, code: str) -> str:
    plan = plans.newest(db, code)
    if plan is None:
        codes = sorted({stored.plan.code for stored in plans.readable(db)[0].values()})
        more = ", …" if len(codes) > LONGEST_LIST else ""
        there_are = ", ".join(codes[:LONGEST_LIST]) + more if codes else "none yet"
        raise BadRequest(Code.NOT_FOUND, "plan", f"plan {code!r} is not known; there are: {there_are}")
    return plan.plan.zone


def _known_account(services: Services, name: str) -> str:
    if name not in services.account_names:
        known = ", ".join(services.account_names)
        raise BadRequest(Code.NOT_FOUND, "account", f"gateway account {name!r} is not known; there are: {known}")
    return name
