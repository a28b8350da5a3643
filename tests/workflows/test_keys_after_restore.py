"""A request that was carried out after the backup is sent again after the restore, under the same request key."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from sqlalchemy import text

from schedules.charging.identity import parse_merchant_uid
from schedules.charging.outcomes import Declined, PaymentState, Refused
from schedules.money.amounts import Money
from schedules.requests.batches import Line, Terms
from schedules.requests.imports import COLUMNS
from schedules.requests.refunds import RefundRequest, RefundState
from tests.doubles import ScriptedGateway
from tests.factories import (
    charge_rows,
    collect,
    collect_due,
    in_an_executor,
    move,
    on_sale,
    subscribed,
    write,
)
from tests.model.postgres import PostgresBooks
from tests.workflows.test_reconciling import found, reconciled
from worker.batches import drafts, run_batch
from worker.charging.adhoc import CannotRequest
from worker.customers import adjust, enrollment, signup
from worker.gateway.port import BillingKey, Card, ChargeOrder
from worker.onboarding import import_file
from worker.onboarding.import_file import CannotGoOn
from worker.operations.operate import CannotOperate
from worker.reconciliation import resolve_finding, restore
from worker.reconciliation.resolve_finding import Verdict
from worker.refunds import refund_payment
from worker.renewals import open_charges
from worker.services import Services
from worker.task_api import answers, verbs

CARD = Card("4000000000001091", "2030-12", "900101", "12")
WHO = {"actor": "shop", "reason": "ticket 4711"}


def restored(services: Services, backup: object) -> None:
    """Put the database back to a backup, and wait until the hold after it has ended."""
    PostgresBooks(services).restore(backup)
    restore.begin_hold(services, "kim", "restored last night's backup")
    move(services, seconds=services.settings.quiet_time)
    assert restore.lift_when_known(services) is None


def sent(
    services: Services, asked: Callable[..., dict[str, Any]], request_key: str, **fields: Any
) -> dict[str, Any]:
    """The answer to a task that is sent with a request key."""
    context = verbs.Context(services, lambda queued: None)
    return answers.answer(context, asked, (), fields | {"request_key": request_key})


def paid_charge(services: Services) -> str:
    """The key of a renewal of 9,900 won that is paid."""
    on_sale(services)
    subscribed(services)
    collect_due(services)
    return str(charge_rows(services)[0]["key"])


def part_of(charge: str, key: str = "back-1") -> RefundRequest:
    """A request to give 3,000 won back."""
    return RefundRequest(charge=charge, money=Money(3000, "KRW"), request_key=key, reason="he sent it back")


def part_given_back_before_a_restore(services: Services) -> str:
    """3,000 won of a charge were given back after the backup, and a person has accepted that; the charge's key."""
    charge = paid_charge(services)
    backup = PostgresBooks(services).backup()
    refund_payment.ask(services, part_of(charge), "kim")
    refund_payment.make_due(services)
    restored(services, backup)
    reconciled(services)
    (finding,) = (each for each in found(services) if not each.state.is_over)
    resolve_finding.resolve(services, finding.id, Verdict.ACCEPTED, "kim", "the console shows it")
    assert charge_rows(services)[0]["refunded"] == 3000
    return charge


