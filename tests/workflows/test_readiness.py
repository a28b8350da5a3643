"""A process that may not or cannot send takes no charges, and gives back those that it has taken."""

import logging
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from schedules.charging.outcomes import Declined, NotSent, Paid
from schedules.operations.queues import BULK
from tests.doubles import ScriptedGateway
from tests.factories import START, charge_rows, many_opened, move, opened
from worker import tasks
from worker.charging import attempt_charge, readiness
from worker.charging.executor import Executor
from worker.charging.readiness import IN_VAIN, Readiness
from worker.clock import FixedClock
from worker.gateway.port import NO_CONNECTION
from worker.operations import operate
from worker.renewals import enqueue
from worker.services import Services
from worker.store.charging.charges import Obstacle

AHEAD = timedelta(hours=2)
REFUSED = NotSent(NO_CONNECTION)


def skewed(services: Services, ahead: timedelta = AHEAD) -> Services:
    """The same services on a machine whose clock is wrong."""
    return replace(services, clock=FixedClock(services.clock.now() + ahead, ahead=ahead))


def why(ready: Readiness) -> str | None:
    """Why it takes no charges."""
    return ready.obstacle


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said at level ERROR."""
    return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


@pytest.mark.parametrize("ahead", [AHEAD, -AHEAD])
def test_a_worker_whose_clock_is_wrong_takes_no_charges_until_it_is_right(
    services: Services, ahead: timedelta, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FixedClock(START, ahead=ahead)
    ready = Readiness(replace(services, clock=clock))
    for _ in range(3):
        ready.look()
    assert why(ready) is not None
    assert "clock" in str(why(ready))
    assert len(errors(caplog)) == 1
    clock.ahead = timedelta(0)
    ready.look()
    assert why(ready) is None


def test_a_worker_of_another_environment_takes_no_charges(services: Services) -> None:
    ready = Readiness(replace(services, fingerprint_in=lambda _: "another"))
    ready.look()
    assert why(ready) is not None


def test_a_stop_and_a_hold_are_the_same_for_every_worker(services: Services) -> None:
    """None is better than another, and charges are queued for none of them."""
    operate.stop_charging(services, "tester", "a test")
    ready = Readiness(services)
    ready.look()
    assert why(ready) is None


@pytest.mark.parametrize("ahead", [AHEAD, -AHEAD])
def test_what_an_unfit_worker_has_taken_is_queued_again_soon_by_the_right_time(
    services: Services, ahead: timedelta
) -> None:
    """Guard: it would wait for the patience with its message; a time by the wrong clock would be hours away."""
    ids = many_opened(services, 2)
    assert enqueue.top_up(services, lambda _: None) == 2
    for charge_id in ids:
        assert attempt_charge.claim(skewed(services, ahead), charge_id) is None
    move(services, seconds=enqueue.GIVEN_BACK.total_seconds())
    assert enqueue.top_up(services, lambda _: None) == 2


def test_an_account_without_credentials_here_is_given_back(services: Services) -> None:
    charge_id = opened(services)
    assert enqueue.top_up(services, lambda _: None) == 1
    assert attempt_charge.claim(replace(services, gateways={"other": ScriptedGateway()}), charge_id) is None
    move(services, seconds=enqueue.GIVEN_BACK.total_seconds())
    assert enqueue.top_up(services, lambda _: None) == 1


def test_an_unfit_worker_carries_out_neither_a_message_nor_an_envelope(
    services: Services, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = Executor(services)
    monkeypatch.setattr(tasks, "services", lambda: services)
    monkeypatch.setattr(tasks, "executor", lambda: executor)
    ids = many_opened(services, 3)
    assert enqueue.top_up(services, lambda _: None) == 3
    executor.readiness.obstacle = "a test"
    tasks.carry_out(ids[0], "main", BULK)
    tasks.carry_out_envelope(ids[1:], "main")
    assert gateway.sent == []
    move(services, seconds=enqueue.GIVEN_BACK.total_seconds())
    assert enqueue.top_up(services, lambda _: None) == 3


def test_what_is_held_back_by_a_wrong_clock_is_due_by_the_right_time(services: Services) -> None:
    """Guard: a charge that was claimed before the clock was set wrong."""
    charge_id = opened(services)
    claimed = attempt_charge.claim(services, charge_id)
    assert claimed is not None
    attempt_charge.hold_back(skewed(services), claimed, Obstacle("this machine's clock is wrong"))
    (row,) = charge_rows(services)
    assert row["next_attempt_at"] == services.clock.now() + attempt_charge.HELD_BACK


def test_a_worker_that_reaches_no_gateway_rests_longer_each_time(
    services: Services, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 1000.0
    monkeypatch.setattr(readiness, "elapsed", lambda: now)
    ready = Readiness(services)
    for _ in range(IN_VAIN - 1):
        ready.came("main", REFUSED)
    assert why(ready) is None
    ready.came("main", REFUSED)
    assert why(ready) is not None
    rests: list[float] = []
    for _ in range(3):
        began = now
        while why(ready) is not None:
            now += 1
            ready.look()
        rests.append(now - began)
        ready.came("main", REFUSED)  # the first that is tried after it
    assert rests == [10, 20, 30]
    assert len(errors(caplog)) == 1


@pytest.mark.parametrize("answer", [Paid("imps_1"), Declined("no money"), NotSent("HTTP 429")])
def test_one_call_that_reaches_the_gateway_is_enough(
    services: Services, answer: Paid | Declined | NotSent
) -> None:
    ready = Readiness(services)
    for _ in range(3):
        for _ in range(IN_VAIN - 1):
            ready.came("main", REFUSED)
        ready.came("main", answer)
    assert why(ready) is None


def test_a_database_that_does_not_answer_is_an_obstacle_from_the_second_look_on(services: Services) -> None:
    ready = Readiness(services)
    with services.engine.begin() as db:
        db.execute(text("ALTER TABLE installation RENAME TO away"))
    ready.look()
    assert why(ready) is None
    ready.look()
    assert why(ready) is not None
    with services.engine.begin() as db:
        db.execute(text("ALTER TABLE away RENAME TO installation"))
    ready.look()
    assert why(ready) is None


def test_an_account_that_rests_keeps_no_other_account_from_its_turn(services: Services) -> None:
    ready = Readiness(services)
    ready.came("other", Paid("imps_1"))
    for _ in range(IN_VAIN):
        ready.came("main", REFUSED)
    ready.look()
    assert why(ready) is None
    assert (ready.rests("main"), ready.rests("other")) == (True, False)
    for _ in range(IN_VAIN):
        ready.came("other", REFUSED)
    assert why(ready) is not None


def test_an_account_without_work_is_not_waited_for(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guard: the last one with work rests, and this worker would take the other workers' messages."""
    now = 1000.0
    monkeypatch.setattr(readiness, "elapsed", lambda: now)
    ready = Readiness(services)
    ready.came("other", Paid("imps_1"))
    now += readiness.AT_WORK
    for _ in range(IN_VAIN):
        ready.came("main", REFUSED)
    assert why(ready) is not None


