"""Limits: a charge that no plan asks for, above a limit, is not sent until a second person releases it."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from schedules.charging.charges import ChargeStatus, KeyedIn
from schedules.charging.identity import merchant_uid
from schedules.charging.outcomes import PaymentState
from schedules.errors import BadMoney
from schedules.money.amount_limits import parse_limits
from schedules.money.amounts import Money
from schedules.requests.adhoc import ChargeRequest
from schedules.requests.batches import BatchState, Line, Terms
from tests.doubles import ScriptedGateway
from tests.factories import charge_rows, collect_due, move, on_sale, with_settings
from tests.scenarios.living import notices
from worker.batches import drafts, run_batch
from worker.charging import adhoc, prior_attempts
from worker.charging.adhoc import CannotRequest, Requested
from worker.charging.approval_limits import above_day_limit
from worker.config import BadSettings, load_settings
from worker.customers import card_entry, enrollment, signup
from worker.customers.enrollment import CannotEnroll
from worker.gateway.port import Card, ChargeOrder
from worker.operations import operate
from worker.operations.operate import CannotOperate
from worker.reconciliation import resolve_finding
from worker.reconciliation.resolve_finding import Verdict
from worker.services import DryRunChanges, Services
from worker.store.reconciliation import findings
from worker.task_api import answers, verbs

FEE = ChargeRequest(
    customer_uid="ann", money=Money(3000, "KRW"), name="Late fee", request_key="fee-1", reason="late",
    policy="once",
)  # fmt: skip
CARD = Card("4000000000001091", "2030-12", "900101", "12")
TERMS = Terms(key="fees", name="Late fee", reason="returned late", policy="once")


@pytest.fixture
def shop(services: Services) -> Services:
    """A customer; 5,000 won, 5 dollars or 7 euros a charge, and 10,000 won or 10 euros a day."""
    made = with_settings(services, charge_limit="KRW=5000 USD=5 EUR=7", charge_day_limit="KRW=10000 EUR=10")
    enrollment.add_customer(made, "ann", None, None, None, "test")
    return made


def asked(shop: Services, amount: int, key: str = "fee-1", currency: str = "KRW") -> Requested:
    """A charge that kim asks for."""
    request = replace(FEE, money=Money(amount, currency), request_key=key)
    return adhoc.charge(shop, request, "kim", "kim-unix")


def typed(shop: Services, amount: int, key: str = "desk-1") -> ChargeStatus:
    """What becomes of a typed-in card."""
    request = replace(FEE, customer_uid="ben", money=Money(amount, "KRW"), request_key=key)
    return card_entry.pay(shop, request, CARD, "kim", KeyedIn.ONCE).status


def test_a_charge_above_the_limit_waits_until_another_person_releases_it(
    shop: Services, gateway: ScriptedGateway
) -> None:
    """The guard: one person's slip of the finger is not charged."""
    charge = asked(shop, 5001)
    assert charge.held_why == "5,001 KRW is above AGAIN_CHARGE_LIMIT, 5,000 KRW; another person must release it"
    assert "charge.held" in notices(shop)
    collect_due(shop)
    assert not gateway.sent
    with pytest.raises(CannotOperate, match="actor 'kim' as well; another person must release it"):
        operate.release(shop, charge.key, "kim", "it is right", "lee-unix")
    with pytest.raises(CannotOperate, match="operating system user 'kim-unix' as well"):
        operate.release(shop, charge.key, "lee", "it is right", "kim-unix")
    operate.release(shop, charge.key, "lee", "it is right", "lee-unix")
    collect_due(shop)
    assert [order.money for order in gateway.sent] == [Money(5001, "KRW")]
    with shop.engine.begin() as db:
        acts = db.execute(text("SELECT actor, verb, details ->> 'os_user' FROM audit ORDER BY id")).all()
    assert [tuple(act) for act in acts[-2:]] == [("kim", "charge", "kim-unix"), ("lee", "release", "lee-unix")]


def test_a_charge_at_the_limit_is_sent(shop: Services, gateway: ScriptedGateway) -> None:
    assert asked(shop, 5000).held_why is None
    collect_due(shop)
    assert len(gateway.sent) == 1


def test_each_currency_has_its_own_limit_in_major_units(shop: Services) -> None:
    """501 cents are above 5 dollars; 501 won are not above 5,000 won."""
    assert asked(shop, 501, "a", "USD").held_why is not None
    assert asked(shop, 500, "b", "USD").held_why is None
    assert asked(shop, 501, "c").held_why is None


