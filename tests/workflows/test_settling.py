"""Settling when things happen at once, or after the end."""

import threading
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, time

import pytest

from schedules.calendar.zones import zone
from schedules.charging.charges import AttemptState
from schedules.charging.outcomes import Declined, Paid
from schedules.dunning.policies import STANDARD, DunningPolicy, FinalAction
from schedules.money.amounts import Money
from schedules.requests.adhoc import ChargeRequest
from tests.doubles import ScriptedGateway
from tests.factories import attempt_rows, charge_rows, move_to, on_sale, opened, subscribed, with_settings
from worker.charging import adhoc, attempt_charge
from worker.charging.claim import Claimed
from worker.charging.settle import settle
from worker.customers import enrollment
from worker.customers.admit import CannotAdjust
from worker.renewals import open_charges
from worker.services import Services
from worker.store.charging import attempts, charges

ONE_TRY = DunningPolicy(ladder=(), final=FinalAction.CANCEL)


def test_a_charge_that_is_given_up_and_a_person_who_cancels_do_not_block_each_other(services: Services) -> None:
    """The guard: the subscription is locked before its charges, by everybody."""
    on_sale(services, policy=ONE_TRY)
    for round_ in range(5):
        key = subscribed(services, f"customer-{round_}")
        open_charges.open_due(services)
        open_one = next(row["id"] for row in charge_rows(services) if row["status"] == "open")
        claimed = attempt_charge.claim(services, open_one)
        assert claimed is not None
        both = threading.Barrier(2)
        ended: list[object] = []

        def give_up(claim: Claimed = claimed, both: threading.Barrier = both) -> None:
            both.wait(10)
            ended.append(settle(services, claim.intent, AttemptState.SENDING, Declined("no money")))  # noqa: B023 # joined below

        def cancel(key: str = key, both: threading.Barrier = both) -> None:
            both.wait(10)
            with suppress(CannotAdjust):  # the other was faster
                enrollment.unsubscribe(services, key, "tester", "enough", at_period_end=False)

        threads = [threading.Thread(target=give_up), threading.Thread(target=cancel)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert ended == [AttemptState.DECLINED]
        assert charge_rows(services)[-1]["closed_at"] is not None


def test_a_held_charge_is_not_given_up(services: Services) -> None:
    """A person was called to it while its last try was under way."""
    charge = opened(services, policy=ONE_TRY)
    claimed = attempt_charge.claim(services, charge)
    assert claimed is not None
    with services.engine.begin() as db:
        charges.hold(db, claimed.key, "a person looks")
    settle(services, claimed.intent, AttemptState.SENDING, Declined("no money"))
    row = charge_rows(services)[0]
    assert row["held_why"] == "a person looks"
    assert row["status"] in ("open", "past_due")


def test_a_charge_that_is_paid_after_its_end_is_told_of(services: Services, gateway: ScriptedGateway) -> None:
    charge = opened(services, policy=ONE_TRY)
    gateway.answers.append(Declined("no money"))
    attempt_charge.attempt(services, charge)
    assert charge_rows(services)[0]["status"] == "uncollectible"
    with services.engine.begin() as db:
        taken = attempts.take(db, attempt_rows(services)[0]["id"], AttemptState.DECLINED, services.clock.now())
    assert taken is not None
    settle(services, taken, AttemptState.DECLINED, Paid("imps_late"))
    with services.engine.begin() as db:
        told = {row[0] for row in db.exec_driver_sql("SELECT kind FROM outbox").all()}
    assert "charge.paid_after_end" in told
    assert charge_rows(services)[0]["status"] == "paid"


def test_a_claim_whose_subscription_is_canceled_meanwhile_ends_its_charge(
    services: Services, gateway: ScriptedGateway
) -> None:
    """It was left to its answer, and there will be none; it must not be tried every half minute for ever."""
    on_sale(services)
    key = subscribed(services)
    open_charges.open_due(services)
    claimed = attempt_charge.claim(services, charge_rows(services)[0]["id"])
    assert claimed is not None
    enrollment.unsubscribe(services, key, "kim", "moved away", at_period_end=False)
    attempt_charge.carry_out(services, claimed)
    assert charge_rows(services)[0]["status"] == "canceled"
    assert gateway.sent == []


def test_a_claim_whose_billing_key_is_deleted_meanwhile_waits_for_a_person(
    services: Services, gateway: ScriptedGateway
) -> None:
    charge = opened(services)
    claimed = attempt_charge.claim(services, charge)
    assert claimed is not None
    with services.engine.begin() as db:
        db.exec_driver_sql("UPDATE billing_keys SET deleted_at = now()")
    attempt_charge.carry_out(services, claimed)
    assert charge_rows(services)[0]["held_why"] == "the billing key was deleted"
    assert gateway.sent == []


def test_a_charge_of_an_account_without_credentials_here_is_left_alone(services: Services) -> None:
    elsewhere = replace(services, gateways={"other": services.gateways["main"]})
    charge = opened(services)
    assert attempt_charge.attempt(elsewhere, charge) is None
    assert attempt_rows(services) == []


@pytest.mark.parametrize("name", ["Asia/Seoul", "America/New_York"])
def test_a_debt_without_a_plan_is_tried_again_in_the_allowed_hours_of_the_shops_zone(
    services: Services, gateway: ScriptedGateway, name: str
) -> None:
    there = with_settings(services, zone=name)
    night = datetime(2026, 2, 3, 2, 0, tzinfo=zone(name))
    move_to(there, night.astimezone(UTC))
    enrollment.add_customer(there, "ann", None, None, None, "test")
    fee = ChargeRequest(
        customer_uid="ann", money=Money(9900, "KRW"), name="fee", request_key="fee", reason="late",
        policy="standard",
    )  # fmt: skip
    adhoc.charge(there, fee, "shop")
    gateway.answers.append(Declined("시스템 점검중입니다"))
    assert attempt_charge.attempt(there, charge_rows(there)[0]["id"]) is AttemptState.DECLINED
    local = charge_rows(there)[0]["next_attempt_at"].astimezone(zone(name))
    assert STANDARD.hours.begin <= local.time() < time(12)
    assert local.date() == night.date()
