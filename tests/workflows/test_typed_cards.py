"""Typed-in cards: where they are stored, how long they are good, what is read of them, and who buys."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from sqlalchemy import text

from schedules.charging.charges import KeyedIn
from schedules.charging.outcomes import Declined, Refused, Unknown
from schedules.errors import BadRequest
from schedules.money.amounts import Money
from schedules.requests.adhoc import ChargeRequest
from tests.doubles import ScriptedGateway
from tests.factories import attempt_rows, charge_rows, collect_due, move, move_to, on_sale, subscribed
from tests.scenarios.living import notices
from worker.charging import resolve_unknown
from worker.customers import card_entry, cards, enrollment, issued_keys, signup
from worker.customers.issued_keys import CannotIssue
from worker.gateway.port import BillingKey, Card, ChargeOrder, KeyAnswer
from worker.outbox import announcements
from worker.services import Services

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
        issued_keys.issue(services, "ann", replace(CARD, channel="kcp.M1"), "kim", "another card")
    row = key_row(services)
    assert (row["pg_provider"], row["pg_id"], row["card_number"]) == ("nice", "M2", "40000000****1091")
    assert row["expires_on"] == date(2026, 4, 30)
    assert "card.changed" in notices(services)
    verbs = [act.verb for act in issued_keys.show(services, "ann").history]
    assert {"card.issue", "card.changed"} <= set(verbs)
    collect_due(services)
    assert charge_rows(services)[0]["status"] == "paid"


@pytest.mark.parametrize("answers", [issued_elsewhere, with_card_elsewhere])
def test_a_new_card_on_another_channel_is_known_here(
    services: Services, gateway: ScriptedGateway, answers: Callable[[ScriptedGateway], None]
) -> None:
    answers(gateway)
    with pytest.raises(CannotIssue, match="is stored, but on channel"):
        issued_keys.issue(services, "ann", replace(CARD, channel="welcome.M1"), "kim", "at the desk")
    row = key_row(services)
    assert (row["deleted_at"], row["card_number"]) == (None, "40000000****1091")


# ── the expiry ────────────────────────────────────────────────────────────────────────────────────────────────

TYPED: list[Callable[[Services, Card], object]] = [
    lambda services, card: issued_keys.issue(services, "ann", card, "kim", "at the desk"),
    lambda services, card: card_entry.pay(services, SALE, card, "kim", KeyedIn.ONCE),
    lambda services, card: card_entry.pay(services, SALE, card, "kim", KeyedIn.KEEP),
    lambda services, card: signup.sign_up(services, "ann", "monthly", card, "kim", "at the desk"),
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
    announcements.announce_due(services)
    assert "card.expiring" not in notices(services)
    move_to(services, datetime(2026, 3, 31, 4, tzinfo=UTC))
    announcements.announce_due(services)
    assert notices(services).count("card.expiring") == 1


def test_the_expiry_of_a_card_that_is_not_stored_is_not_kept(services: Services, gateway: ScriptedGateway) -> None:
    card_entry.pay(services, SALE, CARD, "kim", KeyedIn.ONCE)
    assert key_row(services)["expires_on"] is None
    gateway.answers.append(Declined("[CC10]통장 잔액부족"))
    card_entry.pay(services, replace(SALE, request_key="desk-2"), CARD, "kim", KeyedIn.KEEP)
    row = key_row(services)
    assert (row["expires_on"], row["tell_expiry_at"]) == (None, None)


def test_another_card_takes_the_expiry_of_the_one_before_away(
    services: Services, gateway: ScriptedGateway
) -> None:
    issued_keys.issue(services, "ann", CARD, "kim", "at the desk")
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
    card_entry.pay(services, SALE, CARD, "kim", KeyedIn.KEEP)
    move(services, seconds=11)
    resolve_unknown.ask(services, attempt_rows(services)[0]["id"])
    row = key_row(services)
    assert (row["deleted_at"], row["card_number"], row["expires_on"]) == (None, None, date(2026, 4, 30))
    assert cards.look_due(services, "main") == 0
    move(services, minutes=1)
    cards.look_due(services, "main")
    row = key_row(services)
    assert (row["card_number"], row["pg_provider"], row["ask_at"]) == ("53331234****1234", "kcp", None)
    assert row["expires_on"] == date(2026, 4, 30)


# ── who buys ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_known_of_the_customer_goes_with_every_charge(
    services: Services, gateway: ScriptedGateway
) -> None:
    on_sale(services)
    enrollment.add_customer(services, "bob", "김밥", "bob@example.com", "01012345678", "kim")
    enrollment.subscribe(services, "bob", "monthly", "kim")
    gateway.answers.append(Declined("[CC10]통장 잔액부족"))
    collect_due(services)
    move(services, days=1)
    collect_due(services)
    holder = card_entry.Holder(name="앤", email="ann@example.com")
    card_entry.pay(services, SALE, CARD, "kim", KeyedIn.ONCE, holder)
    sent = [(order.buyer_name, order.buyer_email, order.buyer_tel) for order in gateway.sent]
    bob = ("김밥", "bob@example.com", "01012345678")
    assert sent == [bob, bob, ("앤", "ann@example.com", None)]
    assert "김밥" not in repr(gateway.sent)
    assert "example.com" not in repr(gateway.sent)


# ── an answer that was lost ───────────────────────────────────────────────────────────────────────────────────


class Lost(ScriptedGateway):
    """Loses the answer to an issue, and does not answer when the key is read back."""

    def __init__(self, *, stores: bool) -> None:
        super().__init__()
        self.stores = stores
        self.answers_reads = False
        self.reads = 0

    def issue_key(self, customer_uid: str, card: Card) -> KeyAnswer:
        if self.stores:
            super().issue_key(customer_uid, card)
        return Unknown("ReadTimeout")

    def read_key(self, customer_uid: str) -> KeyAnswer:
        self.reads += 1
        return super().read_key(customer_uid) if self.answers_reads else Unknown("ConnectError")


def issued_in_doubt(services: Services, *, stores: bool) -> tuple[Services, Lost]:
    """A card whose issue was not answered, nor the reading back."""
    gateway = Lost(stores=stores)
    gateway.missing_keys.add("ann")
    made = replace(services, gateways={"main": gateway})
    with pytest.raises(CannotIssue, match="the gateway is asked until it is"):
        issued_keys.issue(made, "ann", CARD, "kim", "at the desk")
    return made, gateway


def test_a_card_whose_issue_and_reading_back_were_not_answered_is_asked_about_until_it_is_known(
    services: Services,
) -> None:
    """Guard: the key has a next ask, whatever became of the process."""
    made, gateway = issued_in_doubt(services, stores=True)
    assert key_row(made)["deleted_at"] is not None, "nothing is charged to it before"
    move(made, minutes=1)
    cards.look_due(made, "main")
    assert key_row(made)["ask_at"] > made.clock.now()
    gateway.answers_reads = True
    move(made, minutes=10)
    cards.look_due(made, "main")
    row = key_row(made)
    assert (row["deleted_at"], row["unclear_since"], row["card_number"]) == (None, None, "40000000****1091")
    on_sale(made)
    enrollment.subscribe(made, "ann", "monthly", "kim")
    collect_due(made)
    assert charge_rows(made)[0]["status"] == "paid"


def test_a_card_that_was_not_stored_is_asked_about_until_the_quiet_time_is_over(services: Services) -> None:
    """The gateway may show it late."""
    made, gateway = issued_in_doubt(services, stores=False)
    gateway.answers_reads = True
    for _ in range(4):
        move(made, minutes=10)
        cards.look_due(made, "main")
    row = key_row(made)
    assert (row["unclear_since"], row["deleted_at"] is None) == (None, False)
    reads = gateway.reads
    move(made, days=2)
    cards.look_due(made, "main")
    cards.look_due(made, "main")
    assert gateway.reads == reads


def test_a_known_card_that_was_replaced_in_doubt_is_found_and_its_debts_are_tried_with_it(
    services: Services, gateway: ScriptedGateway
) -> None:
    gateway.missing_keys.clear()
    on_sale(services)
    subscribed(services)
    gateway.answers.append(Declined("분실 카드"))
    collect_due(services)
    made, lost = issued_in_doubt(services, stores=True)
    assert key_row(made)["deleted_at"] is None
    lost.answers_reads = True
    move(made, minutes=1)
    cards.look_due(made, "main")
    collect_due(made)
    assert charge_rows(made)[0]["status"] == "paid"
    assert key_row(made)["unclear_since"] is None


def test_the_process_that_issues_a_card_may_die_before_the_answer(services: Services) -> None:
    """Guard: that the key must be asked about is written before the call."""

    class Dies(Lost):
        def issue_key(self, customer_uid: str, card: Card) -> KeyAnswer:
            super().issue_key(customer_uid, card)
            raise KeyboardInterrupt

    gateway = Dies(stores=True)
    gateway.missing_keys.add("ann")
    gateway.answers_reads = True
    made = replace(services, gateways={"main": gateway})
    with pytest.raises(KeyboardInterrupt):
        issued_keys.issue(made, "ann", CARD, "kim", "at the desk")
    move(made, minutes=1)
    cards.look_due(made, "main")
    assert key_row(made)["card_number"] == "40000000****1091"


def test_a_refused_card_is_not_asked_about(services: Services, gateway: ScriptedGateway) -> None:
    gateway.key_answers.append(Refused("no such channel"))
    with pytest.raises(CannotIssue, match="the card is not stored: no such channel"):
        issued_keys.issue(services, "ann", CARD, "kim", "at the desk")
    row = key_row(services)
    assert (row["unclear_since"], row["deleted_at"] is None) == (None, False)


def test_a_refusal_leaves_an_earlier_issue_in_doubt(services: Services) -> None:
    """Guard: the answer to a second card does not end the asking about the first."""
    made, gateway = issued_in_doubt(services, stores=True)
    in_doubt_since = key_row(made)["unclear_since"]
    move(made, seconds=20)
    refusing = ScriptedGateway()
    refusing.key_answers.append(Refused("no such channel"))
    with pytest.raises(CannotIssue, match="the card is not stored: no such channel"):
        issued_keys.issue(replace(services, gateways={"main": refusing}), "ann", CARD, "kim", "once more")
    assert key_row(made)["unclear_since"] == in_doubt_since
    gateway.answers_reads = True
    move(made, minutes=1)
    cards.look_due(made, "main")
    row = key_row(made)
    assert (row["deleted_at"], row["unclear_since"], row["card_number"]) == (None, None, "40000000****1091")
