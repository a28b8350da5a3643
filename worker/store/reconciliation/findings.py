"""Queries of findings: disagreements between the gateway's records and the database, one row for each."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict, Unpack

from sqlalchemy import Connection, case, exists, func, select, update
from sqlalchemy.dialects.postgresql import insert

from schedules.charging.charges import AttemptState
from schedules.charging.outcomes import GatewayPayment
from schedules.operations.findings import Discrepancy, FindingKind, FindingState
from worker.store.rows import read_all, read_first
from worker.store.tables import attempts, findings

OVER = [state.value for state in FindingState if state.is_over]


@dataclass(frozen=True, slots=True)
class Finding:
    """A row of findings: one payment, or one that is missing."""

    id: int
    kind: FindingKind
    account: str
    merchant_uid: str
    imp_uid: str
    charge_key: str | None
    amount: int
    balance: int
    currency: str
    words: str
    state: FindingState
    fence: int
    found_at: datetime
    ended_at: datetime | None
    ended_by: str | None
    ended_why: str | None


def note(
    db: Connection,
    account: str,
    payment: GatewayPayment,
    charge_key: str | None,
    found: Discrepancy,
    now: datetime,
) -> tuple[Finding, bool]:
    """Insert a finding or update the existing one; return it, and whether it is new or reopened.

    A finding that a person closed is reopened only when the payment has changed since.
    """
    row = {
        "kind": found.kind.value, "account": account, "merchant_uid": payment.merchant_uid,
        "imp_uid": payment.imp_uid, "charge_key": charge_key, "amount": payment.amount,
        "balance": payment.balance, "currency": payment.currency, "words": found.words,
        "state": FindingState.OPEN.value, "found_at": now, "seen_at": now,
    }  # fmt: skip
    statement = insert(findings).values(row)
    statement = statement.on_conflict_do_nothing(constraint="one_finding_for_each_payment")
    fresh = read_first(Finding, db.execute(statement.returning(findings)))
    return (fresh, True) if fresh is not None else _seen_again(db, row, now)


def _seen_again(db: Connection, row: dict[str, Any], now: datetime) -> tuple[Finding, bool]:
    f = findings.c
    # A repaired finding that is found again was not repaired; the others are reopened when money moved since. The
    # balance of a payment only falls: a larger one was read before the refund.
    back = (f.state == FindingState.REPAIRED.value) | (f.state.in_(OVER) & (f.balance > row["balance"]))
    same = [f[name] == row[name] for name in ("kind", "account", "merchant_uid", "imp_uid")]
    before = db.execute(select(f.state).where(*same).with_for_update()).scalar_one()
    statement = (
        update(findings)
        .where(*same)
        .values(
            seen_at=now,
            words=row["words"],
            state=case((back, FindingState.OPEN.value), else_=f.state),
            ended_at=case((back, None), else_=f.ended_at),
            # An approved refund is made from the approved balance, or not at all.
            balance=case((f.state.in_([*OVER, FindingState.OPEN.value]), row["balance"]), else_=f.balance),
        )
        .returning(findings)
    )
    (found,) = read_all(Finding, db.execute(statement))
    return found, found.state.value != before


def end_mendable(db: Connection, finding: Finding, now: datetime, by: str) -> None:
    """Close LOST and LATE_PAID findings about a payment that has another finding now."""
    f = findings.c
    kinds = [kind.value for kind in FindingKind if kind.mends_itself]
    db.execute(
        update(findings)
        .where(f.account == finding.account, f.merchant_uid == finding.merchant_uid, f.imp_uid == finding.imp_uid)
        .where(f.kind.in_(kinds), f.state == FindingState.OPEN.value)
        .values(state=FindingState.REPAIRED.value, ended_at=now, ended_by=by, fence=f.fence + 1,
                ended_why=f"it is finding {finding.id}, {finding.kind}")
    )  # fmt: skip


def end_paid(db: Connection, account: str, now: datetime, by: str) -> Sequence[int]:
    """Close LOST and LATE_PAID findings whose attempt is paid by their payment; return their numbers."""
    f, a = findings.c, attempts.c
    kinds = [kind.value for kind in FindingKind if kind.mends_itself]
    paid = (
        exists()
        .where(a.merchant_uid == f.merchant_uid, a.state == AttemptState.PAID.value, a.imp_uid == f.imp_uid)
        .where(a.amount == f.amount, a.currency == f.currency)
    )
    statement = (
        update(findings)
        .where(f.ended_at.is_(None), f.state == FindingState.OPEN.value, f.kind.in_(kinds), f.account == account)
        .where(paid)
        .values(state=FindingState.REPAIRED.value, ended_at=now, ended_by=by, fence=f.fence + 1,
                ended_why="the attempt is paid by this payment now")
        .returning(f.id)
    )  # fmt: skip
    return list(db.execute(statement).scalars())


def open_for(
    db: Connection, charge_key: str, but: int = 0, kind: FindingKind | None = None
) -> Finding | None:  # fmt: skip
    """Return an open finding about a charge, other than this one, optionally of one kind."""
    f = findings.c
    query = select(findings).where(f.charge_key == charge_key, f.ended_at.is_(None), f.id != but).limit(1)
    if kind is not None:
        query = query.where(f.kind == kind.value)
    return read_first(Finding, db.execute(query))


class FindingColumns(TypedDict, total=False):
    """The columns of a finding that are written with its state; without `lease_until` its lease ends."""

    lease_until: datetime
    words: str
    balance: int
    ended_at: datetime
    ended_by: str
    ended_why: str | None


def change(
    db: Connection, finding: Finding, state: FindingState, **values: Unpack[FindingColumns]
) -> Finding | None:
    """Update a finding under its fence; None when the fence has changed."""
    f = findings.c
    statement = (
        update(findings)
        .where(f.id == finding.id, f.fence == finding.fence, f.state == finding.state.value)
        .values(state=state.value, fence=f.fence + 1, **{"lease_until": None, **values})
        .returning(findings)
    )
    return read_first(Finding, db.execute(statement))


def is_another_refunded(db: Connection, finding: Finding) -> bool:
    """Whether the refund of another finding of the same charge is under way; the caller has locked the charge."""
    f = findings.c
    query = select(f.id).where(f.charge_key == finding.charge_key, f.id != finding.id)
    return db.execute(query.where(f.state == FindingState.REFUNDING.value)).first() is not None


def locked(db: Connection, finding_id: int) -> Finding | None:
    """A finding, locked until the transaction ends."""
    return read_first(Finding, db.execute(select(findings).where(findings.c.id == finding_id).with_for_update()))


def open_of(db: Connection, account: str, uids: Sequence[str]) -> dict[tuple[str, str], Finding]:
    """Return the open findings of the judged kinds about these merchant_uids, by uid and payment."""
    f = findings.c
    judged = [kind.value for kind in FindingKind if kind.is_judged]
    query = select(findings).where(f.ended_at.is_(None), f.account == account, f.merchant_uid.in_(uids))
    query = query.where(f.kind.in_(judged))
    found = read_all(Finding, db.execute(query))
    return {(finding.merchant_uid, finding.imp_uid): finding for finding in found}


def listed(db: Connection, *, ended: bool = False, limit: int = 1000) -> Sequence[Finding]:
    """Return the open findings, oldest first, or the newest of all."""
    query = select(findings).limit(limit)
    if ended:
        query = query.order_by(findings.c.id.desc())
    else:
        query = query.where(findings.c.ended_at.is_(None)).order_by(findings.c.id)
    return read_all(Finding, db.execute(query))


def open_counts(db: Connection) -> dict[FindingKind, int]:
    """Return the number of open findings of each kind."""
    f = findings.c
    query = select(f.kind, func.count()).where(f.ended_at.is_(None)).group_by(f.kind)
    return {FindingKind(kind): count for kind, count in db.execute(query)}


def to_refund(db: Connection, now: datetime, limit: int) -> Sequence[Finding]:
    """Return approved refunds, and those under way whose next look is due; `limit` of each account."""
    f = findings.c
    place = func.row_number().over(partition_by=f.account, order_by=f.id).label("place")
    placed = (
        select(f.id, place)
        .where(f.ended_at.is_(None))
        .where(
            (f.state == FindingState.APPROVED.value)
            | ((f.state == FindingState.REFUNDING.value) & (f.lease_until <= now))
        )
        .subquery()
    )
    query = select(findings).join(placed, placed.c.id == f.id).where(placed.c.place <= limit)
    return read_all(Finding, db.execute(query.order_by(f.id)))
