"""Queries of the reconciler: its runs, and the database's side of the comparison."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypedDict, Unpack

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    FromClause,
    Row,
    Select,
    Table,
    Text,
    exists,
    func,
    select,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from schedules.charging.charges import AttemptState, ChargeStatus
from schedules.charging.identity import charge_key_of
from schedules.money.amounts import Money
from schedules.operations.findings import OurSide
from schedules.requests.refunds import RefundState
from worker.store.rows import read_first
from worker.store.tables import archived_attempts, attempts, billing_keys, charges, reconciliations, refunds


class RunKind(StrEnum):
    """The kind of a run."""

    HOURLY = "hourly"
    DAILY = "daily"
    ASKED = "asked"
    RESTORE = "restore"


@dataclass(frozen=True, slots=True)
class Run:
    """One run over a span of the gateway's list; the part before `done_until` is compared."""

    id: int
    account: str
    kind: RunKind
    since: datetime
    until: datetime
    done_until: datetime
    started_at: datetime
    ended_at: datetime | None
    fence: int
    calls: int
    payments: int
    findings: int
    words: str | None


@dataclass(frozen=True, slots=True)
class Debt:
    """The database's side of a payment, and the rows to repair."""

    side: OurSide
    charge_id: int
    charge_key: str
    attempt_id: int | None


def begin(
    db: Connection, account: str, kind: RunKind, since: datetime, until: datetime, now: datetime
) -> Run | None:
    """Insert a run; None when one_reconciliation_at_a_time refuses it because one of its kind is under way."""
    row = {
        "account": account, "kind": kind.value, "since": since, "until": until, "done_until": since,
        "started_at": now, "fence": 0, "lease_until": now, "calls": 0, "payments": 0, "findings": 0,
    }  # fmt: skip
    statement = insert(reconciliations).values(row).on_conflict_do_nothing().returning(reconciliations)
    return read_first(Run, db.execute(statement))


def newest(db: Connection, account: str, kind: RunKind) -> Run | None:
    """Return the newest run of a kind."""
    r = reconciliations.c
    query = select(reconciliations).where(r.account == account, r.kind == kind.value)
    return read_first(Run, db.execute(query.order_by(r.id.desc()).limit(1)))


def under_way(db: Connection, account: str, kind: RunKind) -> Run | None:
    """The run of a kind that has not ended."""
    r = reconciliations.c
    query = select(reconciliations).where(r.account == account, r.kind == kind.value, r.ended_at.is_(None))
    return read_first(Run, db.execute(query))


def claim(db: Connection, run_id: int, now: datetime, lease_until: datetime) -> Run | None:
    """Claim a run whose lease is free, under the next fence; None when another process has it, or it has ended."""
    r = reconciliations.c
    statement = (
        update(reconciliations)
        .where(r.id == run_id, r.ended_at.is_(None), r.lease_until <= now)
        .values(fence=r.fence + 1, lease_until=lease_until)
        .returning(reconciliations)
    )
    return read_first(Run, db.execute(statement))


class RunColumns(TypedDict, total=False):
    """The columns of a run that are written as it advances; one that is left out keeps its value."""

    done_until: datetime
    lease_until: datetime
    calls: int
    payments: int
    findings: int
    words: str | None
    ended_at: datetime | None


def advance(db: Connection, run: Run, **values: Unpack[RunColumns]) -> Run | None:
    """Write the progress of a run, under its fence; None when another process has claimed it."""
    r = reconciliations.c
    statement = (
        update(reconciliations)
        .where(r.id == run.id, r.fence == run.fence, r.ended_at.is_(None))
        .values(**values)
        .returning(reconciliations)
    )
    return read_first(Run, db.execute(statement))


def debts_of(
    db: Connection, account: str, environment: str, uids: Sequence[str], now: datetime
) -> dict[str, Debt]:
    """Return the database's side of each of these merchant_uids, by attempt or else by the charge that it names.

    A uid of another environment names no charge of this database.
    """
    by_uid = {row.merchant_uid: _debt(row, now) for row in db.execute(_by_uid(attempts, account, uids))}
    if missing := [uid for uid in uids if uid not in by_uid]:
        # One statement has one snapshot: rows that are moved back meanwhile would be missing in both tables.
        both = union_all(_by_uid(attempts, account, missing), _by_uid(archived_attempts, account, missing))
        by_uid |= {row.merchant_uid: _debt(row, now) for row in db.execute(both)}
    keys = {uid: key for uid in uids if uid not in by_uid and (key := charge_key_of(uid, environment))}
    if keys:
        by_key = {row.key: _debt(row, now) for row in db.execute(_by_key(account, set(keys.values())))}
        by_uid |= {uid: by_key[key] for uid, key in keys.items() if key in by_key}
    return by_uid


