"""Work at the gateway continues while that of another account hangs, and while messages wait in a queue."""

import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from sqlalchemy import text

from schedules.charging.charges import AttemptState, ChargeStatus
from schedules.charging.outcomes import Unknown
from schedules.errors import Code
from schedules.operations.queues import BULK, OPS, RECONCILE, REQUESTS
from schedules.requests.refunds import Fate, RefundRequest, RefundState
from tests.acceptance.again import plain_environment
from tests.doubles import ScriptedGateway
from tests.factories import attempt_rows, charge_rows, on_sale, opened
from tests.gateway.scripted import Act, Received, ScriptedServer, scripted
from tests.simulator.running import RunningSimulator, running_simulator
from tests.working import COMMAND, Worker, working
from worker.beat import MOST_CHORES
from worker.charging import attempt_charge
from worker.clock import wait_until
from worker.customers import enrollment
from worker.embedded import EmbeddedServices
from worker.operations import operate
from worker.refunds import refund_payment
from worker.renewals import open_charges
from worker.services import Services

pytestmark = pytest.mark.timeout(300)
IN_DOUBT, ASKED_FIRST, CHARGES, ALSO_IN_DOUBT = 60, 20, 40, 5
# A call lasts longer than the test: what hangs, hangs to its end.
PATIENT = {
    "AGAIN_READ_TIMEOUT": "250", "AGAIN_CALL_DEADLINE": "251", "AGAIN_LEASE": "520",
    "AGAIN_VISIBILITY_TIMEOUT": "560", "AGAIN_QUIET_TIME": "260", "AGAIN_CONCURRENCY": "4",
}  # fmt: skip


@pytest.fixture
def broker(embedded: EmbeddedServices) -> str:
    """A broker without messages."""
    url = embedded.broker_url.rpartition("/")[0] + "/11"  # a database of the server that no other test uses
    redis.Redis.from_url(url).flushdb()
    return url


@pytest.fixture(scope="module")
def simulator() -> Iterator[RunningSimulator]:
    """The main account's gateway, which answers."""
    with running_simulator() as running:
        for number in range(CHARGES):
            running.card(f"plain-{number}")
        yield running


@pytest.fixture
def silent() -> Iterator[ScriptedServer]:
    """The further account's gateway, which gives a token and answers no look-up before the end of the test."""
    over = threading.Event()

    def hang(server: ScriptedServer, peer: object) -> bool:
        over.wait()
        return False

    def act(_: Received) -> Act:
        return hang

    with scripted() as server:
        server.by_request = act
        yield server
        over.set()


@dataclass(frozen=True)
class Shop:
    """A worker of four threads, and charges of both accounts."""

    worker: Worker
    silent: ScriptedServer
    charges: dict[str, list[int]]  # row ids, by the beginning of the customer's uid

    def send(self, *messages: tuple[str, tuple[object, ...], str]) -> None:
        """Send tasks to the worker."""
        with Celery(broker=self.worker.settings["AGAIN_BROKER_URL"]) as publisher:
            for task, arguments, queue in messages:
                publisher.send_task(task, arguments, queue=queue)

    def rows(self, whose: str) -> list[dict[str, Any]]:
        """The charges of these customers."""
        return [row for row in charge_rows(self.worker.services) if row["id"] in self.charges[whose]]

    def attempts(self, whose: str) -> list[dict[str, Any]]:
        """The attempts at their charges."""
        return [row for row in attempt_rows(self.worker.services) if row["charge_id"] in self.charges[whose]]


@pytest.fixture
def shop(
    simulator: RunningSimulator, silent: ScriptedServer, embedded: EmbeddedServices, migrated_template: str,
    tmp_path: Path, broker: str,
) -> Iterator[Shop]:  # fmt: skip
    """Sixty attempts of the further account in doubt, twenty charges that are looked up first, and others."""
    accounts = tmp_path / "accounts.toml"
    section = f'[accounts.second]\nportone_url = "{silent.url}"\nkey = "key"\nsecret = "secret"\nrate = 0\n'
    accounts.write_text(section)
    accounts.chmod(0o600)
    settings = PATIENT | {
        "AGAIN_PORTONE_URL": simulator.url, "AGAIN_PORTONE_KEY": "sim_key", "AGAIN_PORTONE_SECRET": "sim_secret",
        "AGAIN_ACCOUNTS_FILE": str(accounts),
    }  # fmt: skip
    with working(embedded, migrated_template, broker, tmp_path, **settings) as running:
        operate.bind_new_accounts(running.services, "test")
        yield Shop(running, silent, arranged(running.services))


