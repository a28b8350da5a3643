"""A card that is changed while a call is under way: the debt follows its subscription's card."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from schedules.charging.charges import ChargeStatus
from schedules.charging.outcomes import Declined, NotSent, Outcome, Refused, Unknown, Voided
from schedules.dunning.policies import CardCap
from tests.doubles import ScriptedGateway
from tests.factories import LADDER, START, blocked_or_over, charge_rows, collect_due, move, on_sale, subscribed
from tests.scenarios.living import live_until
from worker.charging import attempt_charge
from worker.charging.claim import Claimed
from worker.charging.close import close
from worker.customers import adjust, cards, enrollment
from worker.gateway.port import BillingKey, ChargeOrder
from worker.renewals import open_charges
from worker.services import Joined, Services
from worker.store.charging.charges import Obstacle

WHO = ("kim", "he asked for it")
NO_MONEY = Declined("[CC10]통장 잔액부족")
SOON = START + timedelta(hours=12)


def with_second_card(services: Services, **changes: Any) -> str:
    """Ann on the monthly plan, with another card that nothing is charged to; answers the subscription's key."""
    on_sale(services, **changes)
    key = subscribed(services)
    enrollment.add_customer(services, "ann-2", None, None, None, "test", of="ann")
    return key


@pytest.mark.parametrize(
    "answer",
    [NO_MONEY, Refused("no such key"), Voided("taken back"), NotSent("no route")],
    ids=lambda a: type(a).__name__,
)
def test_a_card_changed_during_the_call_is_tried_at_once_when_the_old_one_does_not_pay(
    services: Services, gateway: ScriptedGateway, answer: Outcome
) -> None:
    """The guard: the debt moves when the attempt is answered, in settling."""
    key = with_second_card(services)

    def change_meanwhile(_: ChargeOrder) -> Outcome:
        assert list(adjust.change_card(services, key, "ann-2", *WHO).counts.values()) == [0, 0, 1, 0]
        return answer

    gateway.answers.append(change_meanwhile)
    live_until(services, START + timedelta(minutes=2))
    assert [order.customer_uid for order in gateway.sent] == ["ann", "ann-2"]
    (charge,) = charge_rows(services)
    assert (charge["status"], charge["declines"]) == ("paid", 0)


def test_a_card_changed_while_the_outcome_is_unknown_pays_when_that_is_a_decline(
    services: Services, gateway: ScriptedGateway
) -> None:
    key = with_second_card(services)

    def lost(order: ChargeOrder) -> Outcome:
        gateway.remember(order, "failed", at=services.clock.now())
        return Unknown("ReadTimeout")

    gateway.answers.append(lost)
    collect_due(services)
    assert list(adjust.change_card(services, key, "ann-2", *WHO).counts.values()) == [0, 0, 1, 0]
    live_until(services, SOON)
    assert [order.customer_uid for order in gateway.sent] == ["ann", "ann-2"]
    assert [row["status"] for row in charge_rows(services)] == ["paid"]


def test_what_the_old_card_paid_after_all_is_not_charged_to_the_new_one(
    services: Services, gateway: ScriptedGateway
) -> None:
    key = with_second_card(services)

    def lost(order: ChargeOrder) -> Outcome:
        gateway.remember(order, "paid", at=services.clock.now())
        return Unknown("ReadTimeout")

    gateway.answers.append(lost)
    collect_due(services)
    adjust.change_card(services, key, "ann-2", *WHO)
    live_until(services, SOON)
    assert [order.customer_uid for order in gateway.sent] == ["ann"]
    assert [row["status"] for row in charge_rows(services)] == ["paid"]


def test_a_claim_that_was_held_back_moves_too(services: Services, gateway: ScriptedGateway) -> None:
    """The guard: held back before it was sent, nothing is settled, and the debt must move all the same."""
    key = with_second_card(services)
    open_charges.open_due(services)
    claimed = attempt_charge.claim(services, charge_rows(services)[0]["id"])
    assert claimed is not None
    adjust.change_card(services, key, "ann-2", *WHO)
    attempt_charge.hold_back(services, claimed, Obstacle("no slot"))
    live_until(services, SOON)
    assert [order.customer_uid for order in gateway.sent] == ["ann-2"]


@contextmanager
def card_change_being_written(services: Services, key: str) -> Iterator[None]:
    """A change of card that is committed at the end of the block."""
    with ExitStack() as stack:
        joined = Joined(services.engine, lambda _: None, stack, "change-card")
        adjust.change_card(replace(services, joined=joined), key, "ann-2", *WHO)
        yield


Answered = Callable[[Services, Claimed], object]


def answered(outcome: Outcome) -> Answered:
    """The answer of a call is written."""
    return lambda services, claimed: attempt_charge.settle_call(services, claimed, outcome)


def held_back(services: Services, claimed: Claimed) -> object:
    """A claim is given back."""
    return attempt_charge.hold_back(services, claimed, Obstacle("no slot"))


