"""`again status --healthy` on real servers: one test for each cause, from a shop that is healthy before."""

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from redis import Redis
from sqlalchemy import text

from schedules.charging.charges import AttemptState
from schedules.charging.outcomes import NotSent, Unknown
from schedules.operations.due_work import COMPARED_WITHIN
from schedules.operations.health import CauseCode, ProcessKind
from schedules.operations.queues import QUEUES
from tests.acceptance.again import again
from tests.doubles import ScriptedGateway
from tests.factories import charge_rows, on_sale, subscribed
from tests.installation import QUICK
from tests.rabbit import NEEDS_RABBITMQ, rabbit
from tests.services import drop_database, fresh_database
from worker import wiring
from worker.charging import attempt_charge, circuit_breaker
from worker.config import load_settings
from worker.embedded import EmbeddedServices
from worker.embedded.valkey import ValkeyServer
from worker.gateway.port import NO_CONNECTION
from worker.operations import operate
from worker.reconciliation import restore
from worker.renewals import open_charges
from worker.services import Services
from worker.store.operations import processes
from worker.store.operations.processes import Report

WORKER = Report(
    id="", kind=ProcessKind.WORKER, host="here", pid=1, version="1", queues=QUEUES, idle=0.0, clock_ahead=0.0,
    check_seconds=0.004, obstacle=None,
)  # fmt: skip
BEAT = replace(WORKER, kind=ProcessKind.BEAT, pid=2, queues=(), leads=True)

COMPARED = """
    INSERT INTO reconciliations (account, kind, since, until, done_until, started_at, ended_at, fence, lease_until,
        calls, payments, findings)
    VALUES ('main', :kind, now() - interval '1 day', now(), now(), now(), now(), 1, now(), 1, 0, 0)
"""


@dataclass
class Shop:
    """A healthy installation: its database and broker are real, and its processes are rows."""

    settings: dict[str, str]
    services: Services
    embedded: EmbeddedServices
    broker: Redis
    undo: ExitStack

    def run(self, statement: str, **values: object) -> None:
        """Change the database."""
        with self.services.engine.begin() as db:
            db.execute(text(statement), values)

    def admin(self, statement: str) -> None:
        """Change the database as its administrator does."""
        name = sql.Identifier(str(self.services.engine.url.database))
        with self.embedded.postgres.connect() as admin:
            admin.execute(sql.SQL(statement).format(name))

    def report(self, its: Report) -> None:
        """Let a process report a start."""
        with self.services.engine.begin() as db:
            processes.report(db, replace(its, id=uuid4().hex))

    def open_charge(self) -> None:
        """A charge that is due now."""
        on_sale(self.services)
        subscribed(self.services)
        assert open_charges.open_due(self.services) == 1

    def status(self) -> tuple[int, dict[str, Any]]:
        """What `again status --healthy --json` exits with, and prints."""
        done = again("status", "--healthy", "--json", settings=self.settings)
        assert "Traceback" not in done.stderr
        return done.returncode, json.loads(done.stdout)

    def causes(self) -> list[str]:
        """The codes of all causes that are told."""
        return [cause["code"] for cause in self.status()[1]["causes"]]


@pytest.fixture
def shop(embedded: EmbeddedServices, migrated_template: str) -> Iterator[Shop]:
    """A shop with a beat and a worker that takes every queue."""
    database = fresh_database(embedded, template=migrated_template)
    settings = QUICK | {
        "AGAIN_DATABASE_URL": database, "AGAIN_BROKER_URL": embedded.broker_url, "AGAIN_PORTONE_KEY": "key",
        "AGAIN_PORTONE_URL": "http://127.0.0.1:1", "AGAIN_PORTONE_SECRET": "secret", "AGAIN_RATE": "50",
    }  # fmt: skip
    services = replace(wiring.connect(load_settings(settings)), gateways={"main": ScriptedGateway()})
    operate.bind_if_new(services, "test")
    with ExitStack() as undo:
        undo.callback(drop_database, embedded, database)
        undo.callback(services.engine.dispose)
        broker = undo.enter_context(Redis.from_url(embedded.broker_url))
        undo.callback(broker.flushall)
        made = Shop(settings, services, embedded, broker, undo)
        made.report(WORKER)
        made.report(BEAT)
        for kind in COMPARED_WITHIN:
            made.run(COMPARED, kind=kind)
        yield made