def test_a_part_that_was_given_back_after_the_backup_is_not_given_back_again(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Guard: what was given back without a refund known here may be the refund of this very key."""
    charge = part_given_back_before_a_restore(services)
    with pytest.raises(
        CannotOperate,
        match=r"3,000 KRW of charge \w+ were given back without a refund known here.*`again refund \w+ --another`",
    ):
        refund_payment.ask(services, part_of(charge), "kim")
    answer = sent(services, verbs.refund_charge, "back-1", charge=charge, amount=3000, currency="KRW", **WHO)
    assert answer["error"] == "refused"
    refund_payment.make_due(services)
    assert len(gateway.cancellations) == 1


def test_another_part_is_given_back_when_a_person_says_that_it_is_another(
    services: Services, gateway: ScriptedGateway
) -> None:
    charge = part_given_back_before_a_restore(services)
    refund_payment.ask(services, replace(part_of(charge, "back-2"), another=True), "kim")
    refund_payment.make_due(services)
    assert refund_payment.status(services, "back-2").state is RefundState.MADE
    assert not refund_payment.ask(services, part_of(charge, "back-2"), "kim")[1], (
        "sent again, it is the same refund"
    )
    answer = sent(
        services, verbs.refund_charge, "back-3", charge=charge, amount=900, currency="KRW", another=True, **WHO
    )
    assert answer["ok"]
    refund_payment.make_due(services)
    assert [order.money.amount for order in gateway.cancellations] == [3000, 3000, 900]
    with services.engine.begin() as db:
        written = db.execute(text("SELECT details ->> 'another' FROM audit WHERE verb = 'refund' ORDER BY id"))
        assert list(written.scalars()) == ["true", "true"]


@dataclass
class Shop:
    """A customer, ann, with two cards and a monthly subscription whose first period is due."""

    services: Services
    gateway: ScriptedGateway
    subscription: str = ""

    def begin(self) -> None:
        """Put the plans on sale, and subscribe the customer."""
        on_sale(self.services)
        on_sale(self.services, code="dear", price=Money(29900, "KRW"))
        self.subscription = subscribed(self.services)
        enrollment.add_customer(self.services, "ann-2", None, None, None, "test", of="ann")

    def decline(self, reason: str) -> str:
        """Let the first period be declined; the charge's key."""
        self.gateway.answers.append(Declined(reason))
        return self.collect()

    def collect(self) -> str:
        """Open and collect what is due; the oldest charge's key."""
        collect_due(self.services)
        return str(charge_rows(self.services)[0]["key"])

    def paid(self) -> dict[str, int]:
        """How many payments the gateway has under each uid."""
        counts = {
            uid: [payment.state for payment in found].count(PaymentState.PAID)
            for uid, found in self.gateway.records.items()
        }
        return {uid: count for uid, count in counts.items() if count}


Prepared = tuple[Callable[..., dict[str, Any]], dict[str, Any]]


def a_try(shop: Shop) -> Prepared:
    charge = shop.decline("[CC10]통장 잔액부족")
    move(shop.services, hours=7)
    return verbs.try_charge, {"charge": charge, **WHO}


def a_release(shop: Shop) -> Prepared:
    open_charges.open_due(shop.services)
    row = charge_rows(shop.services)[0]
    write(shop.services, "UPDATE charges SET held_why = 'a person must look' WHERE id = :charge", row["id"])
    return verbs.release, {"key": row["key"], **WHO}


def a_release_of_what_was_refused(shop: Shop) -> Prepared:
    shop.gateway.answers.append(Refused("[8400]가맹점 정보 오류"))
    shop.collect()
    return verbs.release_refused, {**WHO}


def a_new_card_behind_the_key(shop: Shop) -> Prepared:
    shop.decline("분실 카드")
    shop.gateway.keys["ann"] = BillingKey("ann", "kcp", "A52LD", "KB카드", "94331234****1234", None, None)
    return verbs.card_changed, {"customer_uid": "ann", **WHO}


def another_card(shop: Shop) -> Prepared:
    shop.decline("[CC10]통장 잔액부족")
    return verbs.change_card, {"subscription": shop.subscription, "customer_uid": "ann-2", **WHO}


def a_new_customer(shop: Shop) -> Prepared:
    shop.collect()
    return verbs.add_customer, {"customer_uid": "bob", "actor": "shop"}


def a_subscription(shop: Shop) -> Prepared:
    shop.collect()
    return verbs.subscribe, {"customer_uid": "ann", "plan": "dear", "actor": "shop"}


def a_second_subscription(shop: Shop) -> Prepared:
    shop.collect()
    fields = {"customer_uid": "ann", "plan": "monthly", "another": True, "anchor": "2025-12-31", "actor": "shop"}
    return verbs.subscribe, fields


def a_resume(shop: Shop) -> Prepared:
    shop.collect()
    adjust.pause(shop.services, shop.subscription, "kim", "moving")
    return verbs.resume, {"subscription": shop.subscription, **WHO}


def an_end_taken_back(shop: Shop) -> Prepared:
    shop.collect()
    enrollment.unsubscribe(shop.services, shop.subscription, "kim", "left", at_period_end=True)
    return verbs.undo, {"subscription": shop.subscription, "what": "end", **WHO}


def a_skip_taken_back(shop: Shop) -> Prepared:
    shop.collect()
    adjust.skip(shop.services, shop.subscription, "kim", "holiday", 1)
    return verbs.undo, {"subscription": shop.subscription, "what": "skip", **WHO}


def an_earlier_day(shop: Shop) -> Prepared:
    shop.collect()
    return verbs.move_anchor, {"subscription": shop.subscription, "anchor": "2026-02-10", **WHO}


def an_earlier_time(shop: Shop) -> Prepared:
    shop.collect()
    return verbs.move_time, {"subscription": shop.subscription, "time": "00:30", **WHO}


def a_dearer_plan(shop: Shop) -> Prepared:
    shop.collect()
    return verbs.change_plan, {"subscription": shop.subscription, "plan": "dear", **WHO}


PREPARED = (
    a_try, a_release, a_release_of_what_was_refused, a_new_card_behind_the_key, another_card, a_new_customer,
    a_subscription,
    a_second_subscription, a_resume, an_end_taken_back, a_skip_taken_back, an_earlier_day, an_earlier_time,
    a_dearer_plan,
)  # fmt: skip


@pytest.mark.parametrize("prepare", PREPARED)
def test_a_verb_sent_again_after_the_restore_pays_nothing_twice(
    services: Services, gateway: ScriptedGateway, prepare: Callable[[Shop], Prepared]
) -> None:
    """What it led to within a month was paid after the backup; the same key leads to the same charge keys."""
    shop = Shop(services, gateway)
    shop.begin()
    asked, fields = prepare(shop)
    backup = PostgresBooks(services).backup()
    assert sent(services, asked, "again-1", **fields)["ok"]
    shop.collect()
    move(services, days=29)
    shop.collect()
    paid = shop.paid()
    restored(services, backup)
    sent(services, asked, "again-1", **fields)
    shop.collect()
    assert shop.paid() == paid
    assert set(paid.values()) == {1}
    assert len(gateway.sent) == len({order.merchant_uid for order in gateway.sent})


def test_verbs_that_may_charge_are_all_sent_again_after_a_restore() -> None:
    """A new verb that takes a request key is added here, or to those that can only lessen what is charged."""
    lessen = {
        verbs.waive, verbs.cancel_charge, verbs.paid_elsewhere, verbs.unsubscribe, verbs.pause,
        verbs.skip,
    }  # fmt: skip
    tried = {
        verbs.try_charge, verbs.release, verbs.card_changed, verbs.change_card, verbs.add_customer,
        verbs.subscribe, verbs.resume, verbs.undo, verbs.move_anchor, verbs.move_time,
        verbs.change_plan, verbs.release_refused,
    }  # fmt: skip
    assert lessen | tried == verbs.TAKES_KEY


@pytest.mark.parametrize("trial_days", [0, 14])
def test_a_signup_said_again_after_the_restore_pays_nothing_twice(
    services: Services, gateway: ScriptedGateway, trial_days: int
) -> None:
    """With a first payment it is refused, and nothing is charged; a trial is the same subscription."""
    gateway.missing_keys.add("ann")
    on_sale(services, trial_days=trial_days)
    backup = PostgresBooks(services).backup()
    first = signup.sign_up(services, "ann", "monthly", CARD, "kim", "came in", request_key="desk-1")
    restored(services, backup)
    calls = len(gateway.sent)
    if trial_days:
        again = signup.sign_up(services, "ann", "monthly", CARD, "kim", "came in", request_key="desk-1")
        assert again.subscription == first.subscription
    else:
        with pytest.raises(CannotRequest, match="was used before the database was restored"):
            signup.sign_up(services, "ann", "monthly", CARD, "kim", "came in", request_key="desk-1")
    assert len(gateway.sent) == calls


def test_a_line_that_is_imported_again_after_the_restore_pays_nothing_twice(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Its reference is its request key; a date that has passed is refused, and the next one is another period."""
    on_sale(services)
    backup = PostgresBooks(services).backup()
    import_file.write(services, [line("2026-02-28")], "kim", "from the old system")
    move(services, days=29)
    collect_due(services)
    restored(services, backup)
    with pytest.raises(CannotGoOn, match="it is due at 2026-02-28"):
        import_file.write(services, [line("2026-02-28")], "kim", "from the old system")
    assert import_file.write(services, [line("2026-03-31")], "kim", "from the old system") == 1
    collect_due(services)
    assert len(gateway.sent) == 1
    move(services, days=31)
    collect_due(services)
    keys = [parse_merchant_uid(order.merchant_uid).charge_key for order in gateway.sent]
    assert [key[-5:] for key in keys] == ["00002", "00003"]


def line(next_date: str) -> Line:
    """A line of a file of subscriptions."""
    columns = {"customer_uid": "ann", "plan": "monthly", "next_date": next_date, "anchor": "2025-12-31"}
    return Line(2, {name: (columns | {"external_ref": "old-1"}).get(name, "") for name in COLUMNS})


@pytest.fixture(params=["alone", "in a group"])
def worker(services: Services, request: pytest.FixtureRequest) -> Services:
    """A worker process that sends charges one by one, and one that sends them in groups."""
    return in_an_executor(services) if request.param == "in a group" else services


def fees(services: Services, *, stop_after: int | None = None) -> None:
    """Draft and begin a batch of four lines, and charge them, or some of them."""
    lines = [Line(n + 2, {"customer_uid": f"c{n}", "amount": "3000"}) for n in range(4)]
    terms = Terms(key="fees", name="Late fee", reason="returned late", policy="once")
    drafts.draft(services, terms, lines, "kim")
    run_batch.begin(services, "fees", "kim")
    go_on(services, stop_after)


def go_on(services: Services, most: int | None = None) -> None:
    """Open the lines, and try their charges in order, or so many of them."""
    run_batch.go_on(services)
    for row in charge_rows(services)[:most]:
        collect(services, row["id"])


def test_a_batch_begun_again_after_the_restore_charges_only_what_was_not_charged(
    worker: Services, gateway: ScriptedGateway
) -> None:
    """Guard: each line's charge is asked for by its request key before it is sent."""
    for number in range(4):
        enrollment.add_customer(worker, f"c{number}", None, None, None, "test")

    def declines(order: ChargeOrder) -> Declined:
        gateway.remember(order, "failed", at=worker.clock.now())
        return Declined("[CC10]통장 잔액부족")

    gateway.cards["c1"] = declines
    backup = PostgresBooks(worker).backup()
    fees(worker, stop_after=3)
    before = [order.merchant_uid for order in gateway.sent]
    restored(worker, backup)
    move(worker, minutes=1)
    fees(worker)
    assert [order.customer_uid for order in gateway.sent[3:]] == ["c3"]
    assert not {order.merchant_uid for order in gateway.sent[3:]} & set(before)
    assert [row["status"] for row in charge_rows(worker)] == ["paid", "uncollectible", "paid", "paid"]


def test_a_batch_that_goes_on_after_the_restore_charges_only_what_was_not_charged(
    worker: Services, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backup was made when two lines had been opened, and one of them was charged."""
    monkeypatch.setattr(run_batch, "MOST_AHEAD", 2)
    for number in range(4):
        enrollment.add_customer(worker, f"c{number}", None, None, None, "test")
    fees(worker, stop_after=1)
    backup = PostgresBooks(worker).backup()
    go_on(worker)
    assert len(gateway.sent) == 3
    restored(worker, backup)
    for _ in range(4):
        move(worker, minutes=1)
        go_on(worker)
    assert sorted(order.customer_uid for order in gateway.sent) == ["c0", "c1", "c2", "c3"]
    assert {row["status"] for row in charge_rows(worker)} == {"paid"}
