"""Queries of batches and their lines."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, TypedDict, Unpack

from sqlalchemy import Connection, Select, and_, bindparam, case, delete, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert

from schedules.charging.charges import AttemptState, ChargeStatus
from schedules.dunning.declines import DeclineClass
from schedules.requests.batches import BatchState, Terms
from worker.store.rows import read_all
from worker.store.tables import BEGUN, attempts, batch_lines, batches, billing_keys, charges

PAGE = 1000  # lines per read, so that memory is bounded


@dataclass(frozen=True, slots=True)
class Batch:
    """A row of batches."""

    id: int
    key: str
    fingerprint: str
    content: str | None
    terms: Terms
    state: BatchState
    lines: int
    sums: Mapping[str, int]
    opened_to: int
    opened: int
    canary_passed: bool
    words: str | None
    created_by: str
    created_os_user: str | None
    created_at: datetime
    approved_by: str | None
    approved_os_user: str | None


@dataclass(frozen=True, slots=True)
class Tally:
    """The results of the opened lines."""

    paid: int
    failed: int
    undecided: int
    without_charge: int


def add(db: Connection, terms: Terms, actor: str, now: datetime) -> int | None:
    """Insert a draft without lines; None when one_batch_for_each_key refuses it."""
    row = {
        "key": terms.key, "fingerprint": "", "terms": _document(terms), "state": BatchState.DRAFT.value,
        "lines": 0, "sums": {}, "canary_passed": terms.canary == 0, "created_by": actor, "created_at": now,
    }  # fmt: skip
    return db.execute(insert(batches).values(row).on_conflict_do_nothing().returning(batches.c.id)).scalar()


class NewLine(TypedDict):
    """The columns of a line."""

    batch_id: int
    number: int
    customer_uid: str
    amount: int
    currency: str
    name: str
    request_key: str


class BatchColumns(TypedDict, total=False):
    """The columns of a batch that are written; one that is left out keeps its value."""

    fingerprint: str
    content: str
    repeats: str | None
    terms: Mapping[str, object]
    state: str
    lines: int
    sums: Mapping[str, int]
    opened_to: int
    opened: int
    canary_passed: bool
    words: str | None
    created_by: str
    created_os_user: str | None
    approved_by: str
    approved_os_user: str | None
    approved_at: datetime
    ended_at: datetime | None


def add_lines(db: Connection, rows: Sequence[NewLine]) -> set[int]:
    """Insert lines; return the numbers of those that one_line_for_each_request_key did not refuse."""
    if not rows:
        return set()
    statement = insert(batch_lines).on_conflict_do_nothing().returning(batch_lines.c.number)
    return set(db.execute(statement, list(rows)).scalars())


def change(db: Connection, batch_id: int, **values: Unpack[BatchColumns]) -> None:
    """Write these columns of one batch, which the caller has locked or just written."""
    db.execute(update(batches).where(batches.c.id == batch_id).values(**values))


def draft_again(db: Connection, batch_id: int, terms: Terms, actor: str) -> None:
    """Delete the lines of a batch without charges, so that it can be read again."""
    db.execute(delete(batch_lines).where(batch_lines.c.batch_id == batch_id))
    change(
        db, batch_id, terms=_document(terms), state=BatchState.DRAFT.value, canary_passed=terms.canary == 0,
        created_by=actor, words=None, ended_at=None,
    )  # fmt: skip


def by_key(db: Connection, key: str, *, lock: bool = False) -> Batch | None:
    """The batch with this key."""
    query = select(batches).where(batches.c.key == key)
    row = db.execute(query.with_for_update() if lock else query).mappings().first()
    return _read(dict(row)) if row else None


@dataclass(frozen=True, slots=True)
class Share:
    """What a batch charges in one currency at one gateway account, in minor units."""

    account: str
    currency: str
    total: int
    largest: int


def shares(db: Connection, batch_id: int) -> Sequence[Share]:
    """The sums of a batch's lines by account and currency, in that order; each line is read once."""
    n, k = batch_lines.c, billing_keys.c
    query = (
        select(k.account, n.currency, func.sum(n.amount), func.max(n.amount))
        .join_from(batch_lines, billing_keys, k.customer_uid == n.customer_uid)
        .where(n.batch_id == batch_id)
        .group_by(k.account, n.currency)
        .order_by(k.account, n.currency)
    )
    return [
        Share(account, currency, int(total), largest) for account, currency, total, largest in db.execute(query)
    ]


