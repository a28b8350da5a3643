"""What stops a charge from leaving: the kill switch, and a database of another environment."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from schedules.charges import AttemptState
from worker.store.schema import attempts, breakers, charges, installation, stops

ALL_ACCOUNTS = "*"


def stop(db: Connection, account: str, actor: str, why: str, now: datetime) -> None:
    """Stop charging for an account; a second stop keeps the newer reason."""
    row = {"account": account, "at": now, "actor": actor, "why": why}
    statement = insert(stops).values(row)
    db.execute(statement.on_conflict_do_update(index_elements=["account"], set_=row))


def resume(db: Connection, account: str) -> bool:
    """Let charging go on; False when it was not stopped."""
    return db.execute(delete(stops).where(stops.c.account == account)).rowcount > 0


def is_stopped(db: Connection, account: str) -> bool:
    """Whether this very account is stopped, by a person or by the breaker."""
    return db.execute(select(stops.c.account).where(stops.c.account == account)).first() is not None


def stopped(db: Connection) -> Sequence[dict[str, Any]]:
    """Every stop in force."""
    return [dict(row) for row in db.execute(select(stops).order_by(stops.c.account)).mappings()]


@dataclass(frozen=True, slots=True)
class Permission:
    """Who may send from this database, and why charging is stopped, if it is."""

    fingerprint: str | None
    hold_since: datetime | None
    stopped_why: str | None

    def obstacle(self, fingerprint: str) -> str | None:
        """Why nothing may be sent now; None when all is well."""
        return sending_obstacle(self.fingerprint, fingerprint, self.hold_since, self.stopped_why)


def sending_obstacle(
    bound: str | None, ours: str, hold_since: datetime | None, stopped_why: str | None
) -> str | None:
    """Why nothing may be sent from this database at all; None when all is well."""
    if bound != ours:
        return "this database belongs to another environment; see `again adopt`"
    if hold_since is not None:
        return (
            f"the database is on hold since {hold_since:%Y-%m-%d %H:%M}Z: what was paid is being asked for first"
        )
    return f"charging is stopped: {stopped_why}" if stopped_why is not None else None


# Built once, for it is asked with every claim.
_PERMISSION = select(
    select(installation.c.fingerprint).scalar_subquery(),
    select(installation.c.hold_since).scalar_subquery(),
    select(stops.c.why)
    .where(stops.c.account.in_([bindparam("account"), ALL_ACCOUNTS]))
    .limit(1)
    .scalar_subquery(),
)


def permission(db: Connection, account: str) -> Permission:
    """Whether charges of an account may leave, in one look."""
    row = db.execute(_PERMISSION, {"account": account}).one()
    return Permission(row[0], row[1], row[2])


def database_identity(db: Connection) -> str:
    """What no copy of this database shares: its cluster's number and its own within the cluster."""
    query = text(
        "SELECT system_identifier || '/' || (SELECT oid FROM pg_database WHERE datname = current_database()) "
        "FROM pg_control_system()"
    )
    return str(db.execute(query).scalar_one())


def bound(db: Connection) -> str | None:
    """The fingerprint of the environment that may send from this database; None when none was bound yet."""
    return db.execute(select(installation.c.fingerprint)).scalar()


def bind(db: Connection, fingerprint: str, environment: str, actor: str, now: datetime) -> None:
    """Let this environment, and no other, send from this database."""
    row = {
        "id": 1, "fingerprint": fingerprint, "environment": environment, "bound_at": now, "bound_by": actor,
    }  # fmt: skip
    db.execute(insert(installation).values(row).on_conflict_do_update(index_elements=["id"], set_=row))


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing is sent: what the gateway did since `hold_from` may be missing in these books."""

    since: datetime
    hold_from: datetime
    cursor: int  # owed charges up to this row id have been asked for


def hold(db: Connection) -> Hold | None:
    """The hold in force."""
    i = installation.c
    row = db.execute(select(i.hold_since, i.hold_from, i.hold_cursor)).first()
    return Hold(row[0], row[1], row[2]) if row is not None and row[0] is not None else None


def begin_hold(db: Connection, now: datetime, hold_from: datetime) -> None:
    """Let nothing be sent until all that may have happened since `hold_from` was asked for."""
    db.execute(update(installation).values(hold_since=now, hold_from=hold_from, hold_cursor=0))


def move_hold(db: Connection, cursor: int) -> None:
    """Owed charges up to this row have been asked for."""
    db.execute(update(installation).where(installation.c.hold_since.is_not(None)).values(hold_cursor=cursor))


def end_hold(db: Connection) -> None:
    """Let charges leave again."""
    db.execute(update(installation).values(hold_since=None, hold_from=None, hold_cursor=None))


def count_refusals_from(db: Connection, account: str, now: datetime) -> None:
    """Leave refused calls before now out of the breaker's count: a person has looked."""
    row = {"account": account, "counted_from": now}
    statement = insert(breakers).values(row)
    db.execute(statement.on_conflict_do_update(index_elements=["account"], set_=row))


def refused_since(db: Connection, account: str, since: datetime, enough: int) -> int:
    """How many charges of an account were refused since then, counted no further than to `enough`."""
    a, c = attempts.c, charges.c
    counted_from = select(breakers.c.counted_from).where(breakers.c.account == account).scalar_subquery()
    refused = (
        select(a.charge_id)
        .join_from(attempts, charges, a.charge_id == c.id)
        .where(a.state == AttemptState.REFUSED.value, a.settled_at > since, c.account == account)
        .where(a.settled_at > func.coalesce(counted_from, since))
        .distinct()
        .limit(enough)
        .subquery()
    )
    return db.execute(select(func.count()).select_from(refused)).scalar_one()
