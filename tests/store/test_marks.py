"""The restore mark in the broker: what others write there changes nothing, and is reported."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import redis
from celery import Celery
from pydantic import SecretStr
from redis.client import Pipeline
from sqlalchemy import event, text

from tests.doubles import ScriptedGateway
from tests.factories import opened
from worker import restore_detector
from worker.broker.messages import Reason
from worker.charging import attempt_charge
from worker.embedded import EmbeddedServices
from worker.runtime.outages import Outage
from worker.services import Services
from worker.store.charging import kill_switch
from worker.store.operations import dead_letters
from worker.store.outbox import event_log


@pytest.fixture
def app(embedded: EmbeddedServices) -> Iterator[Celery]:
    """Celery on a broker that nobody else uses."""
    url = embedded.broker_url.rpartition("/")[0] + "/12"
    with redis.Redis.from_url(url) as broker:
        broker.flushdb()
    with Celery(broker=url, set_as_current=False) as made:
        yield made


@pytest.fixture
def broker(app: Celery) -> Iterator[redis.Redis]:
    """Its keys."""
    with redis.Redis.from_url(app.conf.broker_url) as made:
        yield made


@pytest.fixture
def signing(services: Services) -> Services:
    """Services on a database that has signed its mark before."""
    with services.engine.begin() as db:
        kill_switch.note_signed_mark(db, services.clock.now())
    return services


def name(services: Services) -> str:
    """The mark's key."""
    return restore_detector.mark_name(fingerprint(services))


def fingerprint(services: Services) -> str:
    """That of the services' database."""
    with services.engine.begin() as db:
        return services.fingerprint(db)


def signed(services: Services, number: int, at: datetime) -> str:
    """A mark of their database."""
    return restore_detector.signed(services, fingerprint(services), number, at)


def is_held(services: Services) -> bool:
    """Whether nothing is sent."""
    with services.engine.begin() as db:
        return kill_switch.hold(db) is not None


def forged(services: Services) -> int:
    """How many forged marks were reported."""
    with services.engine.begin() as db:
        return sum(row.count for row in dead_letters.listed(db, 9) if row.reason is Reason.FORGED_MARK)


def test_a_mark_of_ours_that_is_ahead_of_the_database_begins_a_hold(
    app: Celery, broker: redis.Redis, services: Services
) -> None:
    broker.set(name(services), signed(services, 10**9, services.clock.now() + timedelta(days=30)))
    assert not restore_detector.check(app, services)
    assert is_held(services)
    assert forged(services) == 0


@pytest.mark.parametrize(
    "value",
    [
        "1000000000 2999-01-01T00:00:00+00:00", "garbage", "a b c", " ", "5 5 5", b"\xff\xfe \xff",
        "9" * 100_000, "1 2999-01-01T00:00:00+00:00 " + "0" * 64,
    ],
)  # fmt: skip
def test_a_forged_mark_holds_nothing_ends_nothing_and_is_reported(
    app: Celery, broker: redis.Redis, signing: Services, value: Any
) -> None:
    services = signing
    broker.set(name(services), value)
    assert restore_detector.check(app, services)
    assert not is_held(services)
    assert forged(services) == 1
    assert broker.get(name(services)) is None


def test_a_key_of_another_type_is_a_forged_mark(app: Celery, broker: redis.Redis, services: Services) -> None:
    broker.lpush(name(services), "x")
    assert restore_detector.check(app, services)
    assert (is_held(services), forged(services)) == (False, 1)


def test_a_mark_of_another_database_is_a_forged_one(app: Celery, broker: redis.Redis, signing: Services) -> None:
    services = signing
    other = replace(services, fingerprint_in=lambda _: "another")
    broker.set(name(services), signed(other, 10**9, services.clock.now()))
    assert restore_detector.check(app, services)
    assert (is_held(services), forged(services)) == (False, 1)


def test_a_mark_that_was_replaced_is_signed_and_detects_the_next_restore(
    app: Celery, broker: redis.Redis, services: Services, gateway: ScriptedGateway
) -> None:
    attempt_charge.attempt(services, opened(services))
    broker.set(name(services), "garbage")
    assert restore_detector.check(app, services)
    assert restore_detector.check(app, services)
    assert forged(services) == 1
    with services.engine.begin() as db:
        db.execute(text("SET LOCAL session_replication_role = replica"))
        db.execute(text("DELETE FROM attempt_events"))
    assert not restore_detector.check(app, services)
    assert is_held(services)


def test_a_mark_that_another_process_wrote_meanwhile_is_not_replaced_before_it_is_compared(
    app: Celery, broker: redis.Redis, services: Services, gateway: ScriptedGateway
) -> None:
    """Guard: an older mark replaces no newer one; a restore between the two would not be detected."""
    attempt_charge.attempt(services, opened(services))
    assert restore_detector.check(app, services)
    newer = signed(services, 10**9, services.clock.now())

    @event.listens_for(services.engine, "before_cursor_execute")
    def write_meanwhile(_c: object, _u: object, statement: str, *_: object) -> None:
        if "FROM attempt_events" in statement:  # the mark was read, and is compared now
            broker.set(name(services), newer)

    assert restore_detector.check(app, services)
    event.remove(services.engine, "before_cursor_execute", write_meanwhile)
    assert broker.get(name(services)) == newer.encode()
    assert not restore_detector.check(app, services)
    assert is_held(services)