def test_a_shop_where_all_is_well_is_healthy(shop: Shop) -> None:
    shop.open_charge()
    status, told = shop.status()
    assert (status, told["healthy"], told["causes"], told["due"]) == (0, True, [], 1)
    assert "what is wrong: none" in again("status", settings=shop.settings).stdout


def all_are_seen(shop: Shop) -> None:
    """Let each process send a heartbeat now."""
    shop.run("UPDATE processes SET seen_at = clock_timestamp(), progress_at = clock_timestamp()")


def read_only(shop: Shop) -> None:
    shop.services.engine.dispose()
    shop.admin("ALTER DATABASE {} SET default_transaction_read_only = on")


def disk_full(shop: Shop) -> None:
    """The database on a file system that is full; the probe's own blocks are what does not fit any more."""
    folder = Path(shop.undo.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp")))
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=777", "tmpfs", folder], check=False)
    if mounted.returncode:
        pytest.skip("a file system that is full needs mount(2); a database that is read-only is tested anyway")
    shop.undo.callback(lambda: subprocess.run(["umount", "-l", folder], check=True))
    folder.chmod(0o777)
    space = folder / "space"
    make = ["su", "nobody", "-s", "/bin/sh", "-c", f"mkdir {space}"]
    subprocess.run(make, check=True)
    name = f"full_{uuid4().hex}"
    shop.services.engine.dispose()
    with shop.embedded.postgres.connect() as admin:
        admin.execute(sql.SQL("CREATE TABLESPACE {} LOCATION {}").format(sql.Identifier(name), str(space)))
    shop.undo.callback(_drop_tablespace, shop, name, folder)
    shop.admin(f"ALTER DATABASE {{}} SET TABLESPACE {name}")
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 65536):
                pass
        except OSError:
            return


def _drop_tablespace(shop: Shop, name: str, folder: Path) -> None:
    (folder / "filler").unlink()
    shop.services.engine.dispose()
    shop.admin("ALTER DATABASE {} SET TABLESPACE pg_default")
    with shop.embedded.postgres.connect() as admin:
        admin.execute(sql.SQL("DROP TABLESPACE {}").format(sql.Identifier(name)))


def broker_out_of_memory(shop: Shop) -> None:
    shop.broker.config_set("maxmemory", "1")
    shop.undo.callback(shop.broker.config_set, "maxmemory", "0")


def broker_is_a_replica(shop: Shop) -> None:
    """Of a primary that is there: without one a replica refuses to be read, too."""
    folder = shop.undo.enter_context(tempfile.TemporaryDirectory())
    primary = ValkeyServer(Path(folder))
    shop.undo.callback(primary.stop)
    primary.start()
    password = primary.url.split(":")[2].split("@")[0]
    shop.broker.config_set("masterauth", password)
    shop.undo.callback(shop.broker.config_set, "masterauth", "")
    shop.broker.replicaof("127.0.0.1", str(primary.port))
    shop.undo.callback(shop.broker.replicaof, "NO", "ONE")


def nothing_leaves(shop: Shop) -> None:
    """One charge is due for an hour: a cap of 50 a second does not explain it."""
    shop.open_charge()
    shop.run("UPDATE charges SET next_attempt_at = next_attempt_at - interval '1 hour'")
    shop.run("UPDATE installation SET bound_at = bound_at - interval '1 day'")
    all_are_seen(shop)


def no_call_leaves(shop: Shop) -> None:
    """Each call ends without a connection, and the next try is always to come."""
    shop.open_charge()
    gateway = ScriptedGateway()
    gateway.answers.append(NotSent(NO_CONNECTION))
    services = replace(shop.services, gateways={"main": gateway})
    (charge_id,) = (row["id"] for row in charge_rows(services))
    assert attempt_charge.attempt(services, charge_id) is AttemptState.NOT_SENT
    age_attempt(shop, "11 minutes")