def running(db: Connection) -> Sequence[str]:
    """Return the keys of the running batches, oldest first."""
    query = select(batches.c.key).where(batches.c.state == BatchState.RUNNING.value).order_by(batches.c.id)
    return list(db.execute(query).scalars())


def newest_with(db: Connection, content: str, but: int) -> Batch | None:
    """Return the newest other batch with the same lines that was started, in any state."""
    b = batches.c
    query = select(batches).where(b.content == content, text(BEGUN), b.id != but).order_by(b.id.desc()).limit(1)
    row = db.execute(query).mappings().first()
    return _read(dict(row)) if row else None


def listed(db: Connection, limit: int) -> Sequence[Batch]:
    """Batches, newest first."""
    query = select(batches).order_by(batches.c.id.desc()).limit(limit)
    return [_read(dict(row)) for row in db.execute(query).mappings()]


@dataclass(frozen=True, slots=True)
class StoredLine:
    """A line, with its customer's present billing key."""

    number: int
    customer_uid: str
    amount: int
    currency: str
    name: str
    request_key: str
    key_id: int | None
    account: str | None
    deleted_at: datetime | None

    @property
    def card(self) -> tuple[int, str] | None:
        """The row id and the gateway account of the billing key; None when there is none that can be charged."""
        if self.key_id is None or self.account is None or self.deleted_at is not None:
            return None
        return self.key_id, self.account


def following(db: Connection, batch: Batch, limit: int) -> list[StoredLine]:
    """Return the next lines that are not opened, each with its customer's present billing key."""
    n, k = batch_lines.c, billing_keys.c
    query = (
        select(batch_lines, k.id.label("key_id"), k.account, k.deleted_at)
        .outerjoin(billing_keys, k.customer_uid == n.customer_uid)
        .where(n.batch_id == batch.id, n.number > batch.opened_to)
        .order_by(n.number)
        .limit(limit)
    )
    return read_all(StoredLine, db.execute(query))


class LineCharge(TypedDict):
    """The charge of a line, or why it has none."""

    batch: int
    line: int  # its number
    charge: int | None
    why: str | None


def keep_charges(db: Connection, rows: Sequence[LineCharge]) -> None:
    """Write the charge of each line, or why it has none."""
    n = batch_lines.c
    statement = (
        update(batch_lines)
        .where(n.batch_id == bindparam("batch"), n.number == bindparam("line"))
        .values(charge_id=bindparam("charge"), words=bindparam("why"))
    )
    if rows:
        db.execute(statement, list(rows))


def untried(db: Connection, batch: Batch, window: int) -> int:
    """Return how many of the last opened lines have a charge without an attempt."""
    n, c = batch_lines.c, charges.c
    query = (
        select(func.count())
        .select_from(batch_lines.join(charges, c.id == n.charge_id))
        .where(n.batch_id == batch.id, n.number > batch.opened_to - window, n.number <= batch.opened_to)
        .where(c.status == ChargeStatus.OPEN.value, c.attempts == 0, c.held_why.is_(None))
    )
    return int(db.execute(query).scalar_one())


