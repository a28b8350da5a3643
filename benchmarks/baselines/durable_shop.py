"""The work as a DBOS workflow: claim, call and settle, each a step that is recorded in PostgreSQL."""

import os
import signal
import sys
import threading
from datetime import UTC, datetime
from typing import Any

import httpx
from dbos import DBOS, DBOSConfig, SQLAlchemyDatasource
from sqlalchemy import create_engine, insert, update

from benchmarks.baselines.tables import Attempt, Charge

APP = "durable"
VERSION = "1"
SCHEMA = "baseline_dbos"  # schema of the system tables of DBOS
QUEUE = "charges"
WORKFLOW = "collect"
POLLING = 0.1  # seconds; the default of a second would limit the throughput of a small queue
READY = "the worker is ready"


def config(database_url: str, pool: int) -> DBOSConfig:
    """The configuration of DBOS on the database of the shop, without any external service."""
    return {
        "name": APP,
        "system_database_url": database_url,
        "system_database_engine": create_engine(database_url, pool_size=pool, max_overflow=0),
        "dbos_system_schema": SCHEMA,
        "application_version": VERSION,
        "log_level": "WARNING",
    }


def work(database_url: str, gateway: str, number: str, concurrency: int) -> None:
    """Collect the queued charges until SIGTERM."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    clients = threading.local()
    DBOS(config=config(database_url, concurrency + 4) | {"executor_id": f"worker-{number}"})
    engine = create_engine(database_url, pool_size=concurrency + 2)
    shop = SQLAlchemyDatasource.create(database_url, engine=engine, schema=SCHEMA)

    @shop.transaction(isolation_level="READ COMMITTED")
    def claim(charge_id: int, merchant_uid: str) -> dict[str, Any]:
        session = shop.sql_session()
        charge = session.get_one(Charge, charge_id)
        noted = insert(Attempt).values(
            charge_id=charge_id, merchant_uid=merchant_uid, state="asked", created_at=datetime.now(UTC)
        )
        session.execute(noted)
        return {
            "customer_uid": charge.customer_uid,
            "merchant_uid": merchant_uid,
            "amount": charge.amount,
            "name": "Monthly",
        }

    @DBOS.step()
    def call(wanted: dict[str, Any]) -> dict[str, Any]:
        if not hasattr(clients, "http"):
            clients.http = httpx.Client(trust_env=False)
        answer: dict[str, Any] = clients.http.post(f"{gateway}/subscribe/payments/again", json=wanted).json()
        return answer

    @shop.transaction(isolation_level="READ COMMITTED")
    def settle(charge_id: int, merchant_uid: str, answer: dict[str, Any]) -> None:
        is_paid = answer["code"] == 0 and answer["response"]["status"] == "paid"
        state = "paid" if is_paid else "failed"
        imp_uid = answer["response"]["imp_uid"] if is_paid else None
        session = shop.sql_session()
        session.execute(
            update(Attempt)
            .where(Attempt.merchant_uid == merchant_uid)
            .values(state=state, imp_uid=imp_uid, settled_at=datetime.now(UTC))
        )
        session.execute(update(Charge).where(Charge.id == charge_id).values(status=state))

    @DBOS.workflow(name=WORKFLOW)
    def collect(charge_id: int) -> None:
        merchant_uid = DBOS.workflow_id
        assert merchant_uid is not None
        settle(charge_id, merchant_uid, call(claim(charge_id, merchant_uid)))

    DBOS.listen_queues([QUEUE])
    DBOS.launch()
    DBOS.register_queue(QUEUE, worker_concurrency=concurrency, polling_interval_sec=POLLING)
    print(READY, flush=True)
    ended.wait()
    DBOS.destroy(workflow_completion_timeout_sec=10)
    engine.dispose()


if __name__ == "__main__":
    work(
        os.environ["DURABLE_DATABASE"],
        os.environ["DURABLE_GATEWAY"],
        sys.argv[1],
        int(os.environ["DURABLE_CONCURRENCY"]),
    )
