"""`again show`: what was so then, from what each act recorded; a later change rewrites no entry."""

from collections.abc import Callable
from dataclasses import replace
from datetime import time, timedelta
from typing import Any

import pytest
from sqlalchemy import event, text

from schedules.charging.outcomes import Declined
from schedules.money.amounts import Money
from tests.doubles import ScriptedGateway
from tests.factories import MONTHLY, charge_rows, collect_due, move, on_sale, subscribed
from worker.customers import adjust, cards, enrollment
from worker.operations import operate
from worker.reporting import history
from worker.reporting.happenings import Happening
from worker.services import Services
from worker.store.reporting.stories import Page


def entries(services: Services, key: str, what: str) -> list[Happening]:
    return [entry for entry in history.show(services, key).happenings if entry.what == what]


def test_the_first_entry_has_the_version_that_was_subscribed_to(services: Services) -> None:
    """Guard: the history shows the version that was subscribed to, not the present one."""
    on_sale(services)
    key = subscribed(services)
    collect_due(services)
    move(services, days=1)
    on_sale(services, replace(MONTHLY, price=Money(12900, "KRW")))
    adjust.change_plan(services, key, "monthly", "kim", "wants more")
    (began,) = entries(services, key, "subscribed")
    assert (began.details["plan"], began.details["price"]) == ("monthly/1", "9,900 KRW")
    (changed,) = entries(services, key, "change-plan")
    assert "monthly/1 -> monthly/2, price 9,900 KRW -> 12,900 KRW, by kim: wants more" in changed.words
    move(services, days=40)
    collect_due(services)
    opened = entries(services, key, "opened")
    assert [(entry.details["plan"], entry.details["amount"]) for entry in opened] == [
        ("monthly/1", 9900), ("monthly/2", 12900),
    ]  # fmt: skip


def test_an_answer_has_its_class_and_the_card_of_that_time(services: Services, gateway: ScriptedGateway) -> None:
    """Guard: an attempt is shown with its own card, not with a later one."""
    on_sale(services)
    key = subscribed(services)
    with services.engine.begin() as db:
        db.execute(text("UPDATE billing_keys SET card_name = 'Shinhan', card_number = '536510******1234'"))
    gateway.answers.append(Declined("[CC10]통장 잔액부족", "kcp"))
    collect_due(services)
    (declined,) = entries(services, key, "declined")
    assert declined.details["card"] == "Shinhan *1234"
    assert (declined.details["decline_class"], "[CC10]통장 잔액부족 (money_short)" in declined.words) == (
        "money_short", True,
    )  # fmt: skip
    move(services, days=1)
    cards.changed(services, "ann", "kim", "a new card")
    (changed,) = entries(services, key, "card.changed")
    assert "536510" not in str(changed)
    assert entries(services, key, "declined") == [declined]


def test_events_say_when_they_were_written_and_delivered(services: Services) -> None:
    on_sale(services)
    key = subscribed(services)
    collect_due(services)
    move(services, minutes=2)
    with services.engine.begin() as db:
        db.execute(text("UPDATE outbox SET next_try_at = NULL, delivered_at = :at, tries = 2"),
                   {"at": services.clock.now()})  # fmt: skip
    (paid,) = entries(services, key, "charge.paid")
    assert "9,900 KRW" in paid.words
    delivered = [entry for entry in entries(services, key, "delivered") if entry.details["kind"] == "charge.paid"]
    assert [(entry.at - paid.at, entry.details["tries"]) for entry in delivered] == [(timedelta(minutes=2), 2)]


def test_each_act_says_from_what_to_what_by_whom_and_why(services: Services) -> None:
    on_sale(services)
    key = subscribed(services)
    collect_due(services)
    for change in ("time", "anchor", "skip", "undo skip", "pause", "resume", "card", "end", "undo end"):
        move(services, hours=1)
        CHANGES[change](services, key)
    told = {entry.what: entry.words for entry in history.show(services, key).happenings if entry.actor}
    assert told["move-time"] == "the plan's time -> 11:00:00, by kim: x"
    assert told["move-anchor"] == "2026-01-31 -> 2026-02-09, by kim: x"
    assert told["skip"] == "due 2026-02-09 02:00Z, period 1, by kim: x"
    assert told["pause"] == "due 2026-02-09 02:00Z, period 1, by kim: x"
    assert told["resume"] == "not charged 0, by kim: x"
    assert told["change-card"].startswith("ann -> ann-2, ")
    assert told["unsubscribe.at_period_end"].startswith("ends 2026-02-09 02:00Z, ")
    assert told["undo"] == "was 2026-02-09 02:00Z, tried 0, undone end, by kim: x"