def test_a_task_is_told_that_its_charge_waits_and_cannot_release_it_as_the_same_actor(
    shop: Services, gateway: ScriptedGateway
) -> None:
    context = verbs.Context(shop, lambda queued: None)
    fields: dict[str, Any] = {
        "customer_uid": "ann", "amount": 999_999_999_999, "currency": "KRW", "name": "Fee", "request_key": "k",
        "reason": "late", "actor": "rental",
    }  # fmt: skip
    answer = answers.answer(context, verbs.charge_adhoc, (), fields)
    assert (answer["status"], "AGAIN_CHARGE_LIMIT" in answer["held_why"]) == ("open", True)
    release = {"key": answer["charge"], "reason": "it is right"}
    assert answers.answer(context, verbs.release, (), release | {"actor": "rental"})["error"] == "refused"
    collect_due(shop)
    assert not gateway.sent
    assert answers.answer(context, verbs.charge_adhoc, (), fields)["held_why"] == answer["held_why"]
    assert answers.answer(context, verbs.release, (), release | {"actor": "kim"})["ok"]
    collect_due(shop)
    assert len(gateway.sent) == 1


def test_the_day_of_an_account_has_a_limit_and_the_next_day_begins_anew(shop: Services) -> None:
    assert [asked(shop, 4000, f"fee-{n}").held_why is None for n in range(3)] == [True, True, False]
    assert asked(shop, 2000, "fits").held_why is None
    assert asked(shop, 1, "does not fit").held_why is not None
    assert asked(shop, 100, "dollars", "USD").held_why is None
    move(shop, days=1)
    assert asked(shop, 4000, "tomorrow").held_why is None


def test_what_waits_for_a_second_person_uses_up_nothing_of_the_day(shop: Services) -> None:
    for number in range(3):
        key = asked(shop, 9000, f"large-{number}").key
        operate.release(shop, key, "lee", "it is right")
    assert [asked(shop, 5000, f"fee-{n}").held_why is None for n in range(2)] == [True, True]


def test_the_same_request_again_is_counted_once(shop: Services) -> None:
    for _ in range(5):
        assert asked(shop, 4000).held_why is None
    assert asked(shop, 4000, "fee-2").held_why is None


def test_the_limit_of_a_day_is_exact_when_many_ask_at_once(shop: Services) -> None:
    """The guard: the row of an account's day is added to under its lock."""
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: asked(shop, 3000, f"fee-{n}"), range(16)))
    assert sum(charge.held_why is None for charge in made) == 3
    with shop.engine.begin() as db:
        assert db.execute(text("SELECT taken FROM allowances")).scalars().all() == [9000]


def test_a_dry_run_says_that_it_would_wait_and_uses_up_nothing(shop: Services) -> None:
    dry_run = replace(shop, dry_run=DryRunChanges())
    assert asked(dry_run, 5001).held_why is not None
    assert asked(dry_run, 5000).held_why is None
    with shop.engine.begin() as db:
        assert not db.execute(text("SELECT 1 FROM allowances")).first()
    assert not charge_rows(shop)


def test_a_typed_card_above_a_limit_is_refused_and_nothing_is_kept(
    shop: Services, gateway: ScriptedGateway
) -> None:
    """The guard: a card that is not kept cannot wait for a second person."""
    gateway.missing_keys.add("ben")
    with pytest.raises(CannotRequest, match="AGAIN_CHARGE_LIMIT"):
        typed(shop, 5001)
    assert not charge_rows(shop)
    assert [typed(shop, 5000, f"desk-{n}") for n in range(2)] == [ChargeStatus.PAID] * 2
    with pytest.raises(CannotRequest, match="AGAIN_CHARGE_DAY_LIMIT"):
        typed(shop, 1, "desk-3")
    assert len(gateway.sent) == 2


def test_a_plan_whose_price_is_above_the_limit_is_refused_unless_it_is_meant(
    shop: Services, gateway: ScriptedGateway
) -> None:
    """The first payment of a signup is the plan's price, and follows the plan."""
    with pytest.raises(CannotEnroll, match="--above-limit"):
        on_sale(shop)
    plan = replace(on_sale(with_settings(shop, charge_limit="KRW=9900")), code="yearly")
    enrollment.add_plan(shop, plan, "standard", "kim", above_limit=True)
    gateway.missing_keys.add("ben")
    assert signup.sign_up(shop, "ben", "yearly", CARD, "kim", "at the desk").charge is not None


@pytest.mark.parametrize(
    ("amounts", "why"),
    [
        ((5001,), "a line of 5,001 KRW is above AGAIN_CHARGE_LIMIT"),
        ((4000, 4000, 4000), "AGAIN_CHARGE_DAY_LIMIT of account main"),
    ],
)
def test_a_batch_above_the_limits_waits_for_a_second_person(
    shop: Services, gateway: ScriptedGateway, amounts: tuple[int, ...], why: str
) -> None:
    lines = [Line(n + 2, {"customer_uid": "ann", "amount": str(amount)}) for n, amount in enumerate(amounts)]
    drafts.draft(shop, TERMS, lines, "kim")
    batch = run_batch.begin(shop, "fees", "kim")
    assert (batch.state, why in str(batch.words)) == (BatchState.WAITING, True)
    run_batch.approve(shop, "fees", "lee", "it is right")
    run_batch.go_on(shop)
    collect_due(shop)
    assert [order.money.amount for order in gateway.sent] == list(amounts)
    assert asked(shop, 5000).held_why is None