def test_a_group_that_fails_counts_once(services: Services) -> None:
    """One look that the database did not answer is told for each charge of the group."""
    ready = Readiness(services)
    groups = [TimeoutError() for _ in range(IN_VAIN)]
    for error in groups[:-1]:
        for _ in range(64):
            ready.in_vain("main", "the pre-send check failed", error)
    assert why(ready) is None
    ready.in_vain("main", "the pre-send check failed", groups[-1])
    assert why(ready) is not None


def test_one_account_is_charged_while_the_gateway_of_another_one_is_away(
    services: Services, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: one account's gateway would keep this worker from charging for any account."""
    away = ScriptedGateway()
    accounts = {name: replace(services.settings.main_account, name=name) for name in ("main", "other")}
    both = replace(services, gateways={"main": gateway, "other": away}, accounts=accounts)
    executor = Executor(both)
    monkeypatch.setattr(tasks, "services", lambda: both)
    monkeypatch.setattr(tasks, "executor", lambda: executor)
    ids = many_opened(services, 2 * IN_VAIN)
    others = ids[:IN_VAIN]
    with services.engine.begin() as db:
        db.execute(text("UPDATE charges SET account = 'other' WHERE id = ANY(:ids)"), {"ids": ids[: IN_VAIN + 2]})
    ready = executor.readiness
    tasks.carry_out(ids[-1], "main", BULK)
    away.answers += [REFUSED] * IN_VAIN
    for charge_id in others:
        tasks.carry_out(charge_id, "other", BULK)
    assert ready.rests("other")
    ready.look()
    assert why(ready) is None
    tasks.carry_out(ids[IN_VAIN], "other", BULK)
    tasks.carry_out_envelope([ids[IN_VAIN + 1]], "other")
    tasks.carry_out(ids[-2], "main", BULK)
    tasks.carry_out_envelope(ids[-4:-2], "main")
    assert len(away.sent) == IN_VAIN
    assert len(gateway.sent) == 4
    given_back = [row for row in charge_rows(services) if row["id"] in ids[IN_VAIN : IN_VAIN + 2]]
    assert [row["attempts"] for row in given_back] == [0, 0]
