"""Flowing: many charges under way come to the same as one by one, whatever fails between their steps."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from celery.signals import worker_shutting_down
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError

from schedules.charging.charges import AttemptState
from schedules.charging.outcomes import Declined, NotSent, Outcome, Paid, Unknown
from schedules.operations.queues import BULK, CHARGES
from tests.doubles import ScriptedGateway
from tests.factories import (
    OTHER_DEBT,
    attempt_rows,
    charge_rows,
    many_opened,
    move,
    with_settings,
    write,
)
from worker import tasks
from worker.charging import attempt_charge, send_queue
from worker.charging import executor as executor_module
from worker.charging.account_places import AccountPlaces, most_charges, most_envelopes
from worker.charging.executor import Envelope, Executor
from worker.clock import wait_until
from worker.gateway.port import ChargeOrder
from worker.operations import operate
from worker.renewals import enqueue
from worker.runtime import stop_signal
from worker.services import Services
from worker.store.charging import payments


@pytest.fixture
def executor(services: Services) -> Executor:
    """What carries out the charges of one process."""
    return Executor(services)


def carried_out(executor: Executor, charge_ids: list[int]) -> Envelope:
    """An envelope, from its beginning to its end."""
    under_way = executor.begin_many(charge_ids, "main")
    under_way.wait()
    return under_way


def test_what_is_done_in_a_flow_leaves_the_same_rows_as_alone(
    services: Services, gateway: ScriptedGateway
) -> None:
    alone, grouped = many_opened(services, 2)
    attempt_charge.attempt(services, alone)
    Executor(services).attempt(grouped)
    one, other = (_story(services, charge_id) for charge_id in (alone, grouped))
    assert one == other
    assert one["charge"]["status"] == "paid"
    assert len(gateway.sent) == 2


def _story(services: Services, charge_id: int) -> dict[str, Any]:
    """Everything that is written of a charge, but for what names it."""
    own = {"id", "key", "subscription_id", "billing_key_id", "due_at", "charge_id", "merchant_uid", "attempt_id",
           "dedupe_key", "subject", "imp_uid", "answer"}  # fmt: skip
    queries = {
        "charge": "SELECT * FROM charges WHERE id = :charge",
        "attempt": "SELECT * FROM attempts WHERE charge_id = :charge",
        "events": "SELECT e.* FROM attempt_events e JOIN attempts a ON a.id = e.attempt_id "
        "WHERE a.charge_id = :charge ORDER BY e.id",
        "notices": "SELECT o.* FROM outbox o JOIN charges c ON c.key = o.subject WHERE c.id = :charge",
    }
    told: dict[str, Any] = {}
    with services.engine.begin() as db:
        for name, query in queries.items():
            rows = [dict(row) for row in db.execute(text(query), {"charge": charge_id}).mappings()]
            kept = [{column: value for column, value in row.items() if column not in own} for row in rows]
            told[name] = kept[0] if name == "charge" else kept
    for notice in told["notices"]:
        payload = notice["payload"]
        assert payload["merchant_uid"].startswith("ag1test")
        notice["payload"] = {name: payload[name] for name in payload if name not in
                             ("charge", "subscription", "customer_uid", "merchant_uid")}  # fmt: skip
    return told


def test_an_envelope_carries_out_each_of_its_charges(
    services: Services, executor: Executor, gateway: ScriptedGateway
) -> None:
    ids = many_opened(services, 40)
    answers: dict[str, Outcome] = {
        "customer-3": Declined("no money"), "customer-5": Unknown("ReadTimeout"),
        "customer-7": NotSent("ConnectError"),
    }  # fmt: skip
    for uid, answer in answers.items():
        gateway.cards[uid] = partial(_answering, answer)
    carried_out(executor, ids)
    states = sorted(row["state"] for row in attempt_rows(services))
    assert states == sorted(["paid"] * 37 + ["declined", "unknown", "not_sent"])
    assert len({order.merchant_uid for order in gateway.sent}) == len(gateway.sent) == 40
    paid = [row for row in charge_rows(services) if row["status"] == "paid"]
    assert len(paid) == 37


def _answering(answer: Outcome, order: ChargeOrder) -> Outcome:
    return answer


def test_an_envelope_that_comes_twice_charges_once(
    services: Services, executor: Executor, gateway: ScriptedGateway
) -> None:
    """Guard: two copies of a message in one group are one claim."""
    ids = many_opened(services, 10)
    for _ in range(2):
        carried_out(executor, [*ids[:3], *ids[:3], *ids])
    assert len(gateway.sent) == 10
    assert [row["sends"] for row in attempt_rows(services)] == [1] * 10


def test_an_empty_envelope_is_no_work(executor: Executor) -> None:
    assert carried_out(executor, []).not_begun == []


def test_what_is_tried_again_goes_the_same_way(
    services: Services, executor: Executor, gateway: ScriptedGateway
) -> None:
    """It is not plain: claimed alone, and settled alone, and yet no thread waits for its call."""
    ids = many_opened(services, 12)
    for number in range(12):
        gateway.cards[f"customer-{number}"] = partial(_answering, Declined("no money"))
    carried_out(executor, ids)
    assert {row["status"] for row in charge_rows(services)} == {"past_due"}
    gateway.cards.clear()
    move(services, days=1)
    carried_out(executor, ids)
    assert {row["status"] for row in charge_rows(services)} == {"paid"}
    assert sorted(row["number"] for row in attempt_rows(services)) == [1] * 12 + [2] * 12


def test_a_payment_that_is_left_is_settled_alone(
    services: Services, executor: Executor, gateway: ScriptedGateway
) -> None:
    """Another debt of the card waits behind it, and is woken."""
    odd, other = many_opened(services, 2)

    def meanwhile(order: ChargeOrder) -> Outcome:
        write(services, "UPDATE charges SET next_attempt_at = due_at + interval '2 hours'", 0)
        write(services, OTHER_DEBT, odd)
        return gateway.approve(order)

    gateway.answers.append(meanwhile)
    assert executor.attempt(odd) is AttemptState.PAID
    rows = {row["id"]: row for row in charge_rows(services)}
    assert rows[odd]["status"] == "paid"
    assert rows[other]["next_attempt_at"] <= services.clock.now()


def test_a_charge_that_fails_keeps_no_other_waiting(
    services: Services, executor: Executor, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = many_opened(services, 6)
    sending = gateway.sending

    def broken(order: ChargeOrder) -> Any:
        if order.customer_uid == "customer-2":
            raise RuntimeError("a fault of ours")
        return sending(order)

    monkeypatch.setattr(gateway, "sending", broken)
    carried_out(executor, ids)
    assert [row["status"] for row in charge_rows(services)].count("paid") == 5
    move(services, seconds=attempt_charge.HELD_BACK.total_seconds())
    with pytest.raises(RuntimeError, match="a fault of ours"):
        executor.attempt(ids[2])
    assert attempt_rows(services)[2]["state"] == "ready"


def _away(*_: object, **__: object) -> Any:
    raise OperationalError("", {}, Exception("away"))


def test_a_database_that_is_away_is_told_to_everybody(services: Services, executor: Executor) -> None:
    (charge,) = many_opened(services, 1)
    event.listen(services.engine, "begin", _away)
    try:
        with pytest.raises(OperationalError):
            executor.attempt(charge)
        carried_out(executor, [charge])
    finally:
        event.remove(services.engine, "begin", _away)
    assert executor.attempt(charge) is AttemptState.PAID


def test_claims_that_cannot_leave_are_given_back(
    services: Services, executor: Executor, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: a short fault of the database between a claim and its call costs no lease and no question."""
    ids = many_opened(services, 3)
    with monkeypatch.context() as broken:
        broken.setattr(send_queue, "request_permits", _away)
        carried_out(executor, ids)
    assert [row["state"] for row in attempt_rows(services)] == ["ready"] * 3
    move(services, seconds=attempt_charge.HELD_BACK.total_seconds())
    for charge_id in ids:
        assert executor.attempt(charge_id) is AttemptState.PAID
    assert len(gateway.sent) == 3


