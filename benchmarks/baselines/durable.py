"""How fast DBOS, a durable engine in a library, collects: a workflow of three recorded steps on PostgreSQL.

`python -m benchmarks.baselines.durable --database-url … --broker-url … --gateway … --charges 2000`, best with
`--concurrency 0`. The workflow is `durable_shop`; its id is the merchant_uid, so that handing a charge over twice
collects it once. The broker is not used: the queue is a table.

Claim and settle are transactions that write the engine's record of the step with the shop's rows, and the call is
a step with an httpx.Client for each thread. A call that was cut off is made again when its workflow is recovered,
with the same merchant_uid; asking the gateway what became of it, as ours does, is left out. The queue is looked at
each 0.1 s instead of each second, DBOS's default. Seconds run from the first charge on the queue to the last paid
one. CPU is that of the workers alone; what starting and stopping them costs is measured without charges, and taken
off.
"""

import sys

from dbos import DBOS, DBOSClient, EnqueueOptions
from sqlalchemy import create_engine, text

from benchmarks.baselines import durable_shop as shop
from benchmarks.baselines import tables
from benchmarks.baselines.measuring import Asked, Workers, main


class Durable:
    """DBOS, one workflow for each charge on one of its queues."""

    name = "dbos"

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.engine = create_engine(asked.database_url)

    def fill(self, charges: int) -> None:
        """Make the tables anew, with so many open charges, and the engine's own."""
        self.clean()
        tables.fill(self.engine, charges)
        DBOS.migrate(self.asked.database_url, schema=shop.SCHEMA)

    def command(self, concurrency: int) -> tuple[list[str], dict[str, str]]:
        """A worker of our own: DBOS lives in the program that uses it."""
        return [sys.executable, "-m", "benchmarks.baselines.durable_shop", "{number}"], {
            "DURABLE_DATABASE": self.asked.database_url,
            "DURABLE_GATEWAY": self.asked.gateway,
            "DURABLE_CONCURRENCY": str(concurrency),
        }

    def ready(self, workers: Workers) -> int:
        """Who said so."""
        return workers.said(shop.READY)

    def publish(self, charges: int) -> None:
        """One workflow for each charge, one after the other."""
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
        """How many are paid."""
        return tables.paid(self.engine)

    def clean(self) -> None:
        """Drop the tables and the engine's schema."""
        tables.drop(self.engine)
        with self.engine.begin() as db:
            db.execute(text(f"DROP SCHEMA IF EXISTS {shop.SCHEMA} CASCADE"))
        self.engine.dispose()


if __name__ == "__main__":
    main(__doc__, Durable)
