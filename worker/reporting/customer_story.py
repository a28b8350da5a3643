"""A customer: cards, subscriptions with their standing, what is owed, the newest charges, what happened."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Connection

from schedules.charging.charges import SubscriptionStatus
from schedules.dunning.standings import Standing
from schedules.masking import masked_email, masked_name, masked_tel
from worker.reporting import find, history
from worker.reporting.explain import MOST_CARDS
from worker.reporting.happenings import Happening
from worker.reporting.history import Story
from worker.services import Services
from worker.store.customers import subscriptions
from worker.store.customers.subscriptions import Subscription
from worker.store.reporting import customer_facts, timeline
from worker.store.reporting.customer_facts import CardRow, ChargeOfCustomer, CustomerRow, Owed
from worker.store.reporting.stories import Page

MOST_SUBSCRIPTIONS = 20
MOST_CHARGES = 10


@dataclass(frozen=True, slots=True)
class CustomerFacts:
    """Who a customer is; name, e-mail address and telephone number are masked."""

    key: str  # the customer_uid of the first card
    name: str | None
    email: str | None
    tel: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Card:
    """A stored card of a customer."""

    customer_uid: str
    card_name: str | None
    card_number: str | None  # masked
    state: str  # usable, deleted, or the class of the decline after which it is not tried
    account: str
    pg_provider: str | None
    expires_on: date | None
    created_at: datetime
    deleted_at: datetime | None


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A subscription of a customer, with its standing now."""

    key: str
    plan: str
    customer_uid: str
    price: int  # minor units
    currency: str
    status: SubscriptionStatus
    standing: Standing
    next_due_at: datetime | None
    ends_at: datetime | None
    held_why: str | None
    external_ref: str | None


@dataclass(frozen=True, slots=True)
class CustomerStory:
    """A customer now, and what happened to the cards."""

    customer_id: int  # row id
    facts: CustomerFacts
    owed: list[Owed]  # for each currency
    cards: list[Card]
    subscriptions: list[Subscribed]
    charges: Sequence[ChargeOfCustomer]  # the newest
    happenings: list[Happening]
    more: list[str]  # which of these lists were cut


def show(
    services: Services, text: str, *, ask_gateway: bool = False, page: Page = Page()
) -> Story | CustomerStory:
    """Show what a text names: a customer, a subscription, a charge or an attempt with its charge.

    Raises what `find.one` raises.
    """
    with services.one_moment() as db:
        match = find.one(db, text)
        row = None if match.customer_id is None else customer_facts.customer(db, match.customer_id)
        if row is not None:
            return _customer(db, row, services.clock.now())
    return history.show(services, match.key, ask_gateway=ask_gateway, page=page)


def _customer(db: Connection, row: CustomerRow, now: datetime) -> CustomerStory:
    facts = CustomerFacts(
        row.reference, masked_name(row.name), masked_email(row.email), masked_tel(row.tel), row.created_at
    )
    cards = customer_facts.cards_of(db, row.id, MOST_CARDS + 1)
    keys = customer_facts.subscriptions_of(db, row.id, MOST_SUBSCRIPTIONS + 1)
    charges = customer_facts.newest_charges(db, row.id, MOST_CHARGES + 1)
    lengths = (
        ("cards", cards, MOST_CARDS),
        ("subscriptions", keys, MOST_SUBSCRIPTIONS),
        ("charges", charges, MOST_CHARGES),
    )
    rows = [found for key in keys[:MOST_SUBSCRIPTIONS] if (found := subscriptions.by_key(db, key)) is not None]
    return CustomerStory(
        customer_id=row.id,
        facts=facts,
        owed=customer_facts.owed_of(db, row.id, now),
        cards=[_card(each) for each in cards[:MOST_CARDS]],
        subscriptions=[_subscription(db, each, now) for each in rows],
        charges=charges[:MOST_CHARGES],
        happenings=_happenings(db, cards[:MOST_CARDS]),
        more=[name for name, found, most in lengths if len(found) > most],
    )


def _card(row: CardRow) -> Card:
    return Card(
        row.customer_uid, row.card_name, row.card_number, find.card_state(row.deleted_at, row.stopped_as),
        row.account, row.pg_provider, row.expires_on, row.created_at, row.deleted_at,
    )  # fmt: skip


def _subscription(db: Connection, row: Subscription, now: datetime) -> Subscribed:
    return Subscribed(
        row.key, f"{row.code} version {row.version}", row.customer_uid, row.price, row.currency, row.status,
        history.subscription_standing(db, row, now), row.next_due_at if row.open_at else None, row.ends_at,
        row.held_why, row.external_ref,
    )  # fmt: skip


def _happenings(db: Connection, cards: list[CardRow]) -> list[Happening]:
    found = []
    for card in cards:
        for act in timeline.audit_of(db, card.customer_uid):
            why = f": {act.why}" if act.why else ""
            found.append(Happening(act.at, act.verb, f"{card.customer_uid} by {act.actor}{why}"))
    return sorted(found, key=lambda happening: happening.at)
