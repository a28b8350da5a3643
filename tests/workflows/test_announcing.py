"""Announcing: the last notice of a charge says what is charged, whatever was changed after an earlier one."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from schedules.calendar.cadence import Every, Unit
from schedules.charging.outcomes import Declined
from schedules.dunning.policies import STANDARD
from schedules.money.amounts import Money
from tests.doubles import ScriptedGateway
from tests.factories import START, collect_due, heard, move, move_to, on_sale, subscribed
from tests.scenarios.living import live_until
from worker.customers import adjust, cards, enrollment
from worker.gateway.port import BillingKey
from worker.outbox import announcements
from worker.services import Services

WHO = ("kim", "the customer asked for it")
DUE = datetime(2026, 2, 28, tzinfo=UTC)  # the next charge of a monthly subscription since 31 January
ANNOUNCED = START + timedelta(days=26)  # two days before, and one day after its notice


@pytest.fixture
def key(services: Services) -> str:
    """A subscription whose next charge, of 9,900 won on 28 February, was announced yesterday."""
    on_sale(services, policy=STANDARD)
    on_sale(services, policy=STANDARD, code="large", price=Money(29_900, "KRW"))
    on_sale(services, policy=STANDARD, code="dollars", price=Money(990, "USD"))
    subscription = subscribed(services)
    enrollment.add_customer(services, "ann-2", None, None, None, "test", of="ann")
    collect_due(services)
    live_until(services, ANNOUNCED)
    assert said(services) == [("2026-02-28T00:00:00Z", 9900, "KRW", "ann")]
    return subscription


def payloads(services: Services, kind: str) -> list[dict[str, Any]]:
    """What the events of a kind say, oldest first."""
    query = text("SELECT payload FROM outbox WHERE kind = :kind ORDER BY id")
    with services.engine.begin() as db:
        return [dict(payload) for payload in db.execute(query, {"kind": kind}).scalars()]


def said(services: Services) -> list[tuple[Any, ...]]:
    """What each notice of a charge said: when, how much, and whose card."""
    names = ("due_at", "amount", "currency", "customer_uid")
    return [tuple(notice[name] for name in names) for notice in payloads(services, "charge.upcoming")]


def plan_to(code: str) -> Callable[[Services, str], object]:
    """Changes the plan."""
    return lambda services, key: adjust.change_plan(services, key, code, *WHO, other_currency=True)


CHANGES: list[tuple[Callable[[Services, str], object], tuple[Any, ...]]] = [
    (plan_to("large"), ("2026-02-28T00:00:00Z", 29900, "KRW", "ann")),
    (plan_to("dollars"), ("2026-02-28T00:00:00Z", 990, "USD", "ann")),
    (
        lambda services, key: adjust.move_anchor(services, key, date(2026, 2, 27), *WHO),
        ("2026-02-27T00:00:00Z", 9900, "KRW", "ann"),
    ),
    (
        lambda services, key: adjust.move_time(services, key, time(21, 30), *WHO),
        ("2026-02-28T12:30:00Z", 9900, "KRW", "ann"),
    ),
    (
        lambda services, key: adjust.change_card(services, key, "ann-2", *WHO),
        ("2026-02-28T00:00:00Z", 9900, "KRW", "ann-2"),
    ),
]


@pytest.mark.parametrize(("change", "then"), CHANGES)
def test_a_change_after_the_notice_is_announced_at_once(
    services: Services,
    gateway: ScriptedGateway,
    key: str,
    change: Callable[[Services, str], object],
    then: tuple[Any, ...],
) -> None:
    """The guard: what the last notice said is compared with what will be charged."""
    change(services, key)
    announcements.announce_due(services)
    assert said(services)[1:] == [then]
    gateway.sent.clear()
    move_to(services, datetime.fromisoformat(then[0]))
    collect_due(services)
    (charged,) = gateway.sent
    assert (charged.money, charged.customer_uid) == (Money(then[1], then[2]), then[3])


NEW_CARD = BillingKey("ann", "kcp", "A52LD", "현대카드", "43301234****5678", None, None)
MENDED_CARD = BillingKey("ann", "kcp", "A52LD", "BC카드", "53331234****1234", None, START)


def declined_debt_waits_for_a_card(services: Services, gateway: ScriptedGateway) -> None:
    """A renewal of another plan of the same card is declined as the customer's to mend."""
    on_sale(services, policy=STANDARD, code="daily", cadence=Every(1, Unit.MONTH))
    enrollment.subscribe(services, "ann", "daily", "test")
    gateway.answers.append(Declined("[8311]비밀번호 오류"))
    collect_due(services)


def by_command(services: Services, gateway: ScriptedGateway) -> None:
    """A person says that the card has changed."""
    cards.changed(services, "ann", *WHO)


def by_daily_look(services: Services, gateway: ScriptedGateway) -> None:
    """The daily look at a card that a debt waits for sees it."""
    with services.engine.begin() as db:
        db.execute(text("UPDATE billing_keys SET ask_at = :now"), {"now": services.clock.now()})
    assert cards.look_due(services, "main") == 1


def by_webhook(services: Services, gateway: ScriptedGateway) -> None:
    """A webhook about a payment of the card leads to a look."""
    order = gateway.sent[-1]
    gateway.remember(order, "failed", at=services.clock.now())
    heard(services, order.merchant_uid)


@pytest.mark.parametrize("seen", [by_command, by_daily_look, by_webhook])
def test_another_card_behind_the_billing_key_is_announced(
    services: Services,
    gateway: ScriptedGateway,
    key: str,
    seen: Callable[[Services, ScriptedGateway], None],
) -> None:
    """The guard: the notice names the card, so a card that is replaced under the key is another notice."""
    declined_debt_waits_for_a_card(services, gateway)
    gateway.keys["ann"] = NEW_CARD
    seen(services, gateway)
    for _ in range(2):
        announcements.announce_due(services)
    named = [
        (notice["card_name"], notice["card_number"])
        for notice in payloads(services, "charge.upcoming")
        if notice["subscription"] == key
    ]
    assert named == [("BC카드", "53331234****1234"), ("현대카드", "43301234****5678")]


