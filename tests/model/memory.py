"""The tables in memory: rows as PostgreSQL would give them, transactions that roll back, and nothing on a disk."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from datetime import datetime
from typing import Any

from schedules.charging.charges import UNRESOLVED, ChargeStatus
from schedules.dunning.policies import DunningPolicy
from tests.model.stage import TRANSACTION, Stage
from worker.store.charging.kill_switch import Hold
from worker.store.customers.plans import StoredPlan

Row = dict[str, Any]
OWED = frozenset(status.value for status in ChargeStatus if status.is_owed)
OPEN_ATTEMPTS = frozenset(state.value for state in UNRESOLVED)


class Refusal(AssertionError):
    """A unique constraint or a check refuses a write that no workflow may try."""


class Tables:
    """What is committed, and the rows that are looked for again and again by themselves."""

    def __init__(self) -> None:
        self.charges: dict[int, Row] = {}
        self.attempts: dict[int, Row] = {}
        self.subscriptions: dict[int, Row] = {}
        self.keys: dict[int, Row] = {}
        self.plans: dict[int, StoredPlan] = {}
        self.policies: dict[int, DunningPolicy] = {}
        self.stops: dict[str, tuple[str, str]] = {}  # who and why, by account
        self.fingerprint: str | None = None
        self.hold: Hold | None = None
        self.restored: tuple[datetime, int] | None = None  # when the last hold ended, and its cursor
        self.counted_from: dict[str, datetime] = {}  # refusals, by account
        self.findings: dict[int, Row] = {}
        self.runs: dict[int, Row] = {}
        self.newest_at: datetime | None = None  # of attempt_events and audit
        self.notices: dict[str, str] = {}  # kind by dedupe key
        self.charge_keys: dict[str, int] = {}
        self.periods: set[tuple[int, int]] = set()
        self.uids: dict[str, int] = {}
        self.attempts_of: dict[int, list[Row]] = defaultdict(list)
        self.owed: dict[int, Row] = {}  # at least the charges that are owed
        self.unresolved: dict[int, Row] = {}  # at least the attempts that are not over
        self.last_id = 0

    def forget_the_ended(self, charges: set[int], attempts: set[int]) -> None:
        """Keep the rows that work is looked for among few, as the partial indexes do."""
        for charge_id in charges:
            row = self.charges.get(charge_id)
            if row is not None and row["status"] in OWED:
                self.owed[charge_id] = row
            else:
                self.owed.pop(charge_id, None)
        for attempt_id in attempts:
            row = self.attempts.get(attempt_id)
            if row is not None and row["state"] in OPEN_ATTEMPTS:
                self.unresolved[attempt_id] = row
            else:
                self.unresolved.pop(attempt_id, None)


class Transaction:
    """Writes that stand together or not at all."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.charges: set[int] = set()
        self.attempts: set[int] = set()
        self._undo: list[Callable[[], object]] = []

    def next_id(self) -> int:
        """A number that no other row has; as in a sequence, one that is rolled back is lost."""
        self.tables.last_id += 1
        return self.tables.last_id

    def write(self, row: Row, values: Row) -> None:
        """Change columns of a row."""
        before = {name: row[name] for name in values}
        self._undo.append(lambda: row.update(before))
        row.update(values)

    def insert(self, table: dict[int, Row], row: Row) -> Row:
        """Write a new row under the next number."""
        written = row | {"id": self.next_id()}
        table[written["id"]] = written
        self._undo.append(lambda: table.pop(written["id"]))
        return written

    def note_time(self, now: datetime) -> None:
        """Something happened to an attempt, or a person did something."""
        before = self.tables.newest_at
        self._undo.append(lambda: setattr(self.tables, "newest_at", before))
        self.tables.newest_at = now

    @contextmanager
    def begin_nested(self) -> Iterator[None]:
        """A savepoint: what is written after it is undone alone."""
        mark = len(self._undo)
        try:
            yield
        except Exception:
            while len(self._undo) > mark:
                self._undo.pop()()
            raise

    def undo_by(self, act: Callable[[], object]) -> None:
        """Do this when the transaction is rolled back."""
        self._undo.append(act)

    def roll_back(self) -> None:
        """Put everything back, the newest first."""
        for act in reversed(self._undo):
            act()


class _Looking:
    """What `Engine.connect()` gives: a look outside of any transaction."""

    def __init__(self, engine: "MemoryEngine") -> None:
        self._engine = engine

    def execution_options(self, **options: object) -> "_Looking":
        return self

    def __enter__(self) -> Transaction:
        self._engine.stage.stop(TRANSACTION)
        return Transaction(self._engine.tables)

    def __exit__(self, *error: object) -> None:
        pass


class MemoryEngine:
    """Stands where the workflows have their SQLAlchemy engine; gives transactions on the tables in memory."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.tables = Tables()
        self.touched: set[int] = set()  # charges written since the pre-send check at the invariants

    @contextmanager
    def begin(self) -> Iterator[Transaction]:
        """A transaction; the stop before it is where another process may come between."""
        self.stage.stop(TRANSACTION)
        transaction = Transaction(self.tables)
        try:
            yield transaction
        except BaseException:
            transaction.roll_back()
            raise
        finally:
            self.tables.forget_the_ended(transaction.charges, transaction.attempts)
            self.touched |= transaction.charges

    def connect(self) -> _Looking:
        """A look without a transaction around it."""
        return _Looking(self)

    def backup(self) -> Tables:
        """A copy of everything."""
        return deepcopy(self.tables)

    def restore(self, backup: Tables) -> None:
        """Put everything back to what a backup holds."""
        self.tables = deepcopy(backup)
        self.touched |= set(self.tables.charges)