@pytest.mark.parametrize(
    "answer",
    [answered(NO_MONEY), answered(Refused("no such key")), answered(Voided("taken back")),
     answered(NotSent("no route")), held_back],
    ids=["Declined", "Refused", "Voided", "NotSent", "held back"],
)  # fmt: skip
def test_a_card_change_that_is_being_written_is_seen_by_the_answer(
    services: Services, gateway: ScriptedGateway, answer: Answered
) -> None:
    """Guard: the subscription is locked before its charge, so that the answer sees the new card."""
    key = with_second_card(services)
    open_charges.open_due(services)
    claimed = attempt_charge.claim(services, charge_rows(services)[0]["id"])
    assert claimed is not None
    with ThreadPoolExecutor(1) as pool:
        with card_change_being_written(services, key):
            writing = pool.submit(answer, services, claimed)
            assert blocked_or_over(services, writing.done)
        writing.result(30)
    live_until(services, SOON)
    assert [order.customer_uid for order in gateway.sent] == ["ann-2"]


def test_the_declines_of_the_old_card_do_not_count_for_the_cap_of_the_new_one(
    services: Services, gateway: ScriptedGateway
) -> None:
    """The guard: else a debt that has used up its card's cap waits for weeks with a card that pays."""
    key = with_second_card(services, policy=replace(LADDER, cap=CardCap(1, timedelta(days=30))))
    gateway.answers.append(NO_MONEY)
    collect_due(services)
    move(services, hours=1)
    assert list(adjust.change_card(services, key, "ann-2", *WHO).counts.values()) == [1, 0, 0, 0]
    collect_due(services)
    assert [row["status"] for row in charge_rows(services)] == ["paid"]


def test_a_new_card_does_not_inherit_the_answers_that_said_nothing_of_the_old_one(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Guard: else the first such answer of the new card counts as its third."""
    key = with_second_card(services)
    gateway.answers.append(NO_MONEY)
    collect_due(services)
    with services.engine.begin() as db:
        db.execute(text("UPDATE charges SET unanswered_tries = 2"))
    adjust.change_card(services, key, "ann-2", *WHO)
    assert charge_rows(services)[0]["unanswered_tries"] == 0


def test_a_debt_of_another_account_stays_with_its_card(services: Services, gateway: ScriptedGateway) -> None:
    key = with_second_card(services)
    with services.engine.begin() as db:
        db.execute(text("UPDATE billing_keys SET account = 'other' WHERE customer_uid = 'ann-2'"))
    gateway.answers.extend([NO_MONEY, NO_MONEY])
    collect_due(services)
    assert list(adjust.change_card(services, key, "ann-2", *WHO).counts.values()) == [0, 0, 0, 1]
    live_until(services, START + timedelta(days=2))
    assert [order.customer_uid for order in gateway.sent] == ["ann", "ann"]


Change = Callable[[Services, str], object]


def by_new_card(services: Services, key: str) -> object:
    return adjust.change_card(services, key, "ann-2", *WHO)


def by_same_key(services: Services, _: str) -> object:
    return cards.changed(services, "ann", "kim", "a new card")


@pytest.mark.parametrize("change", [by_new_card, by_same_key])
@pytest.mark.parametrize("is_under_way", [False, True])
def test_a_new_card_does_not_collect_what_was_declined_before_a_customer_left(
    services: Services, gateway: ScriptedGateway, change: Change, is_under_way: bool
) -> None:
    """The guard: one rule for every way in which a card changes; a person may try the debt."""
    key = with_second_card(services)

    def decline(order: ChargeOrder) -> Outcome:
        gateway.remember(order, "failed", at=services.clock.now())
        return Unknown("ReadTimeout") if is_under_way else NO_MONEY

    gateway.answers.append(decline)
    collect_due(services)
    move(services, hours=1)
    enrollment.unsubscribe(services, key, *WHO, at_period_end=True)
    gateway.keys["ann"] = BillingKey("ann", "kcp", "A52LD", "BC카드", "53331234****9999", None, None)
    change(services, key)
    live_until(services, START + timedelta(days=2))
    assert len(gateway.sent) == 1
    (charge,) = charge_rows(services)
    assert (charge["status"], charge["waits"]) == ("past_due", "card")


@pytest.mark.parametrize("change", [by_new_card, by_same_key])
def test_a_debt_that_ends_while_a_change_of_card_waits_for_it_is_left_as_it_is(
    services: Services, gateway: ScriptedGateway, change: Change
) -> None:
    """Guard: its payment is being written; the change of card must not fail for it, nor try or move it."""
    key = with_second_card(services)
    open_charges.open_due(services)
    (before,) = charge_rows(services)
    gateway.keys["ann"] = BillingKey("ann", "kcp", "A52LD", "BC카드", "53331234****9999", None, None)
    with ThreadPoolExecutor(1) as thread:
        with services.engine.begin() as db:
            close(db, before["id"], ChargeStatus.PAID, None, services.clock.now())
            changing = thread.submit(change, services, key)
            assert blocked_or_over(services, changing.done)
        changing.result(20)
    (after,) = charge_rows(services)
    assert (after["status"], after["next_attempt_at"]) == (ChargeStatus.PAID, None)
    assert after["billing_key_id"] == before["billing_key_id"]
