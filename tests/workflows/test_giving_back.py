"""An attempt that was surely not sent is never resolved as unknown: it is given back, however late."""

import threading
from datetime import timedelta

from sqlalchemy import text

from schedules.charging.charges import AttemptState
from schedules.charging.outcomes import NotSent
from tests.doubles import ScriptedGateway
from tests.factories import attempt_rows, charge_rows, move, opened
from worker.charging import attempt_charge, resolve_unknown
from worker.charging.claim import Claimed
from worker.charging.executor import Executor
from worker.charging.unsent_claims import UnsentClaims
from worker.clock import wait_until
from worker.failpoints import Failpoint, on_hit
from worker.services import Services
from worker.store.charging.charges import Obstacle

FAILED = Obstacle("the pre-send check failed")


def claimed_and_lapsed(services: Services) -> Claimed:
    """A charge that was claimed, and whose lease has ended and was swept since."""
    claimed = attempt_charge.claim(services, opened(services))
    assert claimed is not None
    move(services, seconds=services.settings.lease + 1)
    assert resolve_unknown.sweep(services) == 1
    return claimed


def test_a_row_that_breaks_a_rule_does_not_keep_the_others_unwritten(services: Services) -> None:
    """Guard: only a database that is away lets the others wait."""
    unsent_claims = UnsentClaims(every=0.05)
    written = threading.Event()

    def break_a_rule() -> None:
        with services.engine.begin() as db:
            db.execute(text("INSERT INTO customers (id) VALUES (NULL)"))

    unsent_claims.remember("first", break_a_rule)
    unsent_claims.remember("second", written.set)
    assert written.wait(20)
    assert wait_until(lambda: unsent_claims.unwritten == 0, 20)


def goes_out_soon(services: Services) -> bool:
    """Whether the one attempt is ready, and its charge due within a minute."""
    (attempt,), (charge,) = attempt_rows(services), charge_rows(services)
    due = charge["next_attempt_at"]
    soon = due is not None and due <= services.clock.now() + timedelta(minutes=1)
    return attempt["state"] == AttemptState.READY and attempt["next_ask_at"] is None and soon


def test_it_is_given_back_though_its_lease_has_ended(services: Services) -> None:
    """Guard: a process that is frozen past its lease knows when it wakes that it has sent nothing."""
    claimed = claimed_and_lapsed(services)
    assert attempt_charge.hold_back(services, claimed, FAILED) is AttemptState.READY
    assert goes_out_soon(services)


def test_a_call_that_did_not_leave_is_given_back_though_its_lease_has_ended(services: Services) -> None:
    claimed = claimed_and_lapsed(services)
    assert attempt_charge.settle_call(services, claimed, NotSent("the deadline had passed")) is AttemptState.READY
    assert goes_out_soon(services)


def test_a_question_that_was_asked_meanwhile_does_not_stand_in_the_way(services: Services) -> None:
    claimed = claimed_and_lapsed(services)
    move(services, seconds=11)
    (attempt_id,) = resolve_unknown.due_asks(services)
    resolve_unknown.ask(services, attempt_id)
    assert attempt_charge.hold_back(services, claimed, FAILED) is AttemptState.READY
    assert goes_out_soon(services)


def test_one_that_another_process_has_sent_since_stays_unknown(services: Services) -> None:
    """Guard: the other's call may have been made."""
    claimed = claimed_and_lapsed(services)
    attempt_charge.hold_back(services, claimed, FAILED)
    move(services, seconds=60)
    assert attempt_charge.claim(services, claimed.charge_id) is not None
    move(services, seconds=services.settings.lease + 1)
    assert resolve_unknown.sweep(services) == 1
    assert attempt_charge.hold_back(services, claimed, FAILED) is None
    assert attempt_rows(services)[0]["state"] == AttemptState.UNKNOWN


def test_one_that_is_under_way_elsewhere_is_left_alone(services: Services) -> None:
    claimed = claimed_and_lapsed(services)
    attempt_charge.hold_back(services, claimed, FAILED)
    move(services, seconds=60)
    assert attempt_charge.claim(services, claimed.charge_id) is not None
    assert attempt_charge.hold_back(services, claimed, FAILED) is None
    assert attempt_rows(services)[0]["state"] == AttemptState.SENDING


def test_it_is_remembered_while_the_database_takes_nothing(services: Services, gateway: ScriptedGateway) -> None:
    """Guard: the pre-send check and the giving back fail while the charges are locked."""
    charge_id = opened(services)
    executor = Executor(services)
    failed: list[Exception] = []
    with services.engine.connect() as blocker:

        def lock(point: Failpoint, subject: str) -> None:
            del subject
            if point is Failpoint.CHARGING_CLAIMED:
                blocker.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
                blocker.execute(text("LOCK TABLE charges IN ACCESS EXCLUSIVE MODE"))

        def attempt() -> None:
            try:
                executor.attempt(charge_id)
            except Exception as error:  # noqa: BLE001 # whatever it is, it is looked at below
                failed.append(error)

        on_hit(lock)
        try:
            trying = threading.Thread(target=attempt)
            trying.start()
            trying.join(60)
        finally:
            on_hit(None)
        assert len(failed) == 1
        assert executor.unsent_claims.unwritten == 1
        blocker.rollback()
    assert wait_until(lambda: executor.unsent_claims.unwritten == 0, 40)
    assert gateway.sent == []
    assert goes_out_soon(services)