def arranged(services: Services) -> dict[str, list[int]]:
    """Charges by the beginning of the customer's uid; each in doubt has an attempt whose look-up is due."""
    offline = replace(services, gateways={"main": ScriptedGateway(), "second": ScriptedGateway()})
    on_sale(offline)
    kinds = {"doubt": (IN_DOUBT, "second"), "also-doubt": (ALSO_IN_DOUBT, "main"), "plain": (CHARGES, "main"),
             "first": (ASKED_FIRST, "second")}  # fmt: skip
    ids: dict[str, list[int]] = {}
    for kind, (many, account) in kinds.items():
        for number in range(many):
            uid = f"{kind}-{number}"
            enrollment.add_customer(offline, uid, None, None, None, "test", account=account)
            enrollment.subscribe(offline, uid, "monthly", "test")
        open_charges.open_due(offline)
        before = {charge_id for known in ids.values() for charge_id in known}
        ids[kind] = [row["id"] for row in charge_rows(offline) if row["id"] not in before]
    gateways = {"main": ScriptedGateway(), "second": ScriptedGateway()}
    for gateway in gateways.values():
        gateway.answers.extend([Unknown("ReadTimeout")] * IN_DOUBT)
    for charge_id in (*ids["doubt"], *ids["also-doubt"]):
        attempt_charge.attempt(replace(offline, gateways=gateways), charge_id)
    with services.engine.begin() as db:
        db.execute(text("UPDATE attempts SET next_ask_at = now() - id * interval '1 millisecond'"))
        statement = "UPDATE installation SET asked_to = :last, restored_at = now()"
        db.execute(text(statement), {"last": max(ids["plain"])})
    return ids


def test_charges_and_look_ups_of_an_account_go_on_while_all_look_ups_of_another_one_hang(shop: Shop) -> None:
    """Guard: look-ups that hang hold no thread of the worker, and none of another account's places."""
    firsts = [("again.charge", (charge_id, "second"), BULK) for charge_id in shop.charges["first"]]
    plain = [("again.charge", (charge_id, "main"), BULK) for charge_id in shop.charges["plain"]]
    shop.send(*firsts, ("again.ask_due", (), OPS))
    assert wait_until(lambda: bool(shop.silent.received), 30), shop.worker.log()[-3000:]
    shop.send(*plain, ("again.ask_due", (), OPS))

    def main_is_done() -> bool:
        paid = [row["status"] for row in shop.rows("plain")].count(ChargeStatus.PAID)
        return paid == CHARGES and all(row["asks"] for row in shop.attempts("also-doubt"))

    assert wait_until(main_is_done, 60), shop.worker.log()[-3000:]
    assert {row["state"] for row in shop.attempts("doubt")} == {AttemptState.UNKNOWN}
    assert not shop.attempts("first")
    # Those that hang end with the process, and those that wait are another process's.
    assert shop.worker.stop() == 0, shop.worker.log()[-3000:]
    now = shop.worker.services.clock.now()
    waiting = [row for row in shop.attempts("doubt") if not row["asks"]]
    assert len(waiting) + len(shop.silent.received) >= IN_DOUBT
    assert all(row["next_ask_at"] <= now for row in waiting)
    assert all(row["next_attempt_at"] <= now for row in shop.rows("first"))


def ready_to_refund(shop: Shop) -> None:
    """Pay a charge of the main account and all `first` ones of the further one, and ask for their refunds."""
    services = shop.worker.services
    offline = replace(services, gateways={**services.gateways, "second": ScriptedGateway()})
    for charge_id in (shop.charges["plain"][0], *shop.charges["first"]):
        assert attempt_charge.attempt(offline, charge_id) is AttemptState.PAID
    paid = [row for row in charge_rows(services) if row["status"] == ChargeStatus.PAID]
    for row in paid:
        request = RefundRequest(
            charge=row["key"], money=None, request_key=f"back-{row['id']}", reason="sent back", fate=Fate.KEEP
        )
        refund_payment.ask(services, request, "kim")


def cards_to_look_at(shop: Shop) -> None:
    """Have a card of the main account and those of all `first` ones looked at: it is unclear what is stored."""
    with shop.worker.services.engine.begin() as db:
        statement = """
            UPDATE billing_keys SET ask_at = now(), unclear_since = now() - interval '1 day'
            WHERE customer_uid = 'plain-1' OR customer_uid LIKE 'first-%'
        """
        db.execute(text(statement))