def test_claims_that_cannot_be_given_back_either_wait_for_their_lease(
    services: Services, executor: Executor, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = many_opened(services, 2)
    with monkeypatch.context() as broken:
        broken.setattr(send_queue, "request_permits", _away)
        broken.setattr(attempt_charge, "hold_back", _away)
        carried_out(executor, ids)
    assert [row["state"] for row in attempt_rows(services)] == ["sending"] * 2
    assert gateway.sent == []


def test_a_payment_that_cannot_be_written_holds_no_envelope_open(
    services: Services, executor: Executor, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said, and found again by asking: the attempt is under way until its lease has run out."""
    ids = many_opened(services, 2)

    def broken(*_: object) -> Any:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(payments, "lock", broken)
    carried_out(executor, ids)
    rows = attempt_rows(services)
    assert [row["state"] for row in rows] == ["sending"] * 2
    for row in rows:
        words = f"{row['merchant_uid']}: the outcome could not be written, and will be looked up: RuntimeError"
        assert words in caplog.text


def test_a_decline_that_cannot_be_written_holds_no_envelope_open(
    services: Services, executor: Executor, gateway: ScriptedGateway, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    ids = many_opened(services, 2)
    gateway.answers.extend([Declined("no money"), Declined("no money")])
    monkeypatch.setattr(executor_module, "settle_alone", _away)
    carried_out(executor, ids)
    assert [row["state"] for row in attempt_rows(services)] == ["sending"] * 2
    assert caplog.text.count("could not be written, and will be looked up: OperationalError") == 2


def test_an_envelope_claims_no_more_than_leaves_soon(
    services: Services, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: what is claimed and cannot leave waits under a lease that runs, for a gateway that is slow."""
    monkeypatch.setattr(executor_module, "CLAIMED_AHEAD", 3)
    ids = many_opened(services, 12)
    go_on = threading.Event()

    def slow(order: ChargeOrder) -> Outcome:
        assert go_on.wait(20)
        return gateway.approve(order)

    for number in range(12):
        gateway.cards[f"customer-{number}"] = slow
    executor = Executor(with_settings(services, concurrency=2))
    done = threading.Thread(target=carried_out, args=(executor, ids))
    done.start()
    assert wait_until(lambda: len(attempt_rows(services)) == 2 + 3, 20)
    assert not wait_until(lambda: len(attempt_rows(services)) > 2 + 3, 0.3)
    assert len(gateway.sent) == 2
    go_on.set()
    done.join(20)
    assert [row["status"] for row in charge_rows(services)] == ["paid"] * 12


def test_an_envelope_of_a_worker_that_stops_ends_with_what_is_begun(
    services: Services, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch, not_told: None
) -> None:
    """Guard: what is not begun is given back, so that a worker stops within its calls, not its envelopes."""
    monkeypatch.setattr(executor_module, "CLAIMED_AHEAD", 2)
    ids = many_opened(services, 9)

    def stop(order: ChargeOrder) -> Outcome:
        stop_signal.begin()
        return gateway.approve(order)

    gateway.answers.append(stop)
    executor = Executor(with_settings(services, concurrency=1))
    not_begun = carried_out(executor, ids).not_begun
    assert len(not_begun) >= 4
    begun = ids[: len(ids) - len(not_begun)]
    assert not_begun == ids[len(begun) :]
    assert sorted(row["charge_id"] for row in attempt_rows(services)) == begun
    states = [row["state"] for row in attempt_rows(services)]
    assert len(gateway.sent) == states.count("paid") == len(begun) - states.count("ready")


def test_what_is_claimed_and_has_not_left_is_given_back_when_the_process_stops(
    services: Services, gateway: ScriptedGateway, not_told: None
) -> None:
    """Guard: nothing new leaves after SIGTERM; another worker sends it at once."""
    ids = many_opened(services, 6)
    go_on = threading.Event()

    def slow(order: ChargeOrder) -> Outcome:
        assert go_on.wait(30)
        return gateway.approve(order)

    gateway.answers.append(slow)
    executor = Executor(with_settings(services, concurrency=1))
    under_way = executor.begin_many(ids, "main")
    assert wait_until(lambda: len(gateway.sent) == 1 and len(attempt_rows(services)) == len(ids), 20)
    stop_signal.begin()
    executor.stop()
    ready = [row["id"] for row in charge_rows(services)][1:]
    assert wait_until(lambda: [row["state"] for row in attempt_rows(services)].count("ready") == len(ready), 20)
    go_on.set()
    under_way.wait()
    due = [row["next_attempt_at"] for row in charge_rows(services)]
    assert due.count(None) == 1
    assert due.count(services.clock.now()) == len(ready)
    assert len(gateway.sent) == 1


@pytest.fixture
def not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop signal of a test does not last beyond it."""
    monkeypatch.setattr("worker.runtime.stop_signal._flag", stop_signal.StopFlag())


@pytest.fixture
def together(services: Services, executor: Executor, monkeypatch: pytest.MonkeyPatch) -> Services:
    """The tasks of a worker, with these services."""
    monkeypatch.setattr(tasks, "services", lambda: services)
    monkeypatch.setattr(tasks, "executor", lambda: executor)
    monkeypatch.setattr(tasks, "_places", AccountPlaces(hangs=0))
    return services


def test_what_a_stopping_worker_has_not_begun_is_queued_again(together: Services, not_told: None) -> None:
    ids = many_opened(together, 2)
    enqueue.top_up(together, lambda _: None)
    worker_shutting_down.send(None, sig="SIGTERM", how="Warm", exitcode=0)
    assert stop_signal.is_told()
    tasks.carry_out(ids[0], "main", BULK)
    tasks.carry_out_envelope(ids, "main")
    assert not attempt_rows(together)
    move(together, seconds=enqueue.GIVEN_BACK.total_seconds())
    assert enqueue.top_up(together, lambda _: None) == 2


def test_an_envelope_that_cannot_be_given_back_waits_for_what_it_has_begun(
    together: Services, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch, not_told: None
) -> None:
    """Guard: its task is what a process that ends waits for."""
    monkeypatch.setattr(executor_module, "CLAIMED_AHEAD", 1)
    monkeypatch.setattr(enqueue, "give_back", _away)
    go_on = threading.Event()

    def slow(order: ChargeOrder) -> Outcome:
        stop_signal.begin()
        assert go_on.wait(10)
        return gateway.approve(order)

    gateway.answers.append(slow)
    ids = many_opened(together, 4)
    with ThreadPoolExecutor(1) as pool:
        envelope = pool.submit(tasks.carry_out_envelope, ids, "main")
        assert stop_signal.wait(10)
        assert wait_until(lambda: tasks._places.of("main").opens.acquire(blocking=False), 20)  # no more is begun
        with pytest.raises(TimeoutError):
            envelope.result(0.3)
        go_on.set()
        with pytest.raises(OperationalError):
            envelope.result(10)
    assert [row["status"] for row in charge_rows(together)].count("paid") == len(gateway.sent) > 0


def test_envelopes_of_one_account_leave_threads_for_the_others(together: Services) -> None:
    """Guard: with a low cap an envelope is open for long; what is more than its share is queued again."""
    ids = many_opened(together, 2)
    while tasks._places.of("slow").envelopes.take(most_envelopes(together)):
        pass
    tasks.carry_out_envelope(ids, "slow")
    assert not attempt_rows(together)
    tasks.carry_out_envelope(ids, "main")
    assert [row["status"] for row in charge_rows(together)] == ["paid", "paid"]


def test_single_charges_of_an_account_that_hangs_leave_threads_for_the_others(
    together: Services, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: calls that last up to their deadline would occupy every thread of the worker, one after another."""
    two = replace(with_settings(together, concurrency=4), gateways={"main": gateway, "slow": gateway})
    monkeypatch.setattr(tasks, "services", lambda: two)
    ids = many_opened(together, 4)
    go_on = threading.Event()

    def hang(order: ChargeOrder) -> Outcome:
        assert go_on.wait(30)
        return gateway.approve(order)

    gateway.answers.append(hang)
    with ThreadPoolExecutor(4) as pool:
        hanging = pool.submit(tasks.carry_out, ids[0], "slow", BULK)
        assert wait_until(lambda: len(gateway.sent) == 1, 20)
        tasks.carry_out(ids[1], "slow", BULK)
        assert len(attempt_rows(together)) == 1
        tasks.carry_out(ids[2], "slow", CHARGES)  # requested charges do not wait for renewals
        tasks.carry_out(ids[3], "main", BULK)
        assert [row["status"] for row in charge_rows(together)].count("paid") == 2
        go_on.set()
        hanging.result(30)
    move(together, seconds=enqueue.GIVEN_BACK.total_seconds())
    assert enqueue.top_up(together, lambda _: None) == 1


def test_an_account_that_hung_gets_its_threads_back_by_a_quick_answer_alone() -> None:
    """Guard: when all calls of a wave have timed out, the next wave would occupy every thread again."""
    now = [0.0]
    charges = AccountPlaces(seconds=lambda: now[0]).of("slow").charges[BULK]
    wave = [charges.take(2) for _ in range(4)]
    assert None not in wave
    now[0] = 60.0
    for taken in wave:
        charges.give(taken or 0.0)
    second = [charges.take(2) for _ in range(4)]
    assert second == [60.0, 60.0, None, None]
    now[0] = 61.0
    charges.give(60.0)
    assert None not in [charges.take(2) for _ in range(4)]


def test_the_only_account_of_a_worker_may_occupy_each_of_its_threads(services: Services) -> None:
    assert most_charges(with_settings(services, concurrency=4)) == 4


def test_two_accounts_keep_a_share_for_each_other(services: Services, gateway: ScriptedGateway) -> None:
    two = replace(with_settings(services, concurrency=16), gateways={"main": gateway, "slow": gateway})
    occupied = most_envelopes(two) + 2 * most_charges(two)  # one account's, of both queues
    assert 16 - occupied == most_envelopes(two)


def test_an_envelope_is_over_when_its_last_charge_is(together: Services, gateway: ScriptedGateway) -> None:
    """Guard: a process that ends waits for its tasks, and would cut off calls that no task waits for."""
    ids = many_opened(together, 3)
    begun, go_on = threading.Event(), threading.Event()

    def slow(order: ChargeOrder) -> Outcome:
        begun.set()
        assert go_on.wait(10)
        return gateway.approve(order)

    gateway.answers.append(slow)
    envelope = threading.Thread(target=tasks.carry_out_envelope, args=(ids, "main"))
    envelope.start()
    assert begun.wait(10)
    assert wait_until(lambda: [row["status"] for row in charge_rows(together)].count("paid") == 2, 20)
    assert envelope.is_alive()
    go_on.set()
    envelope.join(10)
    assert [row["status"] for row in charge_rows(together)] == ["paid"] * 3


def test_a_stop_is_seen_by_what_is_claimed_and_has_not_left(
    services: Services, executor: Executor, gateway: ScriptedGateway
) -> None:
    """Guard: the pre-send check of the executor."""
    first, second = many_opened(services, 2)
    slow = Executor(with_settings(services, rate=3.0))

    def stop(order: ChargeOrder) -> Outcome:
        operate.stop_charging(services, "test", "fire")
        return gateway.approve(order)

    gateway.answers.append(stop)
    carried_out(slow, [first, second])
    assert len(gateway.sent) == 1
    assert sorted(row["state"] for row in attempt_rows(services)) == ["paid", "ready"]


def test_nothing_is_claimed_while_no_token_can_be_had(
    services: Services, executor: Executor, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = many_opened(services, 2)
    monkeypatch.setattr(gateway, "prepare", _away)
    with pytest.raises(OperationalError):
        executor.begin_many(ids, "main")
    assert not attempt_rows(services)


def test_log_lines_of_a_payment_name_its_uid(
    services: Services, executor: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    (charge,) = many_opened(services, 1)
    with caplog.at_level(logging.INFO):
        assert executor.attempt(charge) is AttemptState.PAID
    assert attempt_rows(services)[0]["merchant_uid"] in caplog.text


def test_an_answer_that_is_no_payment_is_settled_as_alone(
    services: Services, executor: Executor, gateway: ScriptedGateway
) -> None:
    (charge,) = many_opened(services, 1)
    gateway.answers.append(Paid("imps_1"))
    assert executor.attempt(charge) is AttemptState.PAID
    assert executor.attempt(charge) is None
    assert len(gateway.sent) == 1