def test_a_card_that_shows_the_same_is_not_announced_again(
    services: Services, gateway: ScriptedGateway, key: str
) -> None:
    gateway.keys["ann"] = MENDED_CARD
    cards.changed(services, "ann", *WHO)
    announcements.announce_due(services)
    assert len(said(services)) == 1


def test_another_card_announces_no_charge_before_its_time(
    services: Services, gateway: ScriptedGateway, key: str
) -> None:
    """The guard: a notice of a charge that was opened since counts no more."""
    live_until(services, DUE + timedelta(hours=1))
    gateway.keys["ann"] = NEW_CARD
    cards.changed(services, "ann", *WHO)
    announcements.announce_due(services)
    assert len(said(services)) == 1


def test_what_was_changed_and_changed_back_is_announced_each_time(services: Services, key: str) -> None:
    for code in ("large", "monthly", "large"):
        adjust.change_plan(services, key, code, *WHO)
        announcements.announce_due(services)
    assert [notice[1] for notice in said(services)] == [9900, 29900, 9900, 29900]


def test_what_says_the_same_is_announced_once(services: Services, key: str) -> None:
    adjust.change_plan(services, key, "large", *WHO)
    adjust.change_plan(services, key, "monthly", *WHO)
    for _ in range(3):
        announcements.announce_due(services)
    assert len(said(services)) == 1


def skip_and_undo(services: Services, key: str) -> None:
    """Skips the announced period, and takes that back."""
    adjust.skip(services, key, *WHO)
    announcements.announce_due(services)
    assert len(said(services)) == 1
    adjust.undo(services, key, *WHO)


def end_and_undo(services: Services, key: str) -> None:
    """Ends the subscription with its period, and takes that back."""
    enrollment.unsubscribe(services, key, *WHO, at_period_end=True)
    announcements.announce_due(services)
    assert len(said(services)) == 1
    adjust.undo(services, key, *WHO)


def pause_and_resume(services: Services, key: str) -> None:
    """Pauses the subscription, and resumes it."""
    adjust.pause(services, key, *WHO)
    announcements.announce_due(services)
    assert len(said(services)) == 1
    adjust.resume(services, key, *WHO)


@pytest.mark.parametrize("withdraw_and_return", [skip_and_undo, end_and_undo, pause_and_resume])
def test_a_charge_that_comes_after_all_is_announced_again(
    services: Services, key: str, withdraw_and_return: Callable[[Services, str], None]
) -> None:
    """The guard: a notice does not stand once its charge was said not to come."""
    withdraw_and_return(services, key)
    announcements.announce_due(services)
    assert said(services) == [("2026-02-28T00:00:00Z", 9900, "KRW", "ann")] * 2


def test_the_end_of_a_trial_that_moves_is_announced_again(services: Services) -> None:
    on_sale(services, policy=STANDARD, trial_days=14)
    key = subscribed(services)
    move(services, days=12)
    announcements.announce_due(services)
    adjust.move_anchor(services, key, date(2026, 2, 13), *WHO)
    announcements.announce_due(services)
    assert [notice[0][:10] for notice in said(services)] == ["2026-02-14", "2026-02-13"]


def test_a_change_carries_the_next_charge_before_and_after_it(services: Services, key: str) -> None:
    adjust.change_plan(services, key, "dollars", *WHO, other_currency=True)
    adjust.move_time(services, key, time(21, 30), *WHO)
    adjust.skip(services, key, *WHO)
    adjust.change_card(services, key, "ann-2", *WHO)
    names = ("what", "old_due_at", "old_amount", "old_currency", "next_due_at", "amount", "currency")
    changes = [tuple(told[name] for name in names) for told in payloads(services, "subscription.changed")]
    before, later, skipped = "2026-02-28T00:00:00Z", "2026-02-28T12:30:00Z", "2026-03-31T12:30:00Z"
    assert changes == [
        ("plan", before, 9900, "KRW", before, 990, "USD"),
        ("time", before, 990, "USD", later, 990, "USD"),
        ("skip", later, 990, "USD", skipped, 990, "USD"),
        ("card", skipped, 990, "USD", skipped, 990, "USD"),
    ]


def test_the_change_of_an_end_has_no_next_charge_before_it(services: Services, key: str) -> None:
    enrollment.unsubscribe(services, key, *WHO, at_period_end=True)
    adjust.undo(services, key, *WHO)
    (told,) = payloads(services, "subscription.changed")
    assert (told["old_due_at"], told["old_amount"]) == (None, None)
    assert (told["next_due_at"], told["amount"]) == ("2026-02-28T00:00:00Z", 9900)


def test_the_same_notice_has_the_same_id_in_a_restored_database(services: Services, key: str) -> None:
    query = text("SELECT dedupe_key FROM outbox WHERE kind = 'charge.upcoming'")
    with services.engine.begin() as db:
        before = db.execute(query).scalar_one()
        db.execute(text("ALTER TABLE outbox DISABLE TRIGGER USER"))
        db.execute(text("DELETE FROM outbox WHERE kind = 'charge.upcoming'"))
        db.execute(text("ALTER TABLE outbox ENABLE TRIGGER USER"))
        db.execute(text("UPDATE subscriptions SET told_as = NULL, tell_at = '2026-02-25'"))
    announcements.announce_due(services)
    with services.engine.begin() as db:
        assert db.execute(query).scalar_one() == before