def calls_time_out(shop: Shop) -> None:
    """The gateway answers no call: its outcome is unknown, and there is no next attempt."""
    shop.open_charge()
    gateway = ScriptedGateway()
    gateway.answers.append(Unknown("ReadTimeout"))
    services = replace(shop.services, gateways={"main": gateway})
    (charge_id,) = (row["id"] for row in charge_rows(services))
    assert attempt_charge.attempt(services, charge_id) is AttemptState.UNKNOWN
    age_attempt(shop, "61 minutes")


def age_attempt(shop: Shop, by: str) -> None:
    shop.run(f"UPDATE attempts SET created_at = created_at - interval '{by}'")
    shop.run("UPDATE installation SET bound_at = bound_at - interval '1 day'")


def nothing_opens(shop: Shop) -> None:
    on_sale(shop.services)
    subscribed(shop.services)
    earlier = "open_at = open_at - interval '11 minutes', created_at = created_at - interval '11 minutes'"
    shop.run(f"UPDATE subscriptions SET {earlier}")


def one_does_not_open(shop: Shop) -> None:
    """A subscription that was made just now, due a day earlier, is no reason to overlook it."""
    nothing_opens(shop)
    subscribed(shop.services, "bob")
    newest = "(SELECT max(id) FROM subscriptions)"
    shop.run(f"UPDATE subscriptions SET open_at = now() - interval '1 day' WHERE id = {newest}")


def stopped_by_breaker(shop: Shop) -> None:
    with shop.services.engine.begin() as db:
        circuit_breaker.break_account(db, "main", "5 charges were refused", shop.services.clock.now())


def held(shop: Shop) -> None:
    restore.begin_hold(shop.services, "test", "a backup was restored")


def no_beat(shop: Shop) -> None:
    shop.run("DELETE FROM processes WHERE kind = 'beat'")


def crash_loop(shop: Shop) -> None:
    """Three starts under one process id: each replaced the one before, which was never told to stop."""
    for _ in range(3):
        shop.report(replace(WORKER, pid=77, queues=("charges",)))
    shop.run("UPDATE processes SET seen_at = seen_at - interval '31 seconds' WHERE pid = 77")
    shop.report(replace(WORKER, pid=77, queues=("charges",)))


def unread_queue(shop: Shop) -> None:
    shop.run("UPDATE processes SET queues = array_remove(queues, 'events')")
    shop.broker.lpush("events", "{}")


def no_worker(shop: Shop) -> None:
    """A charge is due for two minutes, and the workers of charges have sent no heartbeat for most of it."""
    shop.open_charge()
    shop.run("UPDATE charges SET next_attempt_at = next_attempt_at - interval '2 minutes'")
    shop.run("UPDATE installation SET bound_at = bound_at - interval '1 day'")
    shop.run("UPDATE processes SET seen_at = seen_at - interval '90 seconds' WHERE kind = 'worker'")


def stuck_queue(shop: Shop) -> None:
    shop.report(replace(WORKER, pid=78))
    shop.run("UPDATE processes SET progress_at = progress_at - interval '6 minutes'")
    shop.broker.lpush("ops", "{}")


def wrong_clock(shop: Shop) -> None:
    shop.report(replace(BEAT, pid=79, clock_ahead=-7200.0, obstacle="its clock"))


def slow_database(shop: Shop) -> None:
    shop.report(replace(WORKER, pid=80, check_seconds=1.4))


def may_not_send(shop: Shop) -> None:
    shop.report(replace(WORKER, pid=81, obstacle="this database belongs to another environment"))


def another_environment(shop: Shop) -> None:
    shop.run("UPDATE installation SET fingerprint = 'another'")


