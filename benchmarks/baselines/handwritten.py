"""The speed of a shop's own Celery program: one task per charge, prefork, an ORM session.

`python -m benchmarks.baselines.handwritten --database-url … --broker-url … --gateway … --charges 2000`, best with
`--concurrency 0`, because the number of children matters much. The program is `handwritten_shop`.

A new `httpx.Client` for each call, as is common, reads all trusted certificates each time, which costs more than
all else; `--client kept` has one client per child and shows the rest. The program settles the answers that it gets
and nothing else: no lease, no reconciling, no look-up of unknown outcomes, so it does less than Again per charge.
Seconds count from the first publish to the last paid charge. CPU is that of the workers alone; the cost of their
start and stop is measured without charges and subtracted.
"""

import os
import sys
from typing import Any

from sqlalchemy import create_engine

from benchmarks.baselines import handwritten_shop as shop
from benchmarks.baselines import tables
from benchmarks.baselines.measuring import Arguments, Workers, forget_queue, main


class HandWritten:
    """Celery's prefork pool, with one message per charge."""

    name = "hand-written"

    def __init__(self, arguments: Arguments) -> None:
        self.arguments = arguments
        self.engine = create_engine(arguments.database_url)
        shop.app.conf.update(broker_url=arguments.broker_url)

    def fill(self, charges: int) -> None:
        """Create the tables with so many open charges."""
        tables.fill(self.engine, charges)

    def command(self, concurrency: int) -> tuple[list[str], dict[str, str]]:
        """A worker by Celery's command line."""
        command = [
            sys.executable, "-m", "celery", "-A", "benchmarks.baselines.handwritten_shop", "worker",
            "--pool", "prefork", "--concurrency", str(concurrency), "--hostname",
            f"handwritten-{os.getpid()}-{{number}}@%h",
            "--loglevel", "WARNING",
        ]  # fmt: skip
        return command, {
            "HANDWRITTEN_DATABASE": self.arguments.database_url,
            "HANDWRITTEN_BROKER": self.arguments.broker_url,
            "HANDWRITTEN_GATEWAY": self.arguments.gateway,
            "HANDWRITTEN_CLIENT": self.arguments.client,
        }

    def ready(self, workers: Workers) -> int:
        """How many workers answer a ping."""
        prefix = f"handwritten-{os.getpid()}-"
        answers: list[dict[str, Any]] = shop.app.control.ping(timeout=0.5, limit=len(workers.running)) or []
        return sum(name.startswith(prefix) for answer in answers for name in answer)

    def publish(self, charges: int) -> None:
        """Publish one message for each charge, one after the other."""
        for number in range(1, charges + 1):
            shop.collect.delay(number)

    def paid(self) -> int:
        """How many charges are paid."""
        return tables.paid(self.engine)

    def clean(self) -> None:
        """Drop the tables and the queue."""
        tables.drop(self.engine)
        self.engine.dispose()
        forget_queue(shop.app, shop.QUEUE)


if __name__ == "__main__":
    main(__doc__, HandWritten, clients=("new", "kept"))
