"""The lists of customers, subscriptions, charges and attempts: which index each set of filters is read by.

A filter that no index serves leaves rows out of those that are read, a bounded number for each page.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    Subquery,
    Table,
    exists,
    func,
    literal_column,
    select,
    text,
)

from schedules.charging.charges import (
    UNRESOLVED,
    AttemptState,
    ChargeKind,
    ChargeStatus,
    SubscriptionStatus,
    TriedBy,
)
from schedules.dunning.declines import DeclineClass
from worker.store.reporting.pages import Listing, Walk, instants
from worker.store.reporting.search import card_of_attempt
from worker.store.tables import (
    NOT_ENDED,
    REFUSED,
    UNRESOLVED_STATES,
    archived_attempts,
    attempts,
    billing_keys,
    charges,
    customers,
    plans,
    subscriptions,
)

CARDS_SHOWN = 20  # of a customer
MOST_TRIES = 1000  # of a charge; far above those that any policy allows


@dataclass(frozen=True, slots=True)
class Wanted:
    """The filters of a list, resolved."""

    state: str | None = None  # or status, of the closed set of the list's rows
    plan: str | None = None  # its code
    account: str | None = None
    span: tuple[datetime, datetime] | None = None  # of the due time, without its end
    cards: tuple[int, ...] | None = None  # row ids of billing keys
    customer: int | None = None  # row id
    held: bool = False

    def served_by(self, *names: str) -> bool:
        """Whether these fields are all filters that are given."""
        given = {name for name in self.__slots__ if getattr(self, name) not in (None, False)}
        return given <= set(names)


@dataclass(frozen=True, slots=True)
class ChargeLine:
    """A charge in a list."""

    key: str
    kind: ChargeKind
    subscription: str | None  # its key
    plan: str | None  # its code
    customer_uid: str
    account: str
    amount: int
    currency: str
    status: ChargeStatus
    due_at: datetime
    next_attempt_at: datetime | None
    attempts: int
    held_why: str | None
    closed_at: datetime | None
    closed_why: str | None


def charge_list(wanted: Wanted) -> Listing[ChargeLine]:
    """The charges, newest first; those of a span by their due time, the latest first."""
    c = charges.c
    base = select(
        c.id, c.key, c.kind, c.subscription_id, c.billing_key_id, c.account, c.amount, c.currency, c.status,
        c.due_at, c.next_attempt_at, c.attempts, c.held_why, c.closed_at, c.closed_why,
    )  # fmt: skip
    by_id = ("id",)
    served: tuple[str, ...]
    if wanted.customer is not None:
        own = select(billing_keys.c.id).where(billing_keys.c.customer_id == wanted.customer)
        of_customer = base.add_columns(_place(charges)).where(c.billing_key_id.in_(own))
        walk, served = Walk((of_customer,), ("place",)), ("customer",)
    elif wanted.cards is not None:
        walk, served = _of_cards(base, wanted.cards), ("cards",)
    elif wanted.span is not None:
        walk, served = Walk((base.where(instants(*wanted.span, c.due_at)),), ("due_at", "id")), ("span",)
    elif wanted.held:
        walk, served = Walk((base.where(c.held_why.is_not(None)),), by_id), ("held",)
    elif wanted.state in (None, ChargeStatus.PAID):
        walk, served = Walk((base,), by_id), ()
    elif wanted.state == ChargeStatus.OPEN:
        walk, served = Walk((base.where(text(NOT_ENDED)),), by_id), ()
    else:
        walk, served = Walk((base.where(_is(c.status, wanted.state)),), by_id), ("state",)

    def shown(walked: Subquery) -> Select[Any]:
        w, s = walked.c, subscriptions.c
        query = select(walked, billing_keys.c.customer_uid, s.key.label("subscription"), s.plan_code.label("plan"))
        query = query.join_from(walked, billing_keys, billing_keys.c.id == w.billing_key_id)
        query = query.outerjoin(subscriptions, s.id == w.subscription_id)
        tests = _tests(wanted, state=w.status, plan=s.plan_code, account=w.account, due=w.due_at, held=w.held_why)
        return query.where(*tests)

    return Listing(ChargeLine, walk, shown, not wanted.served_by(*served))


@dataclass(frozen=True, slots=True)
class AttemptLine:
    """An attempt in a list."""

    merchant_uid: str
    charge: str  # its key
    number: int
    customer_uid: str
    account: str
    amount: int
    currency: str
    state: AttemptState
    last_sent_at: datetime
    settled_at: datetime | None
    imp_uid: str | None
    pg_provider: str | None
    decline_class: DeclineClass | None
    reason: str | None
    tried_by: TriedBy | None


def attempt_list(wanted: Wanted) -> Listing[AttemptLine]:
    """The attempts, newest first, archived ones included; those of a span by the due time of their charges."""
    walk, served = _walk_of_attempts(wanted)

    def shown(walked: Subquery) -> Select[Any]:
        w, c, s, k = walked.c, charges.c, subscriptions.c, billing_keys.c
        query = select(walked, c.key.label("charge"), c.account, k.customer_uid)
        query = query.join_from(walked, charges, c.id == w.charge_id)
        query = query.join(billing_keys, k.id == card_of_attempt(w))
        query = query.outerjoin(subscriptions, s.id == c.subscription_id)
        if wanted.cards is not None:
            query = query.where(k.id.in_(wanted.cards))
        return query.where(*_tests(wanted, state=w.state, plan=s.plan_code, account=c.account, due=c.due_at))

    return Listing(AttemptLine, walk, shown, not wanted.served_by(*served))


def _walk_of_attempts(wanted: Wanted) -> tuple[Walk, Sequence[str]]:
    both, c = (attempts, archived_attempts), charges.c
    if wanted.cards is not None:
        # A charge may have been moved to another card of its customer since the attempt.
        k = billing_keys.c
        of_whom = select(k.customer_id).where(k.id.in_(wanted.cards))
        of_cards = select(c.id).where(c.billing_key_id.in_(select(k.id).where(k.customer_id.in_(of_whom))))
        branches = (_attempts(t).add_columns(_place(t)).where(t.c.charge_id.in_(of_cards)) for t in both)
        return Walk(tuple(branches), ("place",)), ()
    if wanted.span is not None:
        due = instants(*wanted.span, c.due_at)
        branches = (
            select(c.due_at, c.id.label("of_charge"), *tries.c).where(due) for tries in map(_of_charge, both)
        )
        return Walk(tuple(branches), ("due_at", "of_charge", "number"), indexed=2), ("span",)
    state = None if wanted.state is None else AttemptState(wanted.state)
    if state in UNRESOLVED:
        return Walk((_attempts(attempts).where(text(UNRESOLVED_STATES)),), ("charge_id",)), ()
    if state is AttemptState.PAID:
        branches = (_attempts(t).where(_is(t.c.state, state)) for t in both)
        return Walk(tuple(branches), ("last_sent_at", "id")), ("state",)
    if state is AttemptState.DECLINED:
        branches = (_attempts(t).where(_is(t.c.state, state)) for t in both)
        return Walk(tuple(branches), ("settled_at", "id")), ("state",)
    if state is AttemptState.REFUSED:
        branches = (_attempts(t).where(text(REFUSED)) for t in both)
        return Walk(tuple(branches), ("settled_at", "id")), ()
    return Walk(tuple(map(_attempts, both)), ("id",)), ()


def _of_charge(table: Table) -> FromClause:
    # The limit keeps it a loop over the charges; as a join, the planner could read and sort the attempts of all.
    tries = _attempts(table).where(table.c.charge_id == charges.c.id).order_by(table.c.number.desc())
    return tries.limit(MOST_TRIES).lateral("tries")


def _attempts(table: Table) -> Select[Any]:
    a = table.c
    return select(
        a.id, a.charge_id, a.number, a.merchant_uid, a.amount, a.currency, a.state, a.last_sent_at, a.settled_at,
        a.imp_uid, a.pg_provider, a.decline_class, a.reason, a.tried_by, a.billing_key_id,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class SubscriptionLine:
    """A subscription in a list."""

    key: str
    customer_uid: str
    account: str
    plan: str  # its code
    version: int
    amount: int  # the plan's price
    currency: str
    status: SubscriptionStatus
    anchor: date
    next_period_no: int
    next_due_at: datetime
    open_at: datetime | None
    ends_at: datetime | None
    held_why: str | None
    external_ref: str | None
    created_at: datetime


def subscription_list(wanted: Wanted) -> Listing[SubscriptionLine]:
    """The subscriptions, newest first; those of a span by the time at which their next period opens."""
    s = subscriptions.c
    base = select(
        s.id, s.key, s.customer_id, s.billing_key_id, s.plan_id, s.plan_code, s.status, s.anchor, s.next_period_no,
        s.next_due_at, s.open_at, s.ends_at, s.held_why, s.external_ref, s.created_at,
    )  # fmt: skip
    by_id = ("id",)
    served: tuple[str, ...]
    if wanted.customer is not None:
        of_customer = base.add_columns(_place(subscriptions)).where(s.customer_id == wanted.customer)
        walk, served = Walk((of_customer,), ("place",)), ("customer",)
    elif wanted.cards is not None:
        walk, served = _of_cards(base, wanted.cards), ("cards",)
    elif wanted.span is not None:
        active = _is(s.status, SubscriptionStatus.ACTIVE)
        due = base.where(active, instants(*wanted.span, s.open_at))
        walk, served = Walk((due,), ("open_at", "id")), ("span",)
    elif wanted.held:
        walk, served = Walk((base.where(s.held_why.is_not(None)),), by_id), ("held",)
    elif wanted.state in (None, SubscriptionStatus.ACTIVE):
        walk, served = Walk((base,), by_id), ()
    else:
        walk, served = Walk((base.where(_is(s.status, wanted.state)),), by_id), ("state",)

    def shown(walked: Subquery) -> Select[Any]:
        w, p = walked.c, plans.c
        query = select(walked, p.code.label("plan"), p.version, p.price.label("amount"), p.currency)
        query = query.add_columns(billing_keys.c.customer_uid, billing_keys.c.account)
        query = query.join_from(walked, plans, p.id == w.plan_id)
        query = query.join(billing_keys, billing_keys.c.id == w.billing_key_id)
        account = billing_keys.c.account
        tests = _tests(wanted, state=w.status, plan=w.plan_code, account=account, due=w.open_at, held=w.held_why)
        return query.where(*tests)

    return Listing(SubscriptionLine, walk, shown, not wanted.served_by(*served))


@dataclass(frozen=True, slots=True)
class CustomerLine:
    """A customer in a list."""

    reference: str
    name: str | None
    email: str | None
    tel: str | None
    cards: Sequence[str]  # the oldest customer_uids that are not deleted
    created_at: datetime


def customer_list(wanted: Wanted) -> Listing[CustomerLine]:
    """The customers, newest first. An account is that of a card, a plan that of a live subscription."""
    p, k, s = customers.c, billing_keys.c, subscriptions.c
    base = select(p.id, p.reference, p.name, p.email, p.tel, p.created_at)
    if wanted.customer is not None:
        base = base.where(p.id == wanted.customer)

    def shown(walked: Subquery) -> Select[Any]:
        w = walked.c
        live = k.customer_id == w.id, k.deleted_at.is_(None)
        first = select(k.customer_uid).where(*live).order_by(k.id).limit(CARDS_SHOWN)
        query = select(walked, func.array(first.scalar_subquery()).label("cards")).select_from(walked)
        if wanted.account is not None:
            query = query.where(exists().where(*live, k.account == wanted.account))
        if wanted.plan is not None:
            is_live = s.status != SubscriptionStatus.CANCELED.value
            query = query.where(exists().where(s.customer_id == w.id, s.plan_code == wanted.plan, is_live))
        return query

    return Listing(CustomerLine, Walk((base,), ("id",)), shown, not wanted.served_by("customer"))


@dataclass(frozen=True, slots=True)
class CardLine:
    """A card of a customer; masked facts only."""

    customer_uid: str
    account: str
    pg_provider: str | None
    card_name: str | None
    card_number: str | None  # masked
    stopped_as: DeclineClass | None  # the decline class after which the card is not tried
    expires_on: date | None
    created_at: datetime
    changed_at: datetime | None
    deleted_at: datetime | None


def card_list(wanted: Wanted) -> Listing[CardLine]:
    """The cards of a customer, newest first."""
    k = billing_keys.c
    base = select(
        k.customer_uid, k.account, k.pg_provider, k.card_name, k.card_number, k.stopped_as, k.expires_on,
        k.created_at, k.changed_at, k.deleted_at,
    )  # fmt: skip
    of_customer = base.add_columns(_place(billing_keys)).where(k.customer_id == wanted.customer)
    walk = Walk((of_customer,), ("place",))
    return Listing(CardLine, walk, select, not wanted.served_by("customer"))


def _of_cards(base: Select[Any], cards: Sequence[int]) -> Walk:
    (table,) = base.get_final_froms()
    query = base.add_columns(_place(table)).where(table.c.billing_key_id.in_(cards))
    return Walk((query,), ("place",))


def _place(table: Any) -> ColumnElement[int]:
    # Not the id itself: the planner could read all rows by the primary key, instead of the few by their own index.
    place: ColumnElement[int] = (table.c.id + 0).label("place")
    return place


def _is(column: ColumnElement[Any], value: str) -> ColumnElement[bool]:
    # As text of the statement: a plan with a parameter in its place cannot use a partial index.
    return column == literal_column(f"'{value}'")


def _tests(wanted: Wanted, **columns: ColumnElement[Any]) -> list[ColumnElement[bool]]:
    """The filters, also those that the index served already."""
    names = {"state": wanted.state, "plan": wanted.plan, "account": wanted.account}
    tests = [columns[name] == value for name, value in names.items() if value is not None]
    if wanted.span is not None:
        tests.append(instants(*wanted.span, columns["due"]))
    if wanted.held:
        tests.append(columns["held"].is_not(None))
    return tests