def test_refunds_reconciliation_and_cards_of_an_account_go_on_while_those_of_another_one_hang(shop: Shop) -> None:
    """Guard: a call of a chore that hangs holds no thread of the worker, and one of a request holds few."""
    ready_to_refund(shop)
    cards_to_look_at(shop)
    # Celery publishes a request like any other task; the answers of these are not awaited.
    fields = {"reason": "the page says so", "actor": "shop"}
    with Celery(broker=shop.worker.settings["AGAIN_BROKER_URL"]) as publisher:
        for number in range(ASKED_FIRST):
            named = {"customer_uid": f"first-{number}", **fields}
            publisher.send_task("again.card_changed", queue=REQUESTS, kwargs=named)
    chores = ("again.refund", "again.look_at_cards", "again.reconcile", "again.take_over", "again.lift_hold")
    # As beat does: a chore whose transaction fails once is done by a later message.
    shop.send(*[(chore, (), RECONCILE) for chore in chores] * 4)
    shop.send(*[("again.charge", (charge_id, "main"), BULK) for charge_id in shop.charges["plain"]])

    def main_is_done() -> bool:
        with shop.worker.services.engine.begin() as db:
            statement = """
                SELECT (SELECT state FROM refunds WHERE account = 'main') = 'made'
                   AND (SELECT changed_at FROM billing_keys WHERE customer_uid = 'plain-1') IS NOT NULL
                   AND (SELECT count(*) FROM reconciliations WHERE account = 'main' AND ended_at IS NOT NULL) = 2
            """
            return bool(db.execute(text(statement)).scalar_one()) and all(
                row["status"] in (ChargeStatus.PAID, ChargeStatus.REFUNDED) for row in shop.rows("plain")
            )

    for _ in range(9):
        if wait_until(main_is_done, 10):
            break
        cards_to_look_at(shop)
        shop.send(*[(chore, (), RECONCILE) for chore in chores])
    assert main_is_done(), shop.worker.log()
    assert shop.worker.answer("again.card_changed", customer_uid="plain-2", **fields)["ok"]
    refused = shop.worker.answer("again.card_changed", customer_uid="first-0", **fields)
    assert (refused["ok"], refused["code"]) == (False, Code.UNAVAILABLE)
    with shop.worker.services.engine.begin() as db:
        states = db.execute(text("SELECT state, count(*) FROM refunds WHERE account = 'second' GROUP BY state"))
        found = {str(state): int(count) for state, count in states}
        ended = "SELECT count(*) FROM reconciliations WHERE account = 'second' AND done_until > since"
        assert db.execute(text(ended)).scalar_one() == 0
    # Those under way are looked up when their leases end, and the others are due.
    assert found.keys() <= {RefundState.ASKED, RefundState.SENDING}
    assert sum(found.values()) == ASKED_FIRST


def test_look_ups_go_on_while_no_worker_takes_the_messages_that_wait_in_another_queue(
    simulator: RunningSimulator, embedded: EmbeddedServices, migrated_template: str, tmp_path: Path, broker: str
) -> None:
    """Guard: neither beat nor a worker counts the messages of another queue before it begins look-ups."""
    redis.Redis.from_url(broker).rpush(RECONCILE, *[b"a message of a webhook"] * (MOST_CHORES + 1))
    settings = {
        "AGAIN_PORTONE_URL": simulator.url, "AGAIN_PORTONE_KEY": "sim_key", "AGAIN_PORTONE_SECRET": "sim_secret",
    }  # fmt: skip
    command = (*COMMAND, "--queues", OPS)
    with working(embedded, migrated_template, broker, tmp_path, command, **settings) as worker:
        gateway = ScriptedGateway()
        gateway.answers.append(Unknown("ReadTimeout"))
        offline = replace(worker.services, gateways={"main": gateway})
        attempt_charge.attempt(offline, opened(offline))
        beat = subprocess.Popen([*COMMAND[:-1], "beat"], env=plain_environment(worker.settings))
        try:
            assert wait_until(lambda: attempt_rows(worker.services)[0]["asks"] >= 1, 60), worker.log()[-3000:]
        finally:
            beat.terminate()
            beat.wait(30)
        assert redis.Redis.from_url(broker).llen(RECONCILE) > MOST_CHORES


def test_a_look_up_that_an_earlier_version_asks_for_is_no_dead_letter(
    simulator: RunningSimulator, embedded: EmbeddedServices, migrated_template: str, tmp_path: Path, broker: str
) -> None:
    """Guard: in a rolling upgrade workers of both versions take the messages of both."""
    settings = {
        "AGAIN_PORTONE_URL": simulator.url, "AGAIN_PORTONE_KEY": "sim_key", "AGAIN_PORTONE_SECRET": "sim_secret",
    }  # fmt: skip
    command = (*COMMAND, "--queues", RECONCILE)
    with working(embedded, migrated_template, broker, tmp_path, command, **settings) as worker:
        with Celery(broker=broker) as publisher:
            publisher.send_task("again.ask", (1,), queue=RECONCILE)
            publisher.send_task("again.reconcile", queue=RECONCILE)

        def follows() -> bool:
            with worker.services.engine.begin() as db:
                return bool(db.execute(text("SELECT count(*) FROM reconciliations")).scalar_one())

        assert wait_until(follows, 60), worker.log()[-3000:]
        assert worker.stop() == 0
        assert worker.dead_letters() == {}
