"""Look-ups in a process: an account whose gateway does not answer takes no other account's threads and places."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from schedules.charging.charges import AttemptState, ChargeStatus
from schedules.charging.outcomes import Outcome, Unknown
from tests.doubles import ScriptedGateway, SlowToTell
from tests.factories import attempt_rows, charge_rows, on_sale
from worker.charging import attempt_charge, resolve_unknown
from worker.charging.account_threads import PLACES, AccountThreads
from worker.charging.executor import Executor
from worker.clock import wait_until
from worker.customers import enrollment
from worker.gateway.port import ChargeOrder
from worker.renewals import open_charges
from worker.runtime import stop_signal
from worker.services import Services

THREADS = 4  # of the process, as Celery has them
IN_DOUBT, CHARGES = 60, 12


@pytest.fixture
def silent() -> Iterator[SlowToTell]:
    """The further account's gateway, which answers when the test is over."""
    gateway = SlowToTell()
    yield gateway
    gateway.tells.set()


@pytest.fixture
def shop(services: Services, gateway: ScriptedGateway, silent: SlowToTell) -> Services:
    """A shop with two accounts."""
    main = services.settings.main_account
    made = replace(
        services,
        gateways={"main": gateway, "second": silent},
        accounts={"main": main, "second": replace(main, name="second")},
    )
    on_sale(made)
    return made


@pytest.fixture
def not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop signal of a test does not last beyond it."""
    monkeypatch.setattr("worker.runtime.stop_signal._flag", stop_signal.StopFlag())


def charges_of(shop: Services, account: str, many: int) -> list[int]:
    """So many charges of an account that are due."""
    before = {row["id"] for row in charge_rows(shop)}
    for number in range(many):
        uid = f"{account}-{len(before) + number}"
        enrollment.add_customer(shop, uid, None, None, None, "test", account=account)
        enrollment.subscribe(shop, uid, "monthly", "test")
    open_charges.open_due(shop)
    return [row["id"] for row in charge_rows(shop) if row["id"] not in before]


def in_doubt(shop: Services, account: str, many: int) -> list[int]:
    """So many attempts of an account whose outcome is unknown, and whose look-up is due; their charges' ids."""
    ids = charges_of(shop, account, many)
    calls = ScriptedGateway()
    calls.answers.extend([Unknown("ReadTimeout")] * many)
    for charge_id in ids:
        attempt_charge.attempt(replace(shop, gateways={**shop.gateways, account: calls}), charge_id)
    with shop.engine.begin() as db:
        statement = text("UPDATE attempts SET next_ask_at = :now WHERE charge_id = ANY(:ids)")
        db.execute(statement, {"now": shop.clock.now(), "ids": ids})
    return ids


def looked_up_first(shop: Services, account: str, many: int) -> list[int]:
    """So many charges of an account whose keys may have been used before a restore."""
    last = max((row["id"] for row in charge_rows(shop)), default=0)
    ids = charges_of(shop, account, many)
    with shop.engine.begin() as db:
        statement = "UPDATE installation SET asked_to = :last, restored_at = :now"
        db.execute(text(statement), {"last": last, "now": shop.clock.now()})
    return ids


def test_charges_and_look_ups_of_an_account_are_done_while_those_of_another_one_hang(
    shop: Services, gateway: ScriptedGateway, silent: SlowToTell
) -> None:
    """Guard: a look-up that hangs holds no thread of the process, and no place of another account."""
    ours, charges = in_doubt(shop, "main", 5), charges_of(shop, "main", CHARGES)
    theirs, firsts = in_doubt(shop, "second", IN_DOUBT), looked_up_first(shop, "second", CHARGES)
    executor = Executor(shop)
    with ThreadPoolExecutor(THREADS) as threads:
        asked_first = [threads.submit(executor.attempt, charge_id) for charge_id in firsts]
        begun = [threads.submit(resolve_unknown.begin_due, shop, executor.look_ups.begin) for _ in range(THREADS)]
        tried = [threads.submit(executor.attempt, charge_id) for charge_id in charges]
        assert [each.result(30) for each in tried] == [AttemptState.PAID] * CHARGES
        assert [each.result(30) for each in asked_first] == [None] * CHARGES
        for each in begun:
            each.result(30)
    asked = {row["merchant_uid"] for row in attempt_rows(shop) if row["charge_id"] in ours}
    assert wait_until(lambda: asked <= set(gateway.asked), 30)
    assert len(silent.asked) == PLACES
    states = {row["state"] for row in attempt_rows(shop) if row["charge_id"] in (*theirs, *firsts)}
    assert states == {AttemptState.UNKNOWN}


def test_a_charge_is_tried_after_a_clear_look_up_whatever_waits_in_the_queue(
    shop: Services, gateway: ScriptedGateway
) -> None:
    """Guard: an answer lasts a minute; a charge whose next message comes later would be asked about for ever."""
    (charge_id,) = looked_up_first(shop, "main", 1)
    executor = Executor(shop)
    assert executor.attempt(charge_id) is None
    assert wait_until(executor.look_ups.is_idle, 20)
    (row,) = charge_rows(shop)
    assert (row["asked_at"], row["status"]) == (shop.clock.now(), ChargeStatus.PAID)
    assert (len(gateway.asked), len(gateway.sent)) == (1, 1)


def test_a_further_message_of_a_charge_that_waits_for_its_look_up_ends(shop: Services, silent: SlowToTell) -> None:
    """Guard: it would be queued again every few seconds for as long as the look-up hangs."""
    (charge_id,) = looked_up_first(shop, "second", 1)
    with shop.engine.begin() as db:
        db.execute(text("UPDATE charges SET queued_until = now() + interval '1 hour'"))
    (before,) = charge_rows(shop)
    executor = Executor(shop)
    for _ in range(2):
        assert executor.attempt(charge_id) is None
    assert charge_rows(shop) == [before]
    silent.tells.set()
    assert wait_until(executor.look_ups.is_idle, 20)
    assert [row["status"] for row in charge_rows(shop)] == [ChargeStatus.PAID]
    assert len(silent.asked) == 1


