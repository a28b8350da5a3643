"""Typed-in cards: where they are stored, how long they are good, what is read of them, and who buys."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from sqlalchemy import text

from schedules.charges import KeyedIn
from schedules.errors import BadRequest
from schedules.money import Money
from schedules.outcomes import Declined, Unknown
from schedules.requests import ChargeRequest
from tests.doubles import ScriptedGateway
from tests.factories import attempt_rows, charge_rows, collect_due, move, move_to, on_sale, subscribed
from tests.scenarios.living import notices
from worker.gateway.port import BillingKey, Card, ChargeOrder
from worker.workflows import announcing, asking, cards, enrolling, issuing, keying, signing_up
from worker.workflows.issuing import CannotIssue
from worker.workflows.services import Services

CARD = Card("4000000000001091", "2026-04", "900101", "12")  # the clock begins on 2026-01-31
SALE = ChargeRequest(
    customer_uid="ann", money=Money(5000, "KRW"), name="At the desk", request_key="desk-1", reason="bought",
    policy="once",
)  # fmt: skip
ELSEWHERE = BillingKey("ann", "nice", "M2", "BC카드", "40000000****1091", None, None)


@pytest.fixture(autouse=True)
def nothing_stored(gateway: ScriptedGateway) -> None:
    """The gateway stores no card of ann's to begin with."""
    gateway.missing_keys.add("ann")


def key_row(services: Services) -> dict[str, Any]:
    """Ann's billing key."""
    with services.engine.begin() as db:
        return dict(db.execute(text("SELECT * FROM billing_keys WHERE customer_uid = 'ann'")).mappings().one())


def issued_elsewhere(gateway: ScriptedGateway) -> None:
    """The gateway takes its default channel in silence."""
    gateway.key_answers.append(ELSEWHERE)


def with_card_elsewhere(gateway: ScriptedGateway) -> None:
    """The answer is lost, and the key that is read back is on another channel."""
    gateway.key_answers.append(Unknown("ReadTimeout"))


# ── the channel ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_card_that_was_replaced_on_another_channel_is_taken_over_and_said(
    services: Services, gateway: ScriptedGateway
) -> None:
    gateway.missing_keys.clear()
    on_sale(services)
    subscribed(services)
    gateway.answers.append(Declined("[CC10]통장 잔액부족"))
    collect_due(services)
    issued_elsewhere(gateway)
    with pytest.raises(CannotIssue, match=r"is stored, but on channel nice\.M2, not on kcp\.M1"):
        issuing.issue(services, "ann", replace(CARD, pg="kcp.M1"), "kim", "another card")
    row = key_row(services)
    assert (row["pg_provider"], row["pg_id"], row["card_number"]) == ("nice", "M2", "40000000****1091")
    assert row["expires_on"] == date(2026, 4, 30)
    assert "card.changed" in notices(services)
    verbs = [act["verb"] for act in issuing.show(services, "ann")["history"]]
    assert {"card.issue", "card.changed"} <= set(verbs)
    collect_due(services)
    assert charge_rows(services)[0]["status"] == "paid"


@pytest.mark.parametrize("answers", [issued_elsewhere, with_card_elsewhere])
def test_a_new_card_on_another_channel_is_known_here(
    services: Services, gateway: ScriptedGateway, answers: Callable[[ScriptedGateway], None]
) -> None:
    answers(gateway)
    with pytest.raises(CannotIssue, match="is stored, but on channel"):
        issuing.issue(services, "ann", replace(CARD, pg="welcome.M1"), "kim", "at the desk")
    row = key_row(services)
    assert (row["deleted_at"], row["card_number"]) == (None, "40000000****1091")


# ── the expiry ────────────────────────────────────────────────────────────────────────────────────────────────

TYPED: list[Callable[[Services, Card], object]] = [
    lambda services, card: issuing.issue(services, "ann", card, "kim", "at the desk"),
    lambda services, card: keying.pay(services, SALE, card, "kim", KeyedIn.ONCE),
    lambda services, card: keying.pay(services, SALE, card, "kim", KeyedIn.KEEP),
    lambda services, card: signing_up.sign_up(services, "ann", "monthly", card, "kim", "at the desk"),
]


@pytest.mark.parametrize("typed", TYPED, ids=["issue", "pay", "pay and keep", "sign up"])
def test_a_card_that_has_expired_is_refused_before_any_call(
    services: Services, gateway: ScriptedGateway, typed: Callable[[Services, Card], object]
) -> None:
    on_sale(services)
    with pytest.raises(BadRequest, match="expired at the end of 2025-12"):
        typed(services, replace(CARD, expiry="2025-12"))
    assert (gateway.sent, gateway.keys, charge_rows(services)) == ([], {}, [])