def end_clients(broker: redis.Redis) -> None:
    """End all connections to the broker's database but this one."""
    for client in broker.client_list():
        if client["db"] == "12" and int(client["id"]) != broker.client_id():
            broker.client_kill_filter(_id=client["id"])


@pytest.fixture
def outage() -> Outage:
    """The broker's, whatever failed in this process before."""
    return Outage(logging.getLogger("again.brokers"), "the broker")


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the log says of the broker."""
    return [line for line in caplog.messages if line.startswith("the broker fails: the mark of")]


def test_a_connection_that_is_lost_before_the_mark_is_read_is_an_outage(
    app: Celery, broker: redis.Redis, services: Services, monkeypatch: pytest.MonkeyPatch, outage: Outage,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """redis-py raises WatchError for it, which would end a worker that starts."""
    get = Pipeline.get

    def lose_and_get(watched: Pipeline, key: str) -> object:
        end_clients(broker)
        return get(watched, key)

    monkeypatch.setattr(Pipeline, "get", lose_and_get)
    assert restore_detector.check(app, services, outage)
    assert len(logged(caplog)) == 1


def test_a_connection_that_is_lost_before_the_mark_is_written_is_an_outage(
    app: Celery, broker: redis.Redis, services: Services, gateway: ScriptedGateway, outage: Outage,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """And not another process that wrote the mark meanwhile."""
    attempt_charge.attempt(services, opened(services))

    @event.listens_for(services.engine, "before_cursor_execute")
    def lose_meanwhile(_c: object, _u: object, statement: str, *_: object) -> None:
        if "FROM attempt_events" in statement:  # the mark was read, and is compared now
            end_clients(broker)

    assert restore_detector.check(app, services, outage)
    event.remove(services.engine, "before_cursor_execute", lose_meanwhile)
    assert len(logged(caplog)) == 1
    assert broker.get(name(services)) is None
    assert restore_detector.check(app, services, outage)
    assert broker.get(name(services)) is not None
    assert len(logged(caplog)) == 1


def put_back(services: Services) -> None:
    """Restore the database in place to a backup from before its attempts."""
    with services.engine.begin() as db:
        db.execute(text("SET LOCAL session_replication_role = replica"))
        db.execute(text("DELETE FROM attempt_events"))


def rotated(services: Services) -> Services:
    """The same installation after the account's secret was replaced."""
    return replace(services, settings=services.settings.model_copy(update={"portone_secret": SecretStr("new")}))


def test_a_restore_is_noticed_at_the_first_start_after_the_secret_was_replaced(
    app: Celery, services: Services
) -> None:
    """Guard: the key of the signature does not change with the secret."""
    attempt_charge.attempt(services, opened(services))
    assert restore_detector.check(app, services)
    put_back(services)
    assert not restore_detector.check(app, rotated(services))
    assert is_held(services)
    assert forged(services) == 0


@pytest.mark.parametrize("signature", ["", " " + "0" * 64], ids=["unsigned", "signed by a former secret"])
def test_a_restore_is_noticed_at_the_first_start_after_the_upgrade(
    app: Celery, broker: redis.Redis, services: Services, signature: str
) -> None:
    """Guard: the mark of an earlier version counts until this database has signed one."""
    attempt_charge.attempt(services, opened(services))
    with services.engine.begin() as db:
        reached = event_log.newest_event(db)
    assert reached is not None
    former = f"{reached[0]} {reached[1].isoformat()}{signature}"
    broker.set(name(services), former)
    put_back(services)
    assert not restore_detector.check(app, services)
    assert is_held(services)
    assert forged(services) == 0


def test_a_mark_of_an_earlier_version_is_signed_and_counts_no_more(
    app: Celery, broker: redis.Redis, services: Services
) -> None:
    attempt_charge.attempt(services, opened(services))
    with services.engine.begin() as db:
        reached = event_log.newest_event(db)
    assert reached is not None
    broker.set(name(services), f"{reached[0]} {reached[1].isoformat()}")
    assert restore_detector.check(app, services)
    assert not is_held(services)
    broker.set(name(services), f"{10**9} {reached[1].isoformat()}")
    assert restore_detector.check(app, services)
    assert (is_held(services), forged(services)) == (False, 1)


@pytest.mark.parametrize("value", ["garbage", f"{10**30} 2999-01-01T00:00:00+00:00", "5 2999-01-01", "5 5 5"])
def test_what_no_version_wrote_is_a_forged_mark_before_the_first_signature_too(
    app: Celery, broker: redis.Redis, services: Services, value: str
) -> None:
    broker.set(name(services), value)
    assert restore_detector.check(app, services)
    assert (is_held(services), forged(services)) == (False, 1)
