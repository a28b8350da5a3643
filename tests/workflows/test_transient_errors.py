"""Transient database errors: the request goes back to the broker; other database errors are answered."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from celery.exceptions import Reject
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError, OperationalError

from tests.factories import charge_rows, many_opened
from worker.broker import transient_failures
from worker.customers import enrollment
from worker.operations import operate
from worker.renewals import enqueue
from worker.services import Services
from worker.store import failures
from worker.task_api import answers, verbs
from worker.wiring import BadDatabase

FIELDS: dict[str, Any] = {
    "customer_uid": "ann", "amount": 3000, "currency": "KRW", "name": "late fee", "request_key": "fee-1",
    "reason": "late", "actor": "shop",
}  # fmt: skip


@contextmanager
def connected(services: Services, options: str = "", **pool: Any) -> Iterator[Services]:
    """The same services on an engine of their own."""
    engine = create_engine(services.settings.sqlalchemy_url, connect_args={"options": options}, **pool)
    try:
        yield replace(services, engine=engine)
    finally:
        engine.dispose()


@contextmanager
def read_only(services: Services) -> Iterator[Services]:
    """A standby accepts no writes."""
    with connected(services, "-c default_transaction_read_only=on") as made:
        yield made


@contextmanager
def used_up_pool(services: Services) -> Iterator[Services]:
    """Every connection of the pool is taken."""
    with connected(services, pool_size=1, max_overflow=0, pool_timeout=0.05) as made, made.engine.connect():
        yield made


@contextmanager
def terminated_connection(services: Services) -> Iterator[Services]:
    """The pool's connection was terminated by the server."""
    with connected(services, pool_size=1, max_overflow=0) as made:
        with made.engine.begin() as db:
            pid = db.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with services.engine.begin() as db:
            db.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        yield made


@contextmanager
def locked_table(services: Services) -> Iterator[Services]:
    """Another transaction holds the table."""
    with connected(services, "-c lock_timeout=50") as made, services.engine.begin() as db:
        db.execute(text("LOCK TABLE charges IN ACCESS EXCLUSIVE MODE"))
        yield made


@contextmanager
def no_server(services: Services) -> Iterator[Services]:
    """No server listens at the address."""
    engine = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none")
    yield replace(services, engine=engine)


@pytest.mark.parametrize("fault", [read_only, used_up_pool, terminated_connection, locked_table, no_server])
def test_a_transient_database_error_returns_the_request_to_the_broker(
    services: Services, fault: Callable[[Services], Any]
) -> None:
    """Guard: acknowledged, the request would be lost."""
    enrollment.add_customer(services, "ann", None, None, None, "test")
    with (
        fault(services) as broken,
        pytest.raises(Reject) as returned,
        transient_failures.returned_if_transient("test", pause=0),
    ):
        answers.answer(verbs.Context(broken, lambda _: None), verbs.charge_adhoc, (), FIELDS)
    assert returned.value.args[1], "requeue"
    assert charge_rows(services) == []
    answer = answers.answer(verbs.Context(services, lambda _: None), verbs.charge_adhoc, (), FIELDS)
    assert answer["ok"]
    assert answer["is_new"]


def test_a_worker_that_cannot_connect_at_its_start_returns_the_request() -> None:
    with pytest.raises(Reject) as returned, transient_failures.returned_if_transient("test", pause=0):
        raise BadDatabase("the database does not answer")
    assert returned.value.args[1], "requeue"


def test_a_permanent_database_error_is_answered_and_not_returned(services: Services) -> None:
    """Guard: returned, the request would fail again for ever."""
    enrollment.add_customer(services, "ann", None, None, None, "test")
    with services.engine.begin() as db:
        db.execute(text("ALTER TABLE charges ADD CONSTRAINT refuse CHECK (amount < 0) NOT VALID"))
    answer = answers.answer(verbs.Context(services, lambda _: None), verbs.charge_adhoc, (), FIELDS)
    assert (answer["ok"], answer["error"]) == (False, "failed")
    assert "23514" in answer["errors"][0]["words"]


@pytest.mark.parametrize(
    ("state", "transient"),
    [("57P03", True), ("53300", True), ("40001", True), ("40P01", True), ("08006", True), ("57P01", True),
     ("25006", True), ("55P03", True), ("22021", False), ("23505", False), ("42P01", False), ("42501", False)],
)  # fmt: skip
def test_the_sqlstate_decides_what_is_transient(state: str, transient: bool) -> None:
    cause = type("Cause", (Exception,), {"sqlstate": state})()
    assert failures.is_transient(DBAPIError("SELECT 1", None, cause)) is transient
    assert failures.is_transient(OperationalError("SELECT 1", None, cause)) is transient


def test_a_charge_requested_while_charging_is_stopped_is_dispatched_at_once_after_the_resume(
    services: Services,
) -> None:
    enrollment.add_customer(services, "ann", None, None, None, "test")
    operate.stop_charging(services, "test", "a fire")
    sent: list[int] = []
    context = verbs.Context(services, lambda queued: sent.extend(each.charge_id for each in queued))
    assert answers.answer(context, verbs.charge_adhoc, (), FIELDS)["ok"]
    assert sent == []
    operate.resume_charging(services, "test", "it is out")
    assert enqueue.top_up(services, context.publish) == 1


def test_charges_whose_messages_were_dropped_during_a_stop_are_dispatched_at_once_after_the_resume(
    services: Services,
) -> None:
    """Guard: without it they would wait for queue_patience."""
    many_opened(services, 3)
    assert enqueue.top_up(services, lambda _: None) == 3
    operate.stop_charging(services, "test", "a fire")
    operate.resume_charging(services, "test", "it is out")
    assert enqueue.top_up(services, lambda _: None) == 3
