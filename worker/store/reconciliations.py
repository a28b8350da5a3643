"""The reconciler's runs as rows, and the two sides that it compares."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, exists, select, update
from sqlalchemy.dialects.postgresql import insert

from schedules.charges import AttemptState, ChargeStatus
from schedules.errors import BadUid
from schedules.findings import OurSide
from schedules.identity import parse_merchant_uid
from schedules.money import Money
from schedules.refunds import RefundState
from worker.store.schema import attempts, charges, reconciliations, refunds


class RunKind(StrEnum):
    """Why a run was begun."""

    HOURLY = "hourly"
    DAILY = "daily"
    ASKED = "asked"
    RESTORE = "restore"


@dataclass(frozen=True, slots=True)
class Run:
    """One run over a span of the gateway's list; what lies before `done_until` is compared."""

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
    """Our side of a payment, and where to mend it."""

    side: OurSide
    charge_id: int
    charge_key: str
    attempt_id: int | None


def begin(
    db: Connection, account: str, kind: RunKind, since: datetime, until: datetime, now: datetime
) -> Run | None:
    """Begin a run; None when one of its kind is under way, which one_reconciliation_at_a_time says."""
    row = {
        "account": account, "kind": kind.value, "since": since, "until": until, "done_until": since,
        "started_at": now, "fence": 0, "lease_until": now, "calls": 0, "payments": 0, "findings": 0,
    }  # fmt: skip
    statement = insert(reconciliations).values(row).on_conflict_do_nothing().returning(reconciliations)
    written = db.execute(statement).mappings().first()
    return _read(dict(written)) if written else None


def newest(db: Connection, account: str, kind: RunKind) -> Run | None:
    """The newest run of a kind, over or not."""
    r = reconciliations.c
    query = select(reconciliations).where(r.account == account, r.kind == kind.value)
    row = db.execute(query.order_by(r.id.desc()).limit(1)).mappings().first()
    return _read(dict(row)) if row else None


def under_way(db: Connection, account: str, kind: RunKind) -> Run | None:
    """The run of a kind that has not ended."""
    r = reconciliations.c
    query = select(reconciliations).where(r.account == account, r.kind == kind.value, r.ended_at.is_(None))
    row = db.execute(query).mappings().first()
    return _read(dict(row)) if row else None


def claim(db: Connection, run_id: int, now: datetime, lease_until: datetime) -> Run | None:
    """Take a run whose lease is free, under the next fence; None when another process has it, or it is over."""
    r = reconciliations.c
    statement = (
        update(reconciliations)
        .where(r.id == run_id, r.ended_at.is_(None), r.lease_until <= now)
        .values(fence=r.fence + 1, lease_until=lease_until)
        .returning(reconciliations)
    )
    row = db.execute(statement).mappings().first()
    return _read(dict(row)) if row else None


def advance(db: Connection, run: Run, **values: object) -> Run | None:
    """Write how far a run has come, under its fence; None when another process has taken it."""
    r = reconciliations.c
    statement = (
        update(reconciliations)
        .where(r.id == run.id, r.fence == run.fence, r.ended_at.is_(None))
        .values(**values)
        .returning(reconciliations)
    )
    row = db.execute(statement).mappings().first()
    return _read(dict(row)) if row else None


def debts_of(
    db: Connection, account: str, environment: str, uids: Sequence[str], now: datetime
) -> dict[str, Debt]:
    """Our side of each of these merchant_uids, by attempt or, where there is none, by the debt it names.

    A uid that another environment made names no debt of ours, whatever its other parts say.
    """
    by_uid = {row.merchant_uid: _debt(row, now) for row in db.execute(_by_uid(account, uids))}
    keys = {uid: key for uid in uids if uid not in by_uid and (key := _charge_key(uid, environment))}
    if keys:
        by_key = {row.key: _debt(row, now) for row in db.execute(_by_key(account, set(keys.values())))}
        by_uid |= {uid: by_key[key] for uid, key in keys.items() if key in by_key}
    return by_uid


REFUND_STATES = [RefundState.ASKED.value, RefundState.SENDING.value]
_PAID = attempts.alias("paid")
_SIDE = (
    charges.c.id, charges.c.key, charges.c.status, charges.c.refunded, charges.c.amount, charges.c.currency,
    _PAID.c.merchant_uid.label("paid_uid"),
    exists().where(refunds.c.charge_id == charges.c.id, refunds.c.state.in_(REFUND_STATES)).label("refunding"),
)  # fmt: skip


def _by_uid(account: str, uids: Sequence[str]) -> Any:
    a, c = attempts.c, charges.c
    return (
        select(*_SIDE, a.id.label("attempt_id"), a.merchant_uid, a.state, a.imp_uid, a.lease_until)
        .add_columns(a.amount.label("asked"), a.currency.label("asked_currency"))
        .join_from(attempts, charges, a.charge_id == c.id)
        .outerjoin(_PAID, (_PAID.c.charge_id == c.id) & (_PAID.c.state == AttemptState.PAID.value))
        .where(a.merchant_uid.in_(uids), c.account == account)
    )


def _by_key(account: str, keys: set[str]) -> Any:
    c = charges.c
    return (
        select(*_SIDE)
        .outerjoin(_PAID, (_PAID.c.charge_id == c.id) & (_PAID.c.state == AttemptState.PAID.value))
        .where(c.key.in_(keys), c.account == account)
    )


def _debt(row: Row[Any], now: datetime) -> Debt:
    fields = dict(row._mapping)
    state = AttemptState(fields["state"]) if fields.get("state") else None
    lease = fields.get("lease_until")
    amount, currency = fields.get("asked", row.amount), fields.get("asked_currency", row.currency)
    side = OurSide(
        attempt_state=state,
        attempt_imp_uid=fields.get("imp_uid"),
        money=Money(amount, currency),
        under_way=state is AttemptState.SENDING and lease is not None and lease >= now,
        charge_status=ChargeStatus(row.status),
        paid_uid=row.paid_uid,
        refunded=row.refunded,
        refund_under_way=row.refunding,
    )
    return Debt(side, row.id, row.key, fields.get("attempt_id"))


def _charge_key(uid: str, environment: str) -> str | None:
    try:
        parts = parse_merchant_uid(uid)
    except BadUid:
        return None
    return parts.charge_key if parts.environment == environment else None


def paid_between(
    db: Connection, account: str, since: datetime, until: datetime, after: int, limit: int
) -> Sequence[tuple[int, str]]:
    """Attempts that our books call paid and that were sent in a span of time, in pages by row id."""
    a, c = attempts.c, charges.c
    query = (
        select(a.id, a.merchant_uid)
        .join_from(attempts, charges, a.charge_id == c.id)
        .where(a.state == AttemptState.PAID.value, a.last_sent_at >= since, a.last_sent_at < until)
        .where(c.account == account, a.id > after)
        .order_by(a.id)
        .limit(limit)
    )
    return [(row.id, row.merchant_uid) for row in db.execute(query)]


def _read(row: dict[str, Any]) -> Run:
    return Run(**({name: row[name] for name in Run.__slots__} | {"kind": RunKind(row["kind"])}))
