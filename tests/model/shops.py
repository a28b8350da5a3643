"""Shops to run: on the tables in memory, with every guard or without some."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

from schedules.charging import unknown_outcomes as asking_rules
from schedules.charging.outcomes import GatewayPayment
from tests.model.driving import Driver, Size
from tests.model.gateway import ModelGateway
from tests.model.guards import ALL, Guards
from tests.model.linking import linked
from tests.model.memory import OWED, MemoryEngine, Row
from tests.model.memory_store import SENDING, UNKNOWN, memory_store
from tests.model.stage import Stage, failpoints_stop_at
from tests.model.world import BEGIN, World
from worker import clock as clocks
from worker.clock import FixedClock
from worker.config import Settings

SETTINGS = Settings(
    _env_file=None, environment="test", database_url="postgresql://unused/", broker_url="redis://unused/",
    portone_url="http://unused", portone_key="key", portone_secret="secret", rate=0,
)  # fmt: skip
FINGERPRINT = "model"


class MemoryBooks:
    """The tables in memory, seen from outside."""

    def __init__(self, engine: MemoryEngine) -> None:
        self._engine = engine

    def charges(self) -> list[Row]:
        return sorted(self._engine.tables.charges.values(), key=lambda row: str(row["key"]))

    def attempts(self) -> dict[int, list[Row]]:
        return self._engine.tables.attempts_of

    def touched(self) -> Iterable[tuple[Row, Sequence[Row]]]:
        tables, touched = self._engine.tables, self._engine.touched
        self._engine.touched = set()
        return [(tables.charges[i], tables.attempts_of[i]) for i in sorted(touched) if i in tables.charges]

    def next_times(self) -> list[datetime]:
        tables = self._engine.tables
        times: list[datetime] = []
        for row in tables.owed.values():
            if row["next_attempt_at"] is not None and row["held_why"] is None and row["status"] in OWED:
                times += [row["next_attempt_at"], row["queued_until"] or row["next_attempt_at"]]
            if row["look_at"] is not None and row["status"] in OWED:
                times.append(row["look_at"])
        for row in tables.unresolved.values():
            if row["state"] == SENDING:
                times.append(row["lease_until"])
            elif row["state"] == UNKNOWN and not waits_for_a_person(row, tables.charges, tables.findings):
                times.append(row["next_ask_at"])
        return times

    def findings(self) -> list[Row]:
        return list(self._engine.tables.findings.values())

    def is_on_hold(self) -> bool:
        return self._engine.tables.hold is not None

    def backup(self) -> object:
        return self._engine.backup()

    def restore(self, backup: object) -> None:
        self._engine.restore(cast("Any", backup))


def waits_for_a_person(attempt: Row, charges: Mapping[int, Row], findings: Mapping[int, Row]) -> bool:
    """Whether asking goes on for ever, until a person acts: its charge is held, or its payment is a finding."""
    if charges[attempt["charge_id"]]["held_why"] is not None:
        return True
    return any(
        row["merchant_uid"] == attempt["merchant_uid"] and row["ended_at"] is None for row in findings.values()
    )


def shop_in_memory(guards: Guards = ALL) -> World:
    """An empty shop on the tables in memory, worked on by the workflows' own source."""
    stage = Stage()
    engine = MemoryEngine(stage)
    engine.tables.fingerprint = FINGERPRINT
    clock = FixedClock(BEGIN)
    settings = SETTINGS if guards.quiet_time else SETTINGS.model_copy(update={"quiet_time": 0})
    gateway = ModelGateway(clock, stage, timedelta(seconds=settings.call_deadline))
    instead = {f"worker.store.{name}": part for name, part in memory_store(guards).items()}
    # The turn that the reconciler waits for costs no real time here: not even a sleep of nothing.
    instead["worker.clock"] = SimpleNamespace(**{**vars(clocks), "wait": lambda seconds: None})
    if not guards.amount:
        instead["schedules.charging.unknown_outcomes"] = _blind_to_amounts()
    gateway.keeps_until = guards.until
    verbs = linked(instead)
    # Its methods read the store too, so the class is one of the linked source.
    services = verbs.services.Services(settings, clock, engine, {settings.account: gateway}, lambda _: FINGERPRINT)
    world = World(services, MemoryBooks(engine), verbs, gateway, stage)
    world.holds_after_restore = guards.restore_hold
    return world


def run_in_memory(seed: str, size: Size, guards: Guards = ALL) -> Counter[str]:
    """Run one shop from its first day until it rests; raises when an invariant breaks."""
    world = shop_in_memory(guards)
    with failpoints_stop_at(world.stage):
        try:
            return Driver(world, seed, size).run()
        finally:
            world.stage.kill_all()


def _blind_to_amounts() -> SimpleNamespace:
    """The rules of asking, told of every payment that it is of the amount that was asked."""

    def read_found(
        found: Sequence[GatewayPayment], asked: asking_rules.AskedAbout, *rest: Any
    ) -> asking_rules.Verdict:
        money = asked.money
        same = [replace(payment, amount=money.amount, currency=money.currency) for payment in found]
        return asking_rules.read_found(same, asked, *rest)

    return SimpleNamespace(**{**vars(asking_rules), "read_found": read_found})


@contextmanager
def quiet() -> Iterator[None]:
    """Log nothing of what the workflows say during this block: a run meets thousands of faults."""
    log = logging.getLogger("again")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(level)