def test_small_batches_add_up_to_the_day(shop: Services) -> None:
    """The guard: many batches below every limit are one large one."""
    states = []
    for number in range(3):
        lines = [Line(n, {"customer_uid": "ann", "amount": "2000"}) for n in (2, 3)]
        lines += [Line(4, {"customer_uid": "ann", "amount": str(number + 1), "currency": "EUR"})]
        terms = replace(TERMS, key=f"fees-{number}")
        drafts.draft(shop, terms, lines, "kim")
        states.append(run_batch.begin(shop, terms.key, "kim").state)
    assert states == [BatchState.RUNNING, BatchState.RUNNING, BatchState.WAITING]
    assert asked(shop, 2000).held_why is None
    assert asked(shop, 700, "euros", "EUR").held_why is None  # the euros of the third are not counted


def test_the_database_lets_no_charge_go_on_that_waits_for_a_second_person(shop: Services) -> None:
    """The guard: unapproved_waits."""
    asked(shop, 5001)
    with pytest.raises(IntegrityError, match="unapproved_waits"), shop.engine.begin() as db:
        db.execute(text("UPDATE charges SET held_why = NULL"))


def test_the_end_of_a_finding_leaves_the_hold_for_a_second_person(
    shop: Services, gateway: ScriptedGateway
) -> None:
    """Guard: the charge was paid and given back before a restore; nobody but the asker has seen it since."""
    key = asked(shop, 5001).key
    order = ChargeOrder("ann", merchant_uid("test", key, 1), Money(5002, "KRW"), "Late fee")
    gateway.remember(order, "paid", at=shop.clock.now())
    assert prior_attempts.ask(shop, charge_rows(shop)[0]["id"])
    (payment,) = gateway.records.pop(order.merchant_uid)
    gateway.records[order.merchant_uid] = [replace(payment, state=PaymentState.CANCELLED, cancelled_amount=5002)]
    with shop.engine.begin() as db:
        (finding,) = findings.listed(db)
    resolve_finding.resolve(shop, finding.id, Verdict.UNPAID, "kim", "it was given back")
    collect_due(shop)
    assert not gateway.sent
    with pytest.raises(CannotOperate, match="another person must release it"):
        operate.release(shop, key, "kim", "it is right", "lee-unix")
    operate.release(shop, key, "lee", "it is right", "lee-unix")


def test_a_charge_that_waits_for_a_second_person_can_be_canceled(shop: Services) -> None:
    key = asked(shop, 5001).key
    operate.cancel_charge(shop, key, "kim", "a slip of the finger")
    assert charge_rows(shop)[0]["status"] == "canceled"


@pytest.mark.parametrize("text_", ["5000", "KRW=5,000", "KRW", "XXX=1", "KRW=1 KRW=2", "KRW=0", "USD=1.001", ""])
def test_limits_that_cannot_be_are_refused(text_: str) -> None:
    with pytest.raises(BadMoney):
        parse_limits(text_)


def test_a_wrong_limit_is_named_at_start_and_a_currency_left_out_keeps_its_default(services: Services) -> None:
    values = {"environment": "test", "database_url": "postgresql://x/y", "broker_url": "redis://x:1/0",
              "portone_key": "k", "portone_secret": "s"}  # fmt: skip
    environment = {f"AGAIN_{name.upper()}": value for name, value in values.items()}
    with pytest.raises(BadSettings, match="AGAIN_CHARGE_LIMIT: '5000' is not a limit; write CURRENCY=AMOUNT"):
        load_settings(environment | {"AGAIN_CHARGE_LIMIT": "5000"})
    limits = load_settings(environment | {"AGAIN_CHARGE_LIMIT": "KRW=7"}).limits("charge_limit")
    assert (limits.of("KRW"), limits.of("USD")) == (7, 100_000)


@pytest.mark.parametrize(("zone", "is_above"), [("Asia/Seoul", True), ("America/New_York", False)])
def test_the_day_of_a_limit_is_one_of_the_shops_zone(shop: Services, zone: str, is_above: bool) -> None:
    """From 09:00 to 15:00 in Seoul it is one day, and in New York the next one begins."""
    there = with_settings(shop, zone=zone)
    with there.engine.begin() as db:
        assert above_day_limit(there, db, "main", 10_000, "KRW", there.clock.now()) is None
        later = there.clock.now() + timedelta(hours=6)
        assert (above_day_limit(there, db, "main", 10_000, "KRW", later) is not None) is is_above
