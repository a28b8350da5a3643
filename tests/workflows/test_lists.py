"""Lists of customers, subscriptions, charges and attempts: each filter, and pages without gaps or repetitions."""

from datetime import date, time
from typing import Any

import pytest
from sqlalchemy import text

from schedules.charging.charges import AttemptState, ChargeStatus, SubscriptionStatus
from schedules.charging.outcomes import Declined, Refused, Unknown
from schedules.errors import BadRequest, UserError
from schedules.paging import BadCursor
from tests.doubles import ScriptedGateway
from tests.factories import START, collect_due, on_sale, subscribed
from worker.customers import adjust, enrollment
from worker.reporting import listing
from worker.reporting.listing import ATTEMPTS, CHARGES, CUSTOMERS, SUBSCRIPTIONS, Filters, Kind
from worker.services import Services
from worker.store.reporting import pages

DAY, EVE = date(2026, 1, 31), date(2026, 1, 30)


@pytest.fixture
def shop(services: Services, gateway: ScriptedGateway) -> Services:
    """Four customers: two paid, one was declined, one is unclear; one subscription is paused."""
    on_sale(services)
    on_sale(services, code="large", zone="America/New_York", billing_time=time(15))
    for name in ("ann", "bob"):
        subscribed(services, name)
    paused = subscribed(services, "cat")
    collect_due(services)
    adjust.pause(services, paused, "test", "on holiday")
    gateway.answers.append(Declined("[CC10]통장 잔액부족"))
    subscribed(services, "dan", "large", EVE)
    collect_due(services)
    gateway.answers.append(Unknown("ReadTimeout"))
    subscribed(services, "eve")
    collect_due(services)
    return services


def customers_in(services: Services, kind: Kind[Any], **filters: Any) -> list[str]:
    """The customer_uids of all rows of a list, sorted."""
    return sorted(row.customer_uid for row in listing.each(services, kind, Filters(**filters), None))


def test_charges_are_filtered(shop: Services) -> None:
    everyone = ["ann", "bob", "cat", "dan", "eve"]
    assert customers_in(shop, CHARGES) == everyone
    assert customers_in(shop, CHARGES, state=ChargeStatus.PAID) == ["ann", "bob", "cat"]
    assert customers_in(shop, CHARGES, state=ChargeStatus.PAST_DUE) == ["dan"]
    assert customers_in(shop, CHARGES, state=ChargeStatus.OPEN) == ["eve"]
    assert customers_in(shop, CHARGES, state=ChargeStatus.WAIVED) == []
    assert customers_in(shop, CHARGES, plan="large") == ["dan"]
    assert customers_in(shop, CHARGES, plan="large", state=ChargeStatus.PAID) == []
    assert customers_in(shop, CHARGES, account="main") == everyone
    assert customers_in(shop, CHARGES, card="bob") == ["bob"]
    assert customers_in(shop, CHARGES, card="bob", state=ChargeStatus.PAST_DUE) == []
    assert customers_in(shop, CHARGES, held=True) == []


def test_a_due_day_is_of_the_zone_that_is_given_or_of_the_plan_or_of_the_shop(shop: Services) -> None:
    """The plan of Seoul is due on 31 January at 09:00 there, which is the evening before in New York."""
    assert START.isoformat() == "2026-01-31T00:00:00+00:00"
    assert customers_in(shop, CHARGES, day=DAY, plan="monthly") == ["ann", "bob", "cat", "eve"]
    assert customers_in(shop, CHARGES, day=DAY, plan="monthly", zone="America/New_York") == []
    assert customers_in(shop, CHARGES, day=EVE, plan="monthly", zone="America/New_York") == [
        "ann", "bob", "cat", "eve",
    ]  # fmt: skip
    assert customers_in(shop, CHARGES, day=EVE, plan="large") == ["dan"]
    assert customers_in(shop, CHARGES, day=DAY) == ["ann", "bob", "cat", "dan", "eve"]
    assert customers_in(shop, CHARGES, day=date(2030, 1, 1)) == []


def test_subscriptions_are_filtered(shop: Services) -> None:
    assert customers_in(shop, SUBSCRIPTIONS) == ["ann", "bob", "cat", "dan", "eve"]
    assert customers_in(shop, SUBSCRIPTIONS, state=SubscriptionStatus.PAUSED) == ["cat"]
    assert customers_in(shop, SUBSCRIPTIONS, state=SubscriptionStatus.ACTIVE) == ["ann", "bob", "dan", "eve"]
    assert customers_in(shop, SUBSCRIPTIONS, plan="large") == ["dan"]
    assert customers_in(shop, SUBSCRIPTIONS, card="ann") == ["ann"]
    assert customers_in(shop, SUBSCRIPTIONS, account="main", card="ann") == ["ann"]
    assert customers_in(shop, SUBSCRIPTIONS, held=True) == []
    march = Filters(day=date(2026, 2, 28), plan="monthly")
    assert sorted(row.customer_uid for row in listing.each(shop, SUBSCRIPTIONS, march, None)) == [
        "ann", "bob", "eve",
    ]  # fmt: skip