def change_plan(services: Services, key: str) -> None:
    version = len(entries(services, key, "change-plan")) + 2
    on_sale(services, replace(MONTHLY, price=Money(10_000 + version, "KRW")))
    adjust.change_plan(services, key, "monthly", "kim", "x")


def change_card(services: Services, key: str) -> None:
    uid = f"ann-{len(entries(services, key, 'change-card')) + 2}"
    enrollment.add_customer(services, uid, None, None, None, "kim", of="ann")
    adjust.change_card(services, key, uid, "kim", "x")


def decline(services: Services, key: str) -> None:
    gateway = services.gateway("main")
    assert isinstance(gateway, ScriptedGateway)
    move(services, days=31)
    gateway.answers.append(Declined("[CC10]통장 잔액부족", "kcp"))
    collect_due(services)


def pay(services: Services, key: str) -> None:
    move(services, days=33)
    collect_due(services)


def waive(services: Services, key: str) -> None:
    charge = charge_rows(services)[0]["key"]
    if any(row["key"] == charge and row["closed_at"] is None for row in charge_rows(services)):
        operate.waive(services, charge, "kim", "x")


CHANGES: dict[str, Callable[[Services, str], Any]] = {
    "plan": change_plan,
    "card": change_card,
    "same card changed": lambda services, key: cards.changed(services, "ann", "kim", "x"),
    "time": lambda services, key: adjust.move_time(services, key, time(11), "kim", "x"),
    "anchor": lambda services, key: adjust.move_anchor(
        services, key, services.clock.now().date() + timedelta(days=9), "kim", "x"
    ),
    "skip": lambda services, key: adjust.skip(services, key, "kim", "x"),
    "undo skip": lambda services, key: adjust.undo(services, key, "kim", "x"),
    "pause": lambda services, key: adjust.pause(services, key, "kim", "x"),
    "time during the pause": lambda services, key: move(services, days=35),
    "resume": lambda services, key: adjust.resume(services, key, "kim", "x"),
    "decline": decline,
    "waive": waive,
    "pay": pay,
    "end": lambda services, key: enrollment.unsubscribe(services, key, "kim", "x", at_period_end=True),
    "undo end": lambda services, key: adjust.undo(services, key, "kim", "x"),
    "end now": lambda services, key: enrollment.unsubscribe(services, key, "kim", "x", at_period_end=False),
}
ORDERS = (
    tuple(CHANGES),
    ("card", "plan", "card", "decline", "card", "plan", "pay", "plan", "card", "same card changed", "end now"),
    ("decline", "same card changed", "pause", "card", "resume", "anchor", "plan", "pay", "time", "pay", "end"),
)


@pytest.mark.parametrize("order", ORDERS, ids=["each once", "cards and plans", "declined first"])
def test_a_later_change_rewrites_no_entry(services: Services, order: tuple[str, ...]) -> None:
    """Guard: an entry is made of what was recorded at its time; the entries before a change are a prefix."""
    on_sale(services)
    key = subscribed(services)
    collect_due(services)
    before = history.show(services, key).happenings
    for change in order:
        move(services, hours=1)
        CHANGES[change](services, key)
        after = history.show(services, key).happenings
        assert after[: len(before)] == before, change
        before = after


def _statements(services: Services, key: str) -> int:
    seen: list[str] = []

    def count(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        seen.append(statement)

    event.listen(services.engine, "before_cursor_execute", count)
    try:
        history.show(services, key)
    finally:
        event.remove(services.engine, "before_cursor_execute", count)
    return len(seen)


def test_many_charges_take_no_more_statements_than_one(services: Services) -> None:
    """Guard: a story of ten years is no thousand statements."""
    on_sale(services)
    key = subscribed(services)
    collect_due(services)
    one = _statements(services, key)
    for _ in range(23):
        pay(services, key)
    assert len(history.show(services, key).parts) >= 23
    assert _statements(services, key) == one


def test_a_page_has_the_newest_entries_and_the_pages_are_the_whole(services: Services) -> None:
    on_sale(services)
    key = subscribed(services)
    collect_due(services)
    for change in ("decline", "plan", "pay", "pay"):
        move(services, hours=1)
        CHANGES[change](services, key)
    whole = history.show(services, key)
    assert not whole.has_older
    for limit in (5, 8):
        page = history.show(services, key, page=Page(None, limit))
        assert page.has_older
        assert page.happenings == whole.happenings[-limit:]
        first = page.happenings[0].at
        older = history.show(services, key, page=Page(first)).happenings
        assert older == [entry for entry in whole.happenings if entry.at < first]
