"""A shop on real PostgreSQL: the product's own workflows and store, one process at a time."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from sqlalchemy import Connection, event, select, text

from schedules.charging.charges import AttemptState
from tests.model.gateway import ModelGateway
from tests.model.linking import product
from tests.model.memory import OWED, Row
from tests.model.shops import waits_for_a_person
from tests.model.stage import TRANSACTION, Stage, failpoints_stop_at
from tests.model.world import BEGIN, World
from worker.clock import FixedClock
from worker.services import Services
from worker.store.charging import kill_switch
from worker.store.tables import attempts, charges, findings, metadata

_numbers = count(1)


class PostgresBooks:
    """The real tables, seen from outside of the processes."""

    def __init__(self, services: Services) -> None:
        self._engine = services.engine

    def charges(self) -> list[Row]:
        with self._engine.begin() as db:
            return [dict(row) for row in db.execute(select(charges).order_by(charges.c.key)).mappings()]

    def attempts(self) -> dict[int, list[Row]]:
        found: dict[int, list[Row]] = defaultdict(list)
        with self._engine.begin() as db:
            for row in db.execute(select(attempts).order_by(attempts.c.number)).mappings():
                found[row["charge_id"]].append(dict(row))
        return found

    def touched(self) -> Iterable[tuple[Row, Sequence[Row]]]:
        with self._engine.begin() as db:
            rows = [dict(row) for row in db.execute(select(charges)).mappings()]
            found: dict[int, list[Row]] = defaultdict(list)
            for row in db.execute(select(attempts)).mappings():
                found[row["charge_id"]].append(dict(row))
        return [(row, found[row["id"]]) for row in rows]

    def next_times(self) -> list[datetime]:
        times: list[datetime] = []
        charges_by_id = {row["id"]: row for row in self.charges()}
        found = {row["id"]: row for row in self.findings()}
        for charge, its_attempts in self.touched():
            if charge["held_why"] is None and charge["next_attempt_at"] is not None and charge["status"] in OWED:
                times += [charge["next_attempt_at"], charge["queued_until"] or charge["next_attempt_at"]]
            if charge["look_at"] is not None:
                times.append(charge["look_at"])
            for attempt in its_attempts:
                if attempt["state"] == AttemptState.SENDING.value:
                    times.append(attempt["lease_until"])
                elif attempt["state"] == AttemptState.UNKNOWN.value and not waits_for_a_person(
                    attempt, charges_by_id, found
                ):
                    times.append(attempt["next_ask_at"])
        return times

    def findings(self) -> list[Row]:
        with self._engine.begin() as db:
            return [dict(row) for row in db.execute(select(findings)).mappings()]

    def is_on_hold(self) -> bool:
        with self._engine.begin() as db:
            return kill_switch.hold(db) is not None

    def backup(self) -> object:
        """Copies of the tables in a schema of their own; answers its name."""
        name = f"backup_{next(_numbers)}"
        with self._engine.begin() as db:
            db.execute(text(f"CREATE SCHEMA {name}"))
            for table in metadata.sorted_tables:
                db.execute(text(f"CREATE TABLE {name}.{table.name} AS TABLE {table.name}"))
        return name

    def restore(self, backup: object) -> None:
        """Put every row back as it was, and no row that came after; sequences too."""
        with self._engine.begin() as db:
            # History is append only, and a restore is no change of history: its triggers do not fire.
            db.execute(text("SET LOCAL session_replication_role = replica"))
            tables = metadata.sorted_tables
            db.execute(text("TRUNCATE " + ", ".join(table.name for table in tables)))
            for table in tables:
                db.execute(text(f"INSERT INTO {table.name} OVERRIDING SYSTEM VALUE TABLE {backup}.{table.name}"))
                _put_sequence_back(db, table.name, "id" in table.c and table.c["id"].identity is not None)


def _put_sequence_back(db: Connection, table: str, numbered: bool) -> None:
    if numbered:
        last = f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id) + 1, false) FROM {table}"
        db.execute(text(last))


def shop_on_postgres(services: Services, stage: Stage) -> World:
    """An empty shop on a real database, with the model's clock and gateway."""
    clock = FixedClock(BEGIN)
    gateway = ModelGateway(clock, stage, timedelta(seconds=services.settings.call_deadline))
    # The reconciler's cap goes by the database's own clock: it must not wait in a run of simulated months.
    settings = services.settings.model_copy(update={"reconcile_rate": 1000.0})
    made = replace(services, settings=settings, clock=clock, gateways={settings.account: gateway})
    return World(made, PostgresBooks(made), product(), gateway, stage)


@contextmanager
def stops_on(services: Services, stage: Stage) -> Iterator[None]:
    """Processes stop at the points, and before each transaction, where they hold no lock."""

    def before_transaction(_: Any) -> None:
        stage.stop(TRANSACTION)

    event.listen(services.engine, "begin", before_transaction)
    try:
        with failpoints_stop_at(stage):
            yield
    finally:
        stage.kill_all()
        event.remove(services.engine, "begin", before_transaction)