def test_attempts_are_filtered(shop: Services) -> None:
    assert customers_in(shop, ATTEMPTS) == ["ann", "bob", "cat", "dan", "eve"]
    assert customers_in(shop, ATTEMPTS, state=AttemptState.DECLINED) == ["dan"]
    assert customers_in(shop, ATTEMPTS, state=AttemptState.UNKNOWN) == ["eve"]
    assert customers_in(shop, ATTEMPTS, state=AttemptState.SENDING) == []
    assert customers_in(shop, ATTEMPTS, state=AttemptState.PAID) == ["ann", "bob", "cat"]
    assert customers_in(shop, ATTEMPTS, state=AttemptState.REFUSED) == []
    assert customers_in(shop, ATTEMPTS, day=DAY, plan="monthly") == ["ann", "bob", "cat", "eve"]
    assert customers_in(shop, ATTEMPTS, card="dan") == ["dan"]
    assert customers_in(shop, ATTEMPTS, plan="large", state=AttemptState.PAID) == []


def test_attempts_are_of_the_card_that_they_were_sent_with(shop: Services, gateway: ScriptedGateway) -> None:
    """Also where the charge was moved to another card of the customer since, and in a search."""
    enrollment.add_customer(shop, "dan-2", None, None, None, "test", of="dan")
    (key,) = [row.subscription for row in listing.each(shop, CHARGES, Filters(card="dan"), None)]
    assert key is not None
    adjust.change_card(shop, key, "dan-2", "test", "a new card")
    collect_due(shop)
    (declined,) = listing.each(shop, ATTEMPTS, Filters(card="dan"), None)
    assert (declined.customer_uid, declined.state) == ("dan", AttemptState.DECLINED)
    (paid,) = listing.each(shop, ATTEMPTS, Filters(card="dan-2"), None)
    assert (paid.customer_uid, paid.state) == ("dan-2", AttemptState.PAID)
    assert listing.page(shop, ATTEMPTS, Filters(card="dan"), None, 1).rows == [declined]


@pytest.mark.parametrize("state", [SubscriptionStatus.PAUSED, SubscriptionStatus.CANCELED])
def test_a_day_of_subscriptions_that_have_none_is_refused(shop: Services, state: SubscriptionStatus) -> None:
    with pytest.raises(BadRequest, match="has no day"):
        list(listing.each(shop, SUBSCRIPTIONS, Filters(state=state, day=DAY), None))


def test_the_times_of_a_day_are_in_its_zone(shop: Services) -> None:
    assert listing.zone_of(shop, Filters(day=EVE, plan="large")) == "America/New_York"
    assert listing.zone_of(shop, Filters(day=EVE, plan="large", zone="Asia/Seoul")) == "Asia/Seoul"
    assert listing.zone_of(shop, Filters(plan="large")) is None


def test_refused_attempts_are_listed(services: Services, gateway: ScriptedGateway) -> None:
    on_sale(services)
    subscribed(services)
    gateway.answers.append(Refused("wrong key"))
    collect_due(services)
    assert customers_in(services, ATTEMPTS, state=AttemptState.REFUSED) == ["ann"]


def test_archived_attempts_are_listed_with_the_others(shop: Services) -> None:
    with shop.engine.begin() as db:
        db.execute(text("SET LOCAL session_replication_role = replica"))
        moved = "DELETE FROM attempts WHERE state = 'paid' RETURNING *"
        columns = (
            "id, charge_id, number, merchant_uid, state, amount, currency, fence, sends, last_sent_at, asks, "
        )
        columns += "quiet_answers, imp_uid, created_at, settled_at, billing_key_id"
        db.execute(
            text(f"WITH moved AS ({moved}) INSERT INTO archived_attempts ({columns}) SELECT {columns} FROM moved")
        )
    assert customers_in(shop, ATTEMPTS) == ["ann", "bob", "cat", "dan", "eve"]
    assert customers_in(shop, ATTEMPTS, state=AttemptState.PAID) == ["ann", "bob", "cat"]
    assert customers_in(shop, ATTEMPTS, day=DAY, plan="monthly") == ["ann", "bob", "cat", "eve"]
    assert customers_in(shop, ATTEMPTS, card="bob") == ["bob"]