@pytest.mark.parametrize(
    ("break_it", "cause"),
    [
        (read_only, CauseCode.DATABASE_REFUSES_WRITES),
        (disk_full, CauseCode.DATABASE_REFUSES_WRITES),
        (broker_out_of_memory, CauseCode.BROKER_REFUSES_WRITES),
        (broker_is_a_replica, CauseCode.BROKER_REFUSES_WRITES),
        (nothing_leaves, CauseCode.LATE_CHARGES),
        (no_call_leaves, CauseCode.UNSENT_CHARGES),
        (calls_time_out, CauseCode.OLD_UNKNOWN),
        (nothing_opens, CauseCode.LATE_OPENING),
        (one_does_not_open, CauseCode.LATE_OPENING),
        (stopped_by_breaker, CauseCode.STOPPED_BY_BREAKER),
        (held, CauseCode.HOLD),
        (no_beat, CauseCode.NO_BEAT),
        (crash_loop, CauseCode.CRASH_LOOP),
        (no_worker, CauseCode.NO_WORKER),
        (unread_queue, CauseCode.UNREAD_QUEUE),
        (stuck_queue, CauseCode.STUCK_QUEUE),
        (wrong_clock, CauseCode.WRONG_CLOCK),
        (slow_database, CauseCode.DATABASE_SLOW),
        (may_not_send, CauseCode.OBSTACLE),
        (another_environment, CauseCode.WRONG_PLACE),
    ],
    ids=lambda value: value.__name__ if callable(value) else str(value),
)
def test_each_cause_fails_and_is_named(shop: Shop, break_it: Callable[[Shop], None], cause: CauseCode) -> None:
    break_it(shop)
    status, told = shop.status()
    assert status == 1
    assert [each["code"] for each in told["causes"]] == [cause]
    assert told["healthy"] is False


def test_a_stop_by_a_person_is_told_and_is_no_failure(shop: Shop) -> None:
    nothing_leaves(shop)
    operate.stop_charging(shop.services, "tester", "a fire")
    status, told = shop.status()
    assert status == 0
    assert [(each["code"], each["failure"]) for each in told["causes"]] == [("stopped_by_person", False)]


def test_charges_that_a_stop_kept_are_not_late_at_once_when_it_ends(shop: Shop) -> None:
    nothing_leaves(shop)
    operate.stop_charging(shop.services, "tester", "a fire")
    operate.resume_charging(shop.services, "tester", "it is out")
    assert shop.causes() == []


def test_slow_checks_are_told_and_are_no_failure(shop: Shop) -> None:
    shop.report(replace(WORKER, pid=82, check_seconds=0.4))
    status, told = shop.status()
    assert status == 0
    assert [each["code"] for each in told["causes"]] == [CauseCode.SLOW_CHECKS]
    assert "0.40 s" in told["causes"][0]["sentence"]


def test_a_process_that_stopped_in_good_order_is_no_crash(shop: Shop) -> None:
    for _ in range(4):
        shop.report(replace(WORKER, pid=83))
    shop.run("UPDATE processes SET ended_at = seen_at WHERE pid = 83")
    assert shop.causes() == []


@NEEDS_RABBITMQ
def test_a_rabbitmq_node_with_a_memory_alarm_refuses_writes(shop: Shop) -> None:
    with rabbit() as node:
        shop.settings["AGAIN_BROKER_URL"] = node.url
        all_are_seen(shop)  # the node may have taken a minute to start
        assert shop.causes() == []
        with node.memory_alarm():
            all_are_seen(shop)
            status, told = shop.status()
        assert status == 1
        assert [each["code"] for each in told["causes"]] == [CauseCode.BROKER_REFUSES_WRITES]
        assert "alarm" in told["causes"][0]["sentence"]
        all_are_seen(shop)
        assert shop.causes() == []


@contextmanager
def locked(shop: Shop, table: str) -> Iterator[None]:
    """Hold a lock that keeps everybody from a table."""
    address = shop.services.engine.url.render_as_string(hide_password=False).replace("+psycopg", "")
    with psycopg.connect(address) as holder:
        holder.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(table)))
        yield


def test_a_locked_table_is_told_in_words_within_seconds_beside_all_that_can_be_read(shop: Shop) -> None:
    """The time-out of the test is far below the ten seconds for which a session waits for a lock."""
    stopped_by_breaker(shop)
    with locked(shop, "charges"):
        status, told = shop.status()
    assert status == 1
    assert sorted(each["code"] for each in told["causes"]) == ["database_locked", "stopped_by_breaker"]
    assert "charges" in str(told["causes"])
    assert told["due"] is None
    assert len(told["beats"]) == 1


def test_a_database_that_is_away_is_a_cause_in_json_too(shop: Shop) -> None:
    shop.settings["AGAIN_DATABASE_URL"] = "postgresql://nobody@127.0.0.1:1/none"
    status, told = shop.status()
    assert status == 1
    assert [each["code"] for each in told["causes"]] == [CauseCode.DATABASE_AWAY]


