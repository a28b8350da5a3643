"""Refunds, readings of cards and requests: an account whose gateway hangs delays those of no other account."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from schedules.charging.charges import AttemptState
from schedules.charging.outcomes import Unknown
from schedules.errors import Code
from schedules.requests.refunds import Fate, RefundRequest, RefundState
from tests.doubles import ScriptedGateway, SlowToTell
from tests.factories import charge_rows, on_sale
from worker.charging import attempt_charge
from worker.charging.account_threads import CHORE_PLACES
from worker.charging.executor import Executor
from worker.clock import wait_until
from worker.customers import cards, enrollment
from worker.gateway.port import KeyAnswer
from worker.refunds import refund_payment
from worker.renewals import open_charges
from worker.services import AccountBusy, Services
from worker.store import refunds
from worker.store.customers.customers import NO_FACTS
from worker.task_api.request_places import RequestPlaces

REFUNDS = 2 * CHORE_PLACES


@pytest.fixture
def silent() -> Iterator[SlowToTell]:
    """The further account's gateway, which answers when the test is over."""
    gateway = SlowToTell()
    yield gateway
    gateway.tells.set()


@pytest.fixture
def shop(services: Services, gateway: ScriptedGateway, silent: SlowToTell) -> Services:
    """A shop with two accounts, and customers of both who have paid and asked for their money back."""
    main = services.settings.main_account
    made = replace(
        services,
        gateways={"main": gateway, "second": silent},
        accounts={"main": main, "second": replace(main, name="second")},
    )
    on_sale(made)
    for account, many in (("second", REFUNDS), ("main", 2)):
        for number in range(many):
            uid = f"{account}-{number}"
            enrollment.add_customer(made, uid, None, None, None, "test", account=account)
            enrollment.subscribe(made, uid, "monthly", "test")
    open_charges.open_due(made)
    for row in charge_rows(made):
        assert attempt_charge.attempt(made, row["id"]) is AttemptState.PAID
        request = RefundRequest(
            charge=row["key"], money=None, request_key=f"back-{row['id']}", reason="sent back", fate=Fate.KEEP
        )
        refund_payment.ask(made, request, "kim")
    return made


def states(shop: Services, account: str) -> set[RefundState]:
    """The states of an account's refunds."""
    with shop.engine.begin() as db:
        rows = db.execute(text("SELECT state FROM refunds WHERE account = :account"), {"account": account})
        return {RefundState(state) for (state,) in rows}


def test_refunds_of_an_account_are_made_while_those_of_another_one_hang(
    shop: Services, silent: SlowToTell
) -> None:
    """Guard: a refund that hangs occupies a thread of its own account, and the task that began it none at all."""
    executor = Executor(shop)
    for _ in range(3):
        refund_payment.make_due(shop, executor.chores.begin)
    assert wait_until(lambda: states(shop, "main") == {RefundState.MADE}, 30)
    assert states(shop, "second") <= {RefundState.ASKED, RefundState.SENDING}
    assert not silent.cancellations
    silent.tells.set()
    assert wait_until(executor.chores.is_idle, 30)
    assert len({order.imp_uid for order in silent.cancellations}) == len(silent.cancellations) == REFUNDS
    assert states(shop, "second") == {RefundState.MADE}


def test_refunds_that_pile_up_hide_those_of_no_other_account(shop: Services) -> None:
    """Guard: as many of each account are begun, not the oldest of all."""
    with shop.engine.begin() as db:
        found = refunds.due(db, shop.clock.now(), 2)
    assert sorted(refund.account for refund in found) == ["main", "main", "second", "second"]


def test_cards_that_were_not_looked_at_are_looked_at_soon(shop: Services) -> None:
    """Guard: a gateway that fails for a moment delays no card by a day, nor does a stop."""
    now = shop.clock.now()
    with shop.engine.begin() as db:
        unread = ", ".join(f"{name} = NULL" for name in NO_FACTS)
        db.execute(text(f"UPDATE billing_keys SET ask_at = :now, {unread}"), {"now": now})

    class Fails(ScriptedGateway):
        def read_key(self, customer_uid: str) -> KeyAnswer:
            return Unknown("ReadTimeout")

    cards.look_due(replace(shop, gateways={**shop.gateways, "main": Fails()}), "main")
    going_on = iter([True, False])  # a stop after the cards were taken
    assert cards.look_due(shop, "second", lambda: next(going_on)) == 0
    with shop.engine.begin() as db:
        (latest,) = db.execute(text("SELECT max(ask_at) FROM billing_keys")).one()
    assert latest <= now + timedelta(minutes=10)


def test_requests_of_an_account_are_refused_while_those_before_them_hang() -> None:
    """Guard: so many threads of a process and no more wait for one account's gateway, and others find theirs."""
    places, over = RequestPlaces(), threading.Event()
    started = threading.Semaphore(0)

    def hang() -> None:
        with places.request(2) as take:
            take("second")
            take("second")  # the same request calls twice, in one place
            started.release()
            assert over.wait(60)

    def ask(account: str) -> str:
        with places.request(2) as take:
            take(account)
        return account

    with ThreadPoolExecutor(6) as threads:
        hanging = [threads.submit(hang) for _ in range(2)]
        for _ in hanging:
            assert started.acquire(timeout=30)
        with pytest.raises(AccountBusy, match="nothing was done") as refused:
            ask("second")
        assert refused.value.code is Code.UNAVAILABLE
        assert ask("main") == "main"
        over.set()
        for each in hanging:
            each.result(30)
    assert ask("second") == "second"


def test_a_request_waits_for_a_place_while_its_account_answers() -> None:
    """Guard: a burst of requests at a gateway that answers is not refused."""
    places, order = RequestPlaces(), threading.Semaphore(0)

    def ask() -> None:
        with places.request(1) as take:
            take("main")
            assert order.acquire(timeout=30)

    with ThreadPoolExecutor(5) as threads:
        asked = [threads.submit(ask) for _ in range(5)]
        for _ in asked:
            order.release()
        for each in asked:
            each.result(30)


def test_a_request_that_finds_no_place_does_nothing(shop: Services, gateway: ScriptedGateway) -> None:
    """Guard: it may be sent again."""

    def busy(account: str) -> None:
        raise AccountBusy(Code.UNAVAILABLE, f"account {account} is busy")

    with pytest.raises(AccountBusy):
        cards.changed(replace(shop, before_calls=busy), "main-0", "kim", "a new card")
    with shop.engine.begin() as db:
        assert db.execute(text("SELECT count(*) FROM audit WHERE verb = 'card.changed'")).scalar_one() == 0
