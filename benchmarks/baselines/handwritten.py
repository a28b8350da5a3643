"""How fast a shop's own Celery program collects: one task for each charge, prefork, an ORM session.

`python -m benchmarks.baselines.handwritten --database-url … --broker-url … --gateway … --charges 2000`, best with
`--concurrency 0`, because the right number of children decides much. The program itself is `handwritten_shop`.

A new `httpx.Client` for each call, the default and what is commonly written, reads all trusted certificates each
time, and that outweighs everything else here; `--client kept` has one for each child and shows what remains.
The program settles what it hears and nothing else: no lease, no reconciling, no second look at an answer that
never came, so it does less than ours for each charge. Seconds run from the first publish to the last paid charge.
CPU is that of the workers alone; what starting and stopping them costs is measured without charges, and taken off.
"""

import os
import sys
from typing import Any

from sqlalchemy import create_engine

from benchmarks.baselines import handwritten_shop as shop
from benchmarks.baselines import tables
from benchmarks.baselines.measuring import Asked, Workers, forget_queue, main


class HandWritten:
    """Celery's prefork pool, one message for each charge."""

    name = "hand-written"

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.engine = create_engine(asked.database_url)
        shop.app.conf.update(broker_url=asked.broker_url)

    def fill(self, charges: int) -> None:
        """Make the tables anew, with so many open charges."""
        tables.fill(self.engine, charges)

    def command(self, concurrency: int) -> tuple[list[str], dict[str, str]]:
        """A worker of Celery's own command line."""
        command = [
            sys.executable, "-m", "celery", "-A", "benchmarks.baselines.handwritten_shop", "worker",
            "--pool", "prefork", "--concurrency", str(concurrency), "--hostname",
            f"handwritten-{os.getpid()}-{{number}}@%h",
            "--loglevel", "WARNING",
        ]  # fmt: skip
        return command, {
            "HANDWRITTEN_DATABASE": self.asked.database_url,
            "HANDWRITTEN_BROKER": self.asked.broker_url,
            "HANDWRITTEN_GATEWAY": self.asked.gateway,
            "HANDWRITTEN_CLIENT": self.asked.client,
        }

    def ready(self, workers: Workers) -> int:
        """Who answers a ping."""
        ours = f"handwritten-{os.getpid()}-"
        answers: list[dict[str, Any]] = shop.app.control.ping(timeout=0.5, limit=len(workers.running)) or []
        return sum(name.startswith(ours) for answer in answers for name in answer)

    def publish(self, charges: int) -> None:
        """One message for each charge, one after the other."""
        for number in range(1, charges + 1):
            shop.collect.delay(number)

    def paid(self) -> int:
        """How many are paid."""
        return tables.paid(self.engine)

    def clean(self) -> None:
        """Drop the tables and the queue."""
        tables.drop(self.engine)
        self.engine.dispose()
        forget_queue(shop.app, shop.QUEUE)


if __name__ == "__main__":
    main(__doc__, HandWritten, clients=("new", "kept"))