def test_a_database_without_a_free_connection_is_a_cause(shop: Shop) -> None:
    shop.admin("ALTER DATABASE {} CONNECTION LIMIT 0")
    with shop.embedded.postgres.connect() as admin:
        admin.execute("CREATE ROLE few LOGIN")
        shop.undo.callback(_drop_role, shop)
    shop.settings["AGAIN_DATABASE_URL"] = shop.settings["AGAIN_DATABASE_URL"].replace("//again@", "//few@")
    status, told = shop.status()
    assert status == 1
    assert [each["code"] for each in told["causes"]] == [CauseCode.DATABASE_AWAY]
    assert "too many connections" in told["causes"][0]["sentence"]


def _drop_role(shop: Shop) -> None:
    with shop.embedded.postgres.connect() as admin:
        admin.execute("DROP ROLE few")


def test_a_database_of_another_revision_is_a_cause(shop: Shop) -> None:
    shop.run("UPDATE alembic_version SET version_num = '0000'")
    status, told = shop.status()
    assert status == 1
    assert [each["code"] for each in told["causes"]] == [CauseCode.WRONG_REVISION]


def test_the_status_has_what_waits_longest_in_each_account_and_the_last_comparison(shop: Shop) -> None:
    on_sale(shop.services)
    period = subscribed(shop.services)
    _, told = shop.status()
    (account,) = told["accounts"]
    assert (account["unopened"], account["oldest_due"], account["due"]) == (period, None, 0)
    assert account["unopened_age"] > 0
    assert open_charges.open_due(shop.services) == 1
    _, told = shop.status()
    (account,) = told["accounts"]
    (charge,) = charge_rows(shop.services)
    assert (account["unopened"], account["oldest_due"], account["due"]) == (None, charge["key"], 1)
    assert account["oldest_due_age"] > 0
    assert [(each["kind"], each["late"]) for each in told["reconciled"]] == [("hourly", False), ("daily", False)]
    shop.run("DELETE FROM reconciliations WHERE kind = 'hourly'")
    shop.run("UPDATE installation SET bound_at = bound_at - interval '4 hours'")
    status, told = shop.status()
    assert [(each["code"], each["failure"]) for each in told["causes"]] == [("late_reconciling", False)]
    assert status == 0


def test_the_status_counts_dead_events(shop: Shop) -> None:
    shop.run(
        "INSERT INTO outbox (kind, subject, dedupe_key, payload, created_at, dead_at) "
        "SELECT 'charge.paid', 's', 'd' || n, '{}', now(), now() FROM generate_series(1, 3) n"
    )
    assert shop.status()[1]["dead_events"] == 3
    assert "again events --dead" in again("status", settings=shop.settings).stdout


def test_the_rows_of_old_processes_are_deleted(shop: Shop) -> None:
    for pid in range(100, 130):
        shop.report(replace(WORKER, pid=pid))
    shop.run("UPDATE processes SET seen_at = seen_at - interval '25 hours' WHERE pid BETWEEN 100 AND 109")
    with shop.services.engine.begin() as db:
        processes.forget(db)
        assert len(processes.seen(db)) == 22
    shop.run(
        "INSERT INTO processes (id, kind, host, pid, version, queues, started_at, seen_at, progress_at, "
        "clock_ahead, check_seconds) SELECT n::text, 'worker', 'loop', n, '1', '{}', now(), "
        "now() - n * interval '1 second', now(), 0, 0 FROM generate_series(1, 2000) n"
    )
    with shop.services.engine.begin() as db:
        processes.forget(db)
        assert len(processes.seen(db)) <= processes.MOST_KEPT + 1


def test_two_at_once_probe_without_waiting_for_each_other(shop: Shop) -> None:
    """The second sees that one is under way; each would otherwise wait for the other's lock on the table."""
    from worker.store.operations import health

    with shop.services.engine.begin() as first:
        health.write_blocks(first)
        assert shop.causes() == []


def test_the_time_without_progress_is_by_the_databases_clock(shop: Shop) -> None:
    shop.report(replace(WORKER, pid=84, idle=timedelta(minutes=3).total_seconds()))
    with shop.services.engine.begin() as db:
        (its,) = [each for each in processes.seen(db) if each.pid == 84]
    assert 180 <= its.progress_ago < 240
