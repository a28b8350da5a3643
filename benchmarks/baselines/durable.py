"""The speed of DBOS, a library for durable workflows: a workflow of three recorded steps on PostgreSQL.

`python -m benchmarks.baselines.durable --database-url … --broker-url … --gateway … --charges 2000`, best with
`--concurrency 0`. The workflow is `durable_shop`. Its id is the merchant_uid, so a charge that is enqueued twice
is collected once. The broker is not used: the queue is a table.

Claim and settle are transactions that write the engine's record of the step together with the rows of the shop.
The call is a step with an httpx.Client per thread. An interrupted call is repeated when its workflow is recovered,
with the same merchant_uid; a look-up of its outcome, as Again makes it, is left out. The queue is polled ten times
a second; DBOS's default is once. Seconds count from the first enqueued charge to the last paid one. CPU is that of
the workers alone; the cost of their start and stop is measured without charges and subtracted.
"""

import sys

from dbos import DBOS, DBOSClient, EnqueueOptions
from sqlalchemy import create_engine, text

from benchmarks.baselines import durable_shop as shop
from benchmarks.baselines import tables
from benchmarks.baselines.measuring import Arguments, Workers, main


class Durable:
    """DBOS, with one workflow for each charge on one of its queues."""

    name = "dbos"

    def __init__(self, arguments: Arguments) -> None:
        self.arguments = arguments
        self.engine = create_engine(arguments.database_url)

    def fill(self, charges: int) -> None:
        """Create the tables with so many open charges, and the tables of the engine."""
        self.clean()
        tables.fill(self.engine, charges)
        DBOS.migrate(self.arguments.database_url, schema=shop.SCHEMA)

    def command(self, concurrency: int) -> tuple[list[str], dict[str, str]]:
        """A worker program, because DBOS runs within the program that uses it."""
        return [sys.executable, "-m", "benchmarks.baselines.durable_shop", "{number}"], {
            "DURABLE_DATABASE": self.arguments.database_url,
            "DURABLE_GATEWAY": self.arguments.gateway,
            "DURABLE_CONCURRENCY": str(concurrency),
        }

    def ready(self, workers: Workers) -> int:
        """How many workers printed that they are ready."""
        return workers.said(shop.READY)

    def publish(self, charges: int) -> None:
        """Enqueue one workflow for each charge, one after the other."""
        client = DBOSClient(
            system_database_engine=self.engine, dbos_system_schema=shop.SCHEMA, application_name=shop.APP
        )
        for number in range(1, charges + 1):
            options: EnqueueOptions = {
                "queue_name": shop.QUEUE,
                "workflow_name": shop.WORKFLOW,
                "workflow_id": f"order-{number}-1",
                "app_version": shop.VERSION,
            }
            client.enqueue(options, number)
        client.destroy()

    def paid(self) -> int:
        """How many charges are paid."""
        return tables.paid(self.engine)

    def clean(self) -> None:
        """Drop the tables and the schema of the engine."""
        tables.drop(self.engine)
        with self.engine.begin() as db:
            db.execute(text(f"DROP SCHEMA IF EXISTS {shop.SCHEMA} CASCADE"))
        self.engine.dispose()


if __name__ == "__main__":
    main(__doc__, Durable)
