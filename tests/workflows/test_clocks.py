"""Clocks that are wrong, and databases that are others than they were: nothing is sent, nothing is decided."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from schedules.charging.charges import AttemptState
from schedules.charging.outcomes import Outcome, Paid, Unknown
from schedules.money.amounts import Money
from schedules.requests.adhoc import ChargeRequest
from schedules.subscriptions.plans import CatchUp
from tests.doubles import ScriptedGateway
from tests.factories import START, attempt_rows, charge_rows, move, on_sale, opened, subscribed
from tests.services import drop_database, end_engine, fresh_database
from worker.charging import adhoc, attempt_charge, resolve_unknown
from worker.charging.adhoc import CannotRequest
from worker.clock import FixedClock, MovedClock, SystemClock
from worker.customers import adjust
from worker.customers.admit import CannotAdjust
from worker.embedded import EmbeddedServices
from worker.operations import operate
from worker.reconciliation import reconciler
from worker.renewals import enqueue, open_charges
from worker.services import Services
from worker.store.engine import make_engine


@pytest.fixture
def ahead(services: Services) -> Services:
    """The same services on a machine whose clock is eleven seconds ahead of the database's."""
    return replace(services, clock=FixedClock(START, ahead=timedelta(seconds=11)))


def test_a_machine_whose_clock_is_wrong_opens_claims_and_queues_nothing(
    services: Services, ahead: Services, gateway: ScriptedGateway
) -> None:
    """Days ahead, it would open and collect the future."""
    charge = opened(services)
    subscribed(services, "bob")
    assert open_charges.open_due(ahead) == 0
    assert attempt_charge.attempt(ahead, charge) is None
    assert enqueue.top_up(ahead, lambda _: None) == 0
    assert gateway.sent == []


def test_a_clock_that_goes_wrong_after_the_claim_keeps_the_call_from_leaving(
    services: Services, ahead: Services, gateway: ScriptedGateway
) -> None:
    charge = opened(services)
    claimed = attempt_charge.claim(services, charge)
    assert claimed is not None
    assert attempt_charge.carry_out(ahead, claimed) is AttemptState.READY
    assert gateway.sent == []


def test_a_machine_whose_clock_is_wrong_takes_no_lease_away(services: Services, ahead: Services) -> None:
    charge = opened(services)
    assert attempt_charge.claim(services, charge) is not None
    clock = ahead.clock
    assert isinstance(clock, FixedClock)
    clock.at += timedelta(hours=1)
    assert resolve_unknown.sweep(ahead) == 0
    assert resolve_unknown.due_asks(ahead) == {}
    assert [row["state"] for row in attempt_rows(services)] == ["sending"]


def test_a_machine_whose_clock_is_wrong_asks_nothing(
    services: Services, ahead: Services, gateway: ScriptedGateway
) -> None:
    """Ahead, it would take the quiet time for over, and a failure of an earlier sending for this one's."""
    charge = opened(services)
    gateway.answers.append(Unknown("ReadTimeout"))
    attempt_charge.attempt(services, charge)
    clock = ahead.clock
    assert isinstance(clock, FixedClock)
    clock.at += timedelta(hours=1)
    assert resolve_unknown.ask(ahead, attempt_rows(services)[0]["id"]) is None
    assert gateway.asked == []


@pytest.fixture
def ours(services: Services) -> Services:
    """The same services by this machine's real clock."""
    return replace(services, clock=SystemClock())


@pytest.fixture
def foreign(services: Services, tmp_path: Path) -> Services:
    """A process of another environment, whose clock a file moves 95 days ahead."""
    file = tmp_path / "clock"
    file.write_text(str(timedelta(days=95).total_seconds()))
    return replace(services, clock=MovedClock(file), fingerprint_in=lambda _: "of another environment")


def test_a_process_of_another_environment_with_a_moved_clock_opens_nothing(
    ours: Services, foreign: Services
) -> None:
    """Guard: the binding. Of the periods that it opened ahead of their time, it would waive all but the last."""
    on_sale(ours, catch_up=CatchUp.LATEST)
    subscribed(ours)
    open_charges.open_due(ours)
    before = charge_rows(ours)
    assert open_charges.open_due(foreign) == 0
    assert charge_rows(ours) == before


def test_a_verb_in_a_process_of_another_environment_opens_nothing(ours: Services, foreign: Services) -> None:
    """Guard: the binding. A verb opens what is due first, by its own clock."""
    on_sale(ours, catch_up=CatchUp.LATEST)
    key = subscribed(ours)
    open_charges.open_due(ours)
    before = charge_rows(ours)
    with pytest.raises(CannotAdjust, match="another environment"):
        adjust.pause(foreign, key, "kim", "x")
    fee = ChargeRequest(
        customer_uid="ann",
        money=Money(500, "KRW"),
        name="Fee",
        request_key="fee-1",
        reason="a fee",
        policy="once",
    )
    with pytest.raises(CannotRequest, match="another environment"):
        adhoc.charge(foreign, fee, "kim")
    assert charge_rows(ours) == before