REFUND_STATES = [RefundState.ASKED.value, RefundState.SENDING.value]
_key, _keys = billing_keys.alias("key"), billing_keys.alias("keys")
_CUSTOMER_UIDS = (
    select(_keys.c.customer_uid)
    .join_from(_key, _keys, _keys.c.customer_id == _key.c.customer_id)
    .where(_key.c.id == charges.c.billing_key_id)
    .correlate(charges)
    .scalar_subquery()
)
_SIDE = (
    charges.c.id, charges.c.key, charges.c.status, charges.c.refunded, charges.c.amount, charges.c.currency,
    exists().where(refunds.c.charge_id == charges.c.id, refunds.c.state.in_(REFUND_STATES)).label("refunding"),
    func.array(_CUSTOMER_UIDS, type_=ARRAY(Text)).label("customer_uids"),
)  # fmt: skip


def _by_uid(table: Table, account: str, uids: Sequence[str]) -> Select[Any]:
    """By attempt; all attempts of a charge are archived, or none."""
    a, c, paid = table.c, charges.c, table.alias("paid")
    return (
        select(*_SIDE, paid.c.merchant_uid.label("paid_uid"))
        .add_columns(a.id.label("attempt_id"), a.merchant_uid, a.state, a.imp_uid, a.lease_until)
        .add_columns(a.amount.label("asked"), a.currency.label("asked_currency"))
        .join_from(table, charges, a.charge_id == c.id)
        .outerjoin(paid, _pays(paid))
        .where(a.merchant_uid.in_(uids), c.account == account)
    )


def _by_key(account: str, keys: set[str]) -> Select[Any]:
    c, here, there = charges.c, attempts.alias("paid"), archived_attempts.alias("archived_paid")
    return (
        select(*_SIDE, func.coalesce(here.c.merchant_uid, there.c.merchant_uid).label("paid_uid"))
        .outerjoin(here, _pays(here))
        .outerjoin(there, _pays(there))
        .where(c.key.in_(keys), c.account == account)
    )


def _pays(paid: FromClause) -> ColumnElement[bool]:
    return (paid.c.charge_id == charges.c.id) & (paid.c.state == AttemptState.PAID.value)


def _debt(row: Row[Any], now: datetime) -> Debt:
    fields = dict(row._mapping)
    state = AttemptState(fields["state"]) if fields.get("state") else None
    lease = fields.get("lease_until")
    amount, currency = fields.get("asked", row.amount), fields.get("asked_currency", row.currency)
    side = OurSide(
        attempt_state=state,
        attempt_imp_uid=fields.get("imp_uid"),
        money=Money(amount, currency),
        customer_uids=frozenset(row.customer_uids),
        under_way=state is AttemptState.SENDING and lease is not None and lease >= now,
        charge_status=ChargeStatus(row.status),
        paid_uid=row.paid_uid,
        refunded=row.refunded,
        refund_under_way=row.refunding,
    )
    return Debt(side, row.id, row.key, fields.get("attempt_id"))


def paid_between(
    db: Connection, account: str, since: datetime, until: datetime, after: int, limit: int
) -> Sequence[tuple[int, str]]:
    """Return paid attempts that were sent in a span of time, in pages by row id, including archived ones."""
    c = charges.c
    pages = (
        select(t.c.id, t.c.merchant_uid)
        .join_from(t, charges, t.c.charge_id == c.id)
        .where(t.c.state == AttemptState.PAID.value, t.c.last_sent_at >= since, t.c.last_sent_at < until)
        .where(c.account == account, t.c.id > after)
        .order_by(t.c.id)
        .limit(limit)
        .subquery()
        for t in (attempts, archived_attempts)
    )
    both = union_all(*(select(page) for page in pages)).order_by("id").limit(limit)
    return [(row.id, row.merchant_uid) for row in db.execute(both)]
