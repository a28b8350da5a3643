"""A shop's own program: one Celery task per charge, an ORM session, an httpx.Client."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from uuid import uuid4

import httpx
from celery import Celery
from celery.signals import worker_init, worker_process_init
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session

from benchmarks.baselines.tables import Attempt, Charge

QUEUE = "handwritten"

app = Celery("handwritten", broker=os.environ.get("HANDWRITTEN_BROKER"))
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    task_default_queue=QUEUE,
    task_serializer="json",
    accept_content=["json"],
    broker_connection_retry_on_startup=True,
    worker_proc_alive_timeout=60,  # seconds; on a busy machine the default of 4 kills slow children
)


@cache
def engine() -> Engine:
    """One engine per process; created before the fork, connected after it."""
    return create_engine(os.environ["HANDWRITTEN_DATABASE"])


@cache
def kept_client() -> httpx.Client:
    """One client per child."""
    return httpx.Client(trust_env=False)


@contextmanager
def client() -> Iterator[httpx.Client]:
    """A new client for each call, as is common, or the kept one."""
    if os.environ["HANDWRITTEN_CLIENT"] == "kept":
        yield kept_client()
    else:
        with httpx.Client(trust_env=False) as new:
            yield new


@worker_init.connect
def load(**_: object) -> None:
    """Import before the fork what the first charge would import."""
    engine()
    httpx.Client(trust_env=False).close()


@worker_process_init.connect
def warm(**_: object) -> None:
    """Connect before the first charge, so that many children are not slowed by their simultaneous start."""
    engine().connect().close()
    if os.environ["HANDWRITTEN_CLIENT"] == "kept":
        kept_client()


@app.task(name="handwritten.collect")
def collect(charge_id: int) -> None:
    """Record the attempt, make the call, and record the answer."""
    with Session(engine()) as session:
        charge = session.get_one(Charge, charge_id)
        attempt = Attempt(
            charge_id=charge.id,
            merchant_uid=f"order-{charge.id}-{uuid4().hex[:12]}",
            state="asked",
            created_at=datetime.now(UTC),
        )
        wanted = {
            "customer_uid": charge.customer_uid,
            "merchant_uid": attempt.merchant_uid,
            "amount": charge.amount,
            "name": "Monthly",
        }
        session.add(attempt)
        session.commit()  # no transaction is open during the call
        with client() as http:
            answer = http.post(f"{os.environ['HANDWRITTEN_GATEWAY']}/subscribe/payments/again", json=wanted).json()
        is_paid = answer["code"] == 0 and answer["response"]["status"] == "paid"
        attempt.state = charge.status = "paid" if is_paid else "failed"
        attempt.imp_uid = answer["response"]["imp_uid"] if is_paid else None
        attempt.settled_at = datetime.now(UTC)
        session.commit()
