"""Another backend that asks for charges while everything is beaten: by task, often twice, and again at the end."""

import logging
from collections.abc import Sequence
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from worker.clock import wait_until
from worker.services import Services
from worker.store.tables import charges

SENT_AGAIN = 3  # every so manieth request is sent twice at once, as by a sender that is unsure
PATIENCE = 20.0  # seconds until whoever has no answer asks again
MOST_ROUNDS = 20


class Asker:
    """Sends requests with keys of its own, and remembers them: each must become one charge."""

    def __init__(self, broker: str, services: Services, price: int) -> None:
        self._celery = Celery(broker=broker, backend=broker)
        self._celery.conf.update(task_publish_retry=False, broker_connection_timeout=2)
        self._services = services
        self._price = price
        self._asked: dict[str, str] = {}  # customer_uid by request key

    def ask(self, customer_uids: Sequence[str]) -> None:
        """Ask for one more charge of each of these."""
        for uid in customer_uids:
            key = f"chaos-{len(self._asked)}"
            self._asked[key] = uid
            for _ in range(2 if len(self._asked) % SENT_AGAIN == 0 else 1):
                self._send(key)

    def insist(self) -> None:
        """Ask again for everything that has no charge, until all of it has: the broker may have lost any of it."""
        for _ in range(MOST_ROUNDS):
            missing = self.missing()
            if not missing:
                return
            for key in missing:
                self._send(key)
            wait_until(lambda: not self.missing(), PATIENCE, every=0.5)
        raise TimeoutError(f"{len(self.missing())} requests have no charge, however often they are sent")

    def missing(self) -> list[str]:
        """The request keys that have no charge in the books."""
        try:
            with self._services.engine.begin() as db:
                known = set(db.execute(select(charges.c.request_key).where(charges.c.kind == "adhoc")).scalars())
        except DBAPIError:
            self._services.engine.dispose()
            return list(self._asked)
        return [key for key in self._asked if key not in known]

    @property
    def count(self) -> int:
        """How many charges were asked for."""
        return len(self._asked)

    def _send(self, key: str) -> None:
        fields: dict[str, Any] = {
            "customer_uid": self._asked[key], "amount": self._price, "currency": "KRW", "name": "asked for",
            "request_key": key, "reason": "chaos", "actor": "chaos",
        }  # fmt: skip
        try:
            self._celery.send_task("again.charge_adhoc", kwargs=fields, queue="requests", ignore_result=True)
        except (OperationalError, RedisError, ConnectionError) as error:
            logging.getLogger("again.chaos").info("%s is sent later: %s", key, error)
