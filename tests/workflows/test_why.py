"""`again why`: what it says will be tried at a time is tried then, and what it says will not be tried is not."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from schedules.charging.outcomes import Declined, NotSent, Unknown
from schedules.charging.reasons import Check, Reason
from schedules.dunning.declines import DeclineClass
from schedules.dunning.policies import Way
from schedules.errors import Code
from tests.doubles import ScriptedGateway
from tests.factories import (
    LADDER,
    charge_rows,
    collect,
    collect_due,
    move,
    move_to,
    on_sale,
    opened,
    subscribed,
    write,
)
from tests.model.postgres import PostgresBooks
from tests.workflows.test_claiming import KINDS, arrange, shop_of
from worker.charging import attempt_charge
from worker.charging.claim import Claimed, claim_many
from worker.cli.charging.charge import code_at_rest
from worker.customers import adjust, cards, enrollment
from worker.operations import operate
from worker.reporting import explain, history
from worker.reporting.explain import Why
from worker.reporting.history import NothingToShow
from worker.services import Services
from worker.store.charging.charges import Obstacle

DECLINE = Declined("[CC10]통장 잔액부족", "kcp")
NEVER = Declined("[8030]해지카드", "kcp")


def _key(services: Services, charge_id: int) -> str:
    return next(str(row["key"]) for row in charge_rows(services) if row["id"] == charge_id)


def _why(services: Services, key: str) -> Why:
    (found,) = explain.why(services, key)
    return found


def test_what_it_says_of_any_charge_is_what_a_claim_does(services: Services, gateway: ScriptedGateway) -> None:
    """Guard: the rule of a claim decides what is said."""
    shop, ids = shop_of(services, gateway)
    books = PostgresBooks(shop)
    empty = books.backup()
    began = shop.clock.now()
    said = set[Reason]()
    for kind in KINDS:
        for place in (3, -1):  # a renewal, and a charge without a plan
            books.restore(empty)
            move_to(shop, began)
            with shop.engine.begin() as db:
                arrange(db, ids, [(place % len(ids), kind)])
            found = _why(shop, _key(shop, ids[place]))
            said.add(found.reason)
            waits = found.at is not None and found.at > began
            for at in [began, found.at] if waits and found.at is not None else [began]:
                move_to(shop, at)
                (answer,) = claim_many(shop, [ids[place]], waits=True)
                assert isinstance(answer, Claimed) is (at == found.at), (kind, place, found, answer)
    assert said >= {
        Reason.DUE, Reason.SCHEDULED, Reason.CLOSED, Reason.HELD, Reason.UNDER_WAY, Reason.STOPPED,
        Reason.NOT_HERE, Reason.TO_BE_HELD, Reason.LOOK_UP, Reason.OLDER_DEBT, Reason.CARD_STOPPED,
        Reason.CARD_CAP,
    }  # fmt: skip


def test_a_charge_that_is_paid_says_so_with_the_payment(services: Services) -> None:
    charge_id = opened(services)
    collect(services, charge_id)
    found = _why(services, _key(services, charge_id))
    assert (found.reason, found.at) == (Reason.PAID, None)
    assert "imp_uid imps_" in found.sentence
    assert [(one.check, one.holds) for one in found.checks] == [(Check.IS_OWED, False)]


def test_a_decline_says_when_the_charge_is_tried_again(services: Services, gateway: ScriptedGateway) -> None:
    charge_id = opened(services)
    gateway.answers.append(DECLINE)
    collect(services, charge_id)
    found = _why(services, _key(services, charge_id))
    assert found.reason is Reason.SCHEDULED
    assert found.at == charge_rows(services)[0]["next_attempt_at"]
    assert "[CC10]통장 잔액부족 (money_short)" in found.sentence
    assert found.checks[-1].check is Check.IS_TIME


def test_a_decline_says_which_rung_of_the_ladder_follows_and_the_end_of_the_grace(
    services: Services, gateway: ScriptedGateway
) -> None:
    charge_id = opened(services, policy=replace(LADDER, grace=timedelta(days=7)))
    gateway.answers.append(DECLINE)
    collect(services, charge_id)
    found = _why(services, _key(services, charge_id))
    assert "is tried at 2026-02-01 00:00Z, by rung 1 of 2 of the ladder" in found.sentence
    assert found.sentence.endswith("the grace of its subscription ends at 2026-02-07 00:00Z")


def test_a_decline_says_that_a_try_waits_for_a_payday(services: Services, gateway: ScriptedGateway) -> None:
    policy = replace(LADDER, ways={DeclineClass.MONEY_SHORT: Way((timedelta(days=20),), paydays=(10,))})
    charge_id = opened(services, policy=policy)
    gateway.answers.append(DECLINE)
    collect(services, charge_id)
    assert ", a payday or the first day of a month;" in _why(services, _key(services, charge_id)).sentence


def test_a_stopped_card_is_named_with_the_time_of_its_decline(
    services: Services, gateway: ScriptedGateway
) -> None:
    on_sale(services)
    key = subscribed(services)
    write(services, "UPDATE billing_keys SET card_name = 'Shinhan', card_number = '536510******1234'", 0)
    gateway.answers.append(NEVER)
    collect_due(services)
    debt, coming = explain.why(services, key)
    named = "its card (Shinhan *1234) is stopped since its decline at 2026-01-31 00:00Z (never_again)"
    assert (debt.reason, named in debt.sentence) == (Reason.WAITS_FOR_CARD, True)
    operate.waive(services, debt.key, "kim", "x")
    coming = explain.why(services, key)[-1]
    assert "its card (Shinhan *1234) can never pay since its decline at 2026-01-31 00:00Z" in coming.sentence


def test_the_next_period_says_that_its_card_expires_before(services: Services) -> None:
    on_sale(services)
    key = subscribed(services)
    collect_due(services)
    tried = "is opened at 2026-02-28 00:00Z, and tried then with its card"
    assert tried in explain.why(services, key)[-1].sentence
    cards.expires(services, "ann", 2026, 2, "kim")
    assert "which expires" not in explain.why(services, key)[-1].sentence
    move(services, minutes=1)
    adjust.skip(services, key, "kim", "x")
    assert "which expires before, on 2026-02-28" in explain.why(services, key)[-1].sentence


def test_an_unknown_outcome_says_when_it_is_looked_up(services: Services, gateway: ScriptedGateway) -> None:
    charge_id = opened(services)
    gateway.answers.append(Unknown("ReadTimeout"))
    collect(services, charge_id)
    found = _why(services, _key(services, charge_id))
    assert found.reason is Reason.UNKNOWN
    assert "is looked up again at" in found.sentence


def test_a_customer_has_an_answer_for_each_debt_and_each_subscription(
    services: Services, gateway: ScriptedGateway
) -> None:
    on_sale(services)
    key = subscribed(services)
    gateway.answers.append(DECLINE)
    collect_due(services)
    debt, coming = explain.why(services, "ann")
    assert (debt.kind, debt.reason) == ("charge", Reason.SCHEDULED)
    assert (coming.kind, coming.key, coming.reason) == ("subscription", key, Reason.OLDER_DEBT)
    assert explain.why(services, key) == [debt, coming]


def test_without_a_debt_the_newest_charge_is_explained(services: Services) -> None:
    on_sale(services)
    key = subscribed(services)
    collect_due(services)
    last, coming = explain.why(services, "ann")
    assert (last.reason, coming.key, coming.reason) == (Reason.PAID, key, Reason.SCHEDULED)


def test_an_attempt_that_was_not_sent_is_not_under_way(services: Services) -> None:
    """Its charge waits for another card, with the attempt unsent."""
    charge_id = opened(services)
    claimed = attempt_charge.claim(services, charge_id)
    assert claimed is not None
    attempt_charge.hold_back(services, claimed, Obstacle("no slot"))
    write(
        services,
        "UPDATE charges SET next_attempt_at = NULL, waits = 'card', look_at = due_at WHERE id = :charge",
        charge_id,
    )
    assert _why(services, _key(services, charge_id)).reason is Reason.WAITS_FOR_CARD


def test_who_waits_for_a_charge_that_was_not_sent_is_not_told_of_a_decline(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Guard: it is sent again; a backend that reads `declined` might charge under another request key."""
    charge_id = opened(services)
    key = _key(services, charge_id)
    gateway.answers.extend([NotSent("ConnectError"), DECLINE])
    collect(services, charge_id)
    assert _why(services, key).reason is Reason.SCHEDULED
    assert code_at_rest(history.show(services, key), _why(services, key), services.clock.now()) is None
    move_to(services, charge_rows(services)[0]["next_attempt_at"])
    collect(services, charge_id)
    declined = code_at_rest(history.show(services, key), _why(services, key), services.clock.now())
    assert declined is Code.DECLINED


