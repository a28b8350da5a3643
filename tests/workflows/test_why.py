"""`again why`: what it says will be tried at a time is tried then, and what it says will not be tried is not."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from schedules.charging.outcomes import Declined, Unknown
from schedules.charging.reasons import Check, Reason
from tests.doubles import ScriptedGateway
from tests.factories import charge_rows, collect, collect_due, move_to, on_sale, opened, subscribed
from tests.model.postgres import PostgresBooks
from tests.workflows.test_claiming import KINDS, arrange, shop_of
from worker.charging import attempt_charge
from worker.charging.claim import Claimed, claim_many
from worker.customers import adjust
from worker.operations import operate
from worker.reporting import explain
from worker.reporting.explain import Why
from worker.reporting.history import NothingToShow
from worker.services import Services

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
    assert (coming.kind, coming.key, coming.reason) == ("subscription", key, Reason.SCHEDULED)
    assert explain.why(services, key) == [debt, coming]


def test_without_a_debt_the_newest_charge_is_explained(services: Services) -> None:
    on_sale(services)
    key = subscribed(services)
    collect_due(services)
    last, coming = explain.why(services, "ann")
    assert (last.reason, coming.key, coming.reason) == (Reason.PAID, key, Reason.SCHEDULED)


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
    with pytest.raises(NothingToShow, match="'nobody' is no key"):
        explain.why(services, "nobody")