def tally(db: Connection, batch: Batch, first: int | None = None) -> Tally:
    """Return the results of the opened lines, or of the first `first` of them."""
    n, c = batch_lines.c, charges.c
    lines = select(n.charge_id).where(n.batch_id == batch.id, n.number <= batch.opened_to).order_by(n.number)
    chosen = (lines.limit(first) if first is not None else lines).subquery()
    paid = c.status.in_([ChargeStatus.PAID.value, ChargeStatus.REFUNDED.value])
    open_still = c.status == ChargeStatus.OPEN.value
    failed = or_(and_(~paid, ~open_still), and_(open_still, or_(c.refusals > 0, c.held_why.is_not(None))))
    query = select(
        func.count().filter(paid),
        func.count().filter(failed),
        func.count().filter(and_(open_still, c.refusals == 0, c.held_why.is_(None))),
        func.count().filter(chosen.c.charge_id.is_(None)),
    ).select_from(chosen.outerjoin(charges, c.id == chosen.c.charge_id))
    return Tally(*db.execute(query).one())


def hold_untried(db: Connection, batch_id: int, why: str) -> int:
    """Hold the charges of a batch that have no attempt; return how many."""
    statement = (
        update(charges)
        .where(charges.c.id.in_(_charges_of(batch_id)), charges.c.status == ChargeStatus.OPEN.value)
        .where(charges.c.attempts == 0, charges.c.held_why.is_(None))
        .values(held_why=why, queued_until=None)
    )
    return db.execute(statement).rowcount


def release_held(db: Connection, batch_id: int, why: str) -> int:
    """Release the charges that are held for this reason; return how many."""
    statement = (
        update(charges)
        .where(charges.c.id.in_(_charges_of(batch_id)), charges.c.held_why == why)
        .values(held_why=None)
    )
    return db.execute(statement).rowcount


@dataclass(frozen=True, slots=True)
class LineResult:
    """A line with its result."""

    number: int
    customer_uid: str
    amount: int
    currency: str
    name: str
    request_key: str
    words: str | None  # why it has no charge
    charge: str | None  # its key
    status: ChargeStatus | None
    merchant_uid: str | None
    imp_uid: str | None
    reason: str | None
    decline_class: DeclineClass | None


def results(db: Connection, batch_id: int) -> Iterator[LineResult]:
    """Yield every line with its result, in order, in pages."""
    n, c, a = batch_lines.c, charges.c, attempts.c
    last = (
        select(a.merchant_uid, a.imp_uid, a.reason, a.decline_class, a.state)
        .where(a.charge_id == n.charge_id)
        .order_by(case((a.state == AttemptState.PAID.value, 0), else_=1), a.number.desc())
        .limit(1)
        .lateral("last")
    )
    query = (
        select(n.number, n.customer_uid, n.amount, n.currency, n.name, n.request_key, n.words)
        .add_columns(c.key.label("charge"), c.status, last.c.merchant_uid, last.c.imp_uid, last.c.reason)
        .add_columns(last.c.decline_class)
        .select_from(batch_lines)
        .outerjoin(charges, c.id == n.charge_id)
        .outerjoin(last, last.c.merchant_uid.is_not(None))
        .where(n.batch_id == batch_id)
        .order_by(n.number)
        .limit(PAGE)
    )
    after = -1
    while page := read_all(LineResult, db.execute(query.where(n.number > after))):
        yield from page
        after = page[-1].number


def _charges_of(batch_id: int) -> Select[tuple[int | None]]:
    return select(batch_lines.c.charge_id).where(batch_lines.c.batch_id == batch_id)


def _document(terms: Terms) -> dict[str, object]:
    names = ("key", "name", "reason", "policy", "currency", "canary", "repeats")
    return {name: getattr(terms, name) for name in names} | {"canary_bound": str(terms.canary_bound)}


def _read(row: dict[str, Any]) -> Batch:
    plain = {name: row[name] for name in Batch.__slots__}
    bound = Decimal(row["terms"]["canary_bound"])
    terms = Terms(**(row["terms"] | {"canary_bound": bound}))
    return Batch(**(plain | {"terms": terms, "state": BatchState(row["state"])}))