def test_customers_are_filtered_and_masked(services: Services) -> None:
    on_sale(services)
    enrollment.add_customer(services, "kim", "김영준", "kim@example.com", "010-1234-5678", "test")
    enrollment.add_customer(services, "kim-2", None, None, None, "test", of="kim")
    subscribed(services, "ann")

    def references(**filters: Any) -> list[str]:
        return [row.cards[0] for row in listing.each(services, CUSTOMERS, Filters(**filters), None)]

    assert references() == ["ann", "kim"]
    assert references(plan="monthly") == ["ann"]
    assert references(card="kim-2") == ["kim"]
    assert references(account="main") == ["ann", "kim"]
    (kim,) = listing.each(services, CUSTOMERS, Filters(card="kim-2"), None)
    assert list(kim.cards) == ["kim", "kim-2"]
    shown = listing.masked(kim)
    assert (shown.name, shown.email, shown.tel) == ("김*준", "k***@example.com", "010-****-5678")


FILTERS: list[tuple[Kind[Any], Filters]] = [
    (CHARGES, Filters()), (CHARGES, Filters(plan="monthly")), (CHARGES, Filters(day=DAY)),
    (CHARGES, Filters(day=DAY, plan="monthly")), (CHARGES, Filters(card="ann")),
    (CHARGES, Filters(state=ChargeStatus.PAID)), (CHARGES, Filters(state=ChargeStatus.OPEN)),
    (CHARGES, Filters(state=ChargeStatus.PAST_DUE)), (CHARGES, Filters(held=True)),
    (ATTEMPTS, Filters()), (ATTEMPTS, Filters(day=DAY)), (ATTEMPTS, Filters(card="ann")),
    (ATTEMPTS, Filters(plan="monthly")), *((ATTEMPTS, Filters(state=state)) for state in AttemptState),
    (SUBSCRIPTIONS, Filters()), (SUBSCRIPTIONS, Filters(plan="monthly")), (SUBSCRIPTIONS, Filters(card="ann")),
    (SUBSCRIPTIONS, Filters(day=date(2026, 2, 28))),
    *((SUBSCRIPTIONS, Filters(state=s)) for s in SubscriptionStatus),
    (CUSTOMERS, Filters()), (CUSTOMERS, Filters(plan="monthly")), (CUSTOMERS, Filters(account="main")),
]  # fmt: skip


def test_pages_of_any_length_give_each_row_once_in_one_order(
    shop: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement reads two rows at a time, so that filters leave pages short and gaps would show."""
    whole = [list(listing.each(shop, kind, filters, None)) for kind, filters in FILTERS]
    monkeypatch.setattr(pages, "READ_AT_ONCE", 2)
    monkeypatch.setattr(pages, "READ_FOR_A_PAGE", 4)
    for (kind, filters), expected in zip(FILTERS, whole, strict=True):
        for limit in (1, 2, 3, 100):
            found, after = [], None
            while True:
                page = listing.page(shop, kind, filters, after, limit)
                assert len(page.rows) <= limit
                found += page.rows
                if page.next is None:
                    break
                after = page.next
            assert found == expected, (kind.name, filters, limit)


def test_a_full_last_page_has_no_next_page(shop: Services) -> None:
    assert listing.page(shop, CHARGES, Filters(), None, 5).next is None
    assert listing.page(shop, CHARGES, Filters(), None, 4).next is not None


def test_rows_that_come_between_two_pages_repeat_none(shop: Services) -> None:
    first = listing.page(shop, CHARGES, Filters(), None, 2)
    subscribed(shop, "zoe")
    collect_due(shop)
    rest = listing.page(shop, CHARGES, Filters(), first.next, 100)
    keys = [row.key for row in (*first.rows, *rest.rows)]
    assert len(keys) == len(set(keys)) == 5


@pytest.mark.parametrize(
    ("filters", "field", "words"),
    [
        (Filters(plan="none"), "plan", "plan 'none' is not known; there are: large, monthly"),
        (Filters(account="none"), "account", "gateway account 'none' is not known; there are: main"),
        (Filters(card="none"), "card", "customer_uid 'none' is not known"),
        (Filters(zone="Asia/Seoul"), "zone", "give the day too"),
    ],
)
def test_a_value_that_is_not_known_is_refused_with_the_known_ones(
    shop: Services, filters: Filters, field: str, words: str
) -> None:
    with pytest.raises(BadRequest, match=words) as refused:
        listing.page(shop, CHARGES, filters, None, 1)
    assert refused.value.field == field


@pytest.mark.parametrize("day", [date.max, date.min])
def test_a_day_at_the_end_of_time_is_refused_in_words(shop: Services, day: date) -> None:
    with pytest.raises(UserError, match="take"):
        listing.page(shop, CHARGES, Filters(day=day), None, 1)


def test_cursors_of_another_list_or_of_other_filters_are_refused(shop: Services) -> None:
    after = listing.page(shop, CHARGES, Filters(), None, 1).next
    with pytest.raises(BadCursor, match="of the list of charges, not of attempts"):
        listing.page(shop, ATTEMPTS, Filters(), after, 1)
    with pytest.raises(BadCursor, match="other filters"):
        listing.page(shop, CHARGES, Filters(day=DAY), after, 1)