def test_a_stopped_card_is_named_before_the_next_period(services: Services) -> None:
    on_sale(services)
    key = subscribed(services)
    collect_due(services)
    with services.engine.begin() as db:
        db.execute(text("UPDATE billing_keys SET stopped_as = 'never_again'"))
    assert explain.why(services, key)[-1].reason is Reason.CARD_STOPPED


def test_a_customer_whose_subscription_has_ended_has_an_answer(services: Services) -> None:
    on_sale(services)
    key = subscribed(services)
    collect_due(services)
    enrollment.unsubscribe(services, key, "kim", "moved away", at_period_end=False)
    last, ended = explain.why(services, "ann")
    assert (last.reason, ended.reason) == (Reason.PAID, Reason.CANCELED)


def test_a_merchant_uid_is_explained_by_its_charge(services: Services) -> None:
    charge_id = opened(services)
    claimed = attempt_charge.claim(services, charge_id)
    assert claimed is not None
    found = _why(services, claimed.intent.merchant_uid)
    assert (found.key, found.reason) == (_key(services, charge_id), Reason.UNDER_WAY)


def test_a_subscription_says_what_a_person_has_decided(services: Services) -> None:
    on_sale(services)
    key = subscribed(services, anchor=services.clock.now().date() + timedelta(days=3))
    assert _why(services, key).reason is Reason.SCHEDULED
    adjust.skip(services, key, "kim", "on holiday")
    assert _why(services, key).reason is Reason.SKIPPED
    adjust.pause(services, key, "kim", "asked")
    assert _why(services, key).reason is Reason.PAUSED
    adjust.resume(services, key, "kim", "asked")
    operate.stop_charging(services, "kim", "a fire")
    stopped = _why(services, key)
    assert stopped.reason is Reason.STOPPED
    assert "a fire" in stopped.sentence


def test_a_plan_that_breaks_a_rule_is_named(services: Services) -> None:
    on_sale(services)
    key = subscribed(services)
    with services.engine.begin() as db:
        db.execute(text("SET LOCAL session_replication_role = replica"))
        db.execute(text("UPDATE plans SET zone = 'Mars/Olympus'"))
    found = explain.why(services, key)[-1]
    assert (found.kind, found.reason) == ("subscription", Reason.TO_BE_HELD)
    assert "Mars/Olympus" in found.sentence


def test_a_customer_uid_may_be_as_long_as_a_merchant_uid(services: Services) -> None:
    on_sale(services)
    subscribed(services, "a" * 38)
    assert _why(services, "a" * 38).kind == "subscription"


def test_a_key_that_is_not_known_is_refused(services: Services) -> None:
    with pytest.raises(NothingToShow, match="'nobody' is not known"):
        explain.why(services, "nobody")