def test_a_card_is_good_to_the_end_of_its_last_day(services: Services) -> None:
    move_to(services, datetime(2026, 4, 30, 14, tzinfo=UTC))  # 23:00 in Seoul on its last day
    TYPED[0](services, CARD)
    move_to(services, datetime(2026, 4, 30, 15, tzinfo=UTC))
    with pytest.raises(BadRequest, match="expired"):
        TYPED[0](services, CARD)


@pytest.mark.parametrize("typed", [TYPED[0], TYPED[2], TYPED[3]], ids=["issue", "pay and keep", "sign up"])
def test_the_expiry_of_a_stored_card_is_kept_and_announced(
    services: Services, typed: Callable[[Services, Card], object]
) -> None:
    on_sale(services)
    typed(services, CARD)
    assert key_row(services)["expires_on"] == date(2026, 4, 30)
    move_to(services, datetime(2026, 3, 31, 2, tzinfo=UTC))
    announcing.announce_due(services)
    assert "card.expiring" not in notices(services)
    move_to(services, datetime(2026, 3, 31, 4, tzinfo=UTC))
    announcing.announce_due(services)
    assert notices(services).count("card.expiring") == 1


def test_the_expiry_of_a_card_that_is_not_stored_is_not_kept(services: Services, gateway: ScriptedGateway) -> None:
    keying.pay(services, SALE, CARD, "kim", KeyedIn.ONCE)
    assert key_row(services)["expires_on"] is None
    gateway.answers.append(Declined("[CC10]통장 잔액부족"))
    keying.pay(services, replace(SALE, request_key="desk-2"), CARD, "kim", KeyedIn.KEEP)
    row = key_row(services)
    assert (row["expires_on"], row["tell_expiry_at"]) == (None, None)


def test_another_card_takes_the_expiry_of_the_one_before_away(
    services: Services, gateway: ScriptedGateway
) -> None:
    issuing.issue(services, "ann", CARD, "kim", "at the desk")
    cards.changed(services, "ann", "webhook", None, believed=False)
    assert key_row(services)["expires_on"] == date(2026, 4, 30)
    gateway.keys["ann"] = replace(ELSEWHERE, card_number="51110000****7777")
    cards.changed(services, "ann", "webhook", None, believed=False)
    row = key_row(services)
    assert (row["expires_on"], row["tell_expiry_at"]) == (None, None)


# ── a lost answer ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_facts_of_a_card_whose_payment_was_found_later_are_read(
    services: Services, gateway: ScriptedGateway
) -> None:
    def arrive_and_lose(order: ChargeOrder) -> Unknown:
        gateway.approve(order)
        gateway.missing_keys.discard("ann")
        return Unknown("ReadTimeout")

    gateway.answers.append(arrive_and_lose)
    keying.pay(services, SALE, CARD, "kim", KeyedIn.KEEP)
    move(services, seconds=11)
    asking.ask(services, attempt_rows(services)[0]["id"])
    row = key_row(services)
    assert (row["deleted_at"], row["card_number"], row["expires_on"]) == (None, None, date(2026, 4, 30))
    assert cards.look_due(services) == 0
    move(services, minutes=1)
    cards.look_due(services)
    row = key_row(services)
    assert (row["card_number"], row["pg_provider"], row["ask_at"]) == ("53331234****1234", "kcp", None)
    assert row["expires_on"] == date(2026, 4, 30)


# ── who buys ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_known_of_the_customer_goes_with_every_charge(
    services: Services, gateway: ScriptedGateway
) -> None:
    on_sale(services)
    enrolling.add_customer(services, "bob", "김밥", "bob@example.com", "01012345678", "kim")
    enrolling.subscribe(services, "bob", "monthly", "kim")
    gateway.answers.append(Declined("[CC10]통장 잔액부족"))
    collect_due(services)
    move(services, days=1)
    collect_due(services)
    holder = keying.Holder(name="앤", email="ann@example.com")
    keying.pay(services, SALE, CARD, "kim", KeyedIn.ONCE, holder)
    sent = [(order.buyer_name, order.buyer_email, order.buyer_tel) for order in gateway.sent]
    bob = ("김밥", "bob@example.com", "01012345678")
    assert sent == [bob, bob, ("앤", "ann@example.com", None)]
    assert "김밥" not in repr(gateway.sent)
    assert "example.com" not in repr(gateway.sent)