def test_a_process_of_another_environment_with_a_moved_clock_takes_no_lease_away(
    ours: Services, foreign: Services, gateway: ScriptedGateway
) -> None:
    """Guard: the binding. The answer of the call under way would be left out, and asked for in 95 days."""
    charge = opened(ours)
    swept: list[int] = []

    def answer(_: object) -> Outcome:
        swept.append(resolve_unknown.sweep(foreign))
        return Paid("imp_1", ours.clock.now(), "kcp", None, None)

    gateway.answers.append(answer)
    assert attempt_charge.attempt(ours, charge) is AttemptState.PAID
    assert swept == [0]
    assert [row["status"] for row in charge_rows(ours)] == ["paid"]


def test_a_process_of_another_environment_with_a_moved_clock_asks_nothing(
    ours: Services, foreign: Services, gateway: ScriptedGateway
) -> None:
    """Guard: the binding. The next ask would be due in 95 days."""
    charge = opened(ours)
    gateway.answers.append(Unknown("ReadTimeout"))
    attempt_charge.attempt(ours, charge)
    (before,) = attempt_rows(ours)
    assert resolve_unknown.due_asks(foreign) == {}
    assert resolve_unknown.ask(foreign, before["id"]) is None
    assert attempt_rows(ours) == [before]
    assert gateway.asked == []


def test_a_run_that_a_clock_from_the_future_began_does_not_stop_the_reconciler(services: Services) -> None:
    future = replace(services, clock=FixedClock(START + timedelta(days=365)))
    reconciler.begin_due(future, "main")
    reconciler.go_on(future, "main")
    reconciler.begin_due(services, "main")
    with services.engine.begin() as db:
        runs = db.execute(text("SELECT count(*) FROM reconciliations WHERE kind = 'hourly'")).scalar_one()
    assert runs == 2


@pytest.fixture
def copied(services: Services, embedded: EmbeddedServices) -> Iterator[Callable[[], Services]]:
    """Makes a copy of the database, and the running process whose connections lead to that copy from then on."""
    made: list[Services] = []

    def swap() -> Services:
        services.engine.dispose()
        url = fresh_database(embedded, template=services.settings.sqlalchemy_url)
        made.append(replace(services, engine=make_engine(url, 5, "again-test")))
        return made[-1]

    yield swap
    for each in made:
        end_engine(each.engine)
        drop_database(embedded, each.engine.url.render_as_string(hide_password=False))


def test_a_database_that_was_swapped_under_a_running_worker_sends_nothing(
    services: Services, gateway: ScriptedGateway, copied: Callable[[], Services]
) -> None:
    """Guard: which database it is, asked each time. A copy put into its place brings the fingerprint along."""
    charge = opened(services)
    claimed = attempt_charge.claim(services, charge)
    assert claimed is not None
    running = copied()
    assert attempt_charge.carry_out(running, claimed) is AttemptState.READY
    assert attempt_charge.attempt(running, charge) is None
    assert enqueue.top_up(running, lambda _: None) == 0
    assert gateway.sent == []


def test_a_running_process_sends_from_a_database_that_another_process_has_adopted(
    services: Services, gateway: ScriptedGateway, copied: Callable[[], Services]
) -> None:
    """As after a failover: `again adopt` is a process of its own, and none of the running ones starts again."""
    charge = opened(services)
    running = copied()
    assert attempt_charge.attempt(running, charge) is None
    operate.adopt(replace(running), "kim", "the former database is gone")
    assert attempt_charge.attempt(running, charge) is AttemptState.PAID
    assert len(gateway.sent) == 1


def test_a_lease_that_lives_is_not_taken(services: Services) -> None:
    charge = opened(services)
    assert attempt_charge.claim(services, charge) is not None
    assert resolve_unknown.sweep(services) == 0
    assert [row["state"] for row in attempt_rows(services)] == ["sending"]
    move(services, seconds=services.settings.lease + 1)
    assert resolve_unknown.sweep(services) == 1
    assert [row["state"] for row in attempt_rows(services)] == ["unknown"]


def test_a_claim_that_another_worker_took_over_does_not_leave(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Its lease was given to another, which holds it now: only the fence tells the two apart."""
    charge = opened(services)
    claimed = attempt_charge.claim(services, charge)
    assert claimed is not None
    with services.engine.begin() as db:
        db.execute(text("UPDATE attempts SET fence = fence + 1"))
    attempt_charge.carry_out(services, claimed)
    assert gateway.sent == []