def test_a_stop_waits_for_the_call_that_follows_a_look_up(
    shop: Services, gateway: ScriptedGateway, not_told: None
) -> None:
    """Guard: no task waits for it; a process that ended would leave it unknown."""
    (charge_id,) = looked_up_first(shop, "main", 1)
    begun, answers = threading.Event(), threading.Event()

    def slow(order: ChargeOrder) -> Outcome:
        begun.set()
        assert answers.wait(20)
        return gateway.approve(order)

    gateway.answers.append(slow)
    executor = Executor(shop)
    executor.attempt(charge_id)
    assert begun.wait(20)
    stop_signal.begin()
    finished = threading.Thread(target=executor.finish)
    finished.start()
    finished.join(0.3)
    assert finished.is_alive()
    answers.set()
    finished.join(20)
    assert [row["status"] for row in charge_rows(shop)] == [ChargeStatus.PAID]


def test_a_second_webhook_of_a_payment_is_looked_up_after_the_first() -> None:
    """Guard: the first look-up may have read the payment before the change that the second webhook reports."""
    over, started = threading.Event(), threading.Semaphore(0)

    def hang() -> None:
        started.release()
        assert over.wait(20)

    look_ups = AccountThreads(repeats=True)
    assert [look_ups.begin("main", "uid", hang) for _ in range(3)] == [True] * 3
    assert started.acquire(timeout=20)
    over.set()
    assert wait_until(look_ups.is_idle, 20)
    assert started.acquire(blocking=False)
    assert not started.acquire(blocking=False)


def test_a_stop_whose_database_is_away_gives_back_one_look_up_and_no_more() -> None:
    """Guard: each would wait for its time-out, and the stop would outlast its limit."""
    over, tried = threading.Event(), list[int]()

    def away() -> None:
        tried.append(1)
        raise OperationalError("", {}, Exception("away"))

    look_ups = AccountThreads(places=1)
    for number in range(5):
        assert look_ups.begin("main", f"{number}", over.wait, away)
    look_ups.finish(0)
    assert len(tried) == 1
    over.set()
    assert wait_until(look_ups.is_idle, 20)


def test_a_process_that_ends_leaves_the_look_ups_that_wait_due(
    shop: Services, silent: SlowToTell, not_told: None
) -> None:
    """Guard: a look-up that has not begun holds no claim, and its charge is queued again at once."""
    theirs, firsts = in_doubt(shop, "second", 2 * PLACES), looked_up_first(shop, "second", 3)
    with shop.engine.begin() as db:
        db.execute(text("UPDATE charges SET queued_until = now() + interval '1 hour' WHERE queued_until IS NULL"))
    executor = Executor(shop)
    resolve_unknown.begin_due(shop, executor.look_ups.begin)
    assert wait_until(lambda: len(silent.asked) == PLACES, 20)
    for charge_id in firsts:
        executor.attempt(charge_id)
    stop_signal.begin()
    executor.look_ups.finish(0)
    silent.tells.set()
    assert wait_until(executor.look_ups.is_idle, 20)
    assert len(silent.asked) == PLACES
    asked = [row["asks"] for row in attempt_rows(shop) if row["charge_id"] in theirs]
    assert sorted(asked) == [0] * PLACES + [1] * PLACES
    assert sum(row["next_ask_at"] <= shop.clock.now() for row in attempt_rows(shop)) == PLACES
    with shop.engine.begin() as db:
        soon = "SELECT count(*) FROM charges WHERE queued_until < now() + interval '1 minute' AND id = ANY(:ids)"
        assert db.execute(text(soon), {"ids": firsts}).scalar_one() == len(firsts)


def test_an_account_whose_look_ups_pile_up_hides_no_other_account(shop: Services) -> None:
    """Guard: as many of each account are begun, not the oldest of all."""
    in_doubt(shop, "second", 4)
    (ours,) = in_doubt(shop, "main", 1)
    due = resolve_unknown.due_asks(shop, 2)
    assert sorted(due.values()) == ["main", "second", "second"]
    (row,) = (row for row in attempt_rows(shop) if row["charge_id"] == ours)
    assert due[row["id"]] == "main"
    assert [row["status"] for row in charge_rows(shop)] == [ChargeStatus.OPEN] * 5


def test_look_ups_of_one_account_beyond_its_bound_are_not_begun() -> None:
    over, started = threading.Event(), threading.Semaphore(0)

    def hang() -> None:
        started.release()
        over.wait()

    look_ups = AccountThreads(places=2, waiting=3)
    assert [look_ups.begin("second", f"{number}", hang) for number in range(7)] == [True] * 5 + [False] * 2
    assert [started.acquire(timeout=20) for _ in range(2)] == [True, True]
    assert look_ups.begin("second", "0", hang)  # it has not ended
    done = threading.Event()
    assert look_ups.begin("main", "0", done.set)
    assert done.wait(20)
    assert not started.acquire(blocking=False)
    over.set()
    assert wait_until(look_ups.is_idle, 20)
    assert look_ups.begin("second", "0", partial(started.release))


def test_a_look_up_that_fails_keeps_none_of_its_account_from_being_carried_out() -> None:
    def fail() -> None:
        raise ValueError("a fault of ours")

    look_ups, done = AccountThreads(places=1), threading.Event()
    assert look_ups.begin("main", "fails", fail)
    assert look_ups.begin("main", "follows", done.set)
    assert done.wait(20)
