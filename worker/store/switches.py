"""What stops a charge from leaving: the kill switch, and a database of another environment."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select, text
from sqlalchemy.dialects.postgresql import insert

from worker.store.schema import installation, stops

ALL_ACCOUNTS = "*"


def stop(db: Connection, account: str, actor: str, why: str, now: datetime) -> None:
    """Stop charging for an account; a second stop keeps the newer reason."""
    row = {"account": account, "at": now, "actor": actor, "why": why}
    statement = insert(stops).values(row)
    db.execute(statement.on_conflict_do_update(index_elements=["account"], set_=row))


def resume(db: Connection, account: str) -> bool:
    """Let charging go on; False when it was not stopped."""
    return db.execute(delete(stops).where(stops.c.account == account)).rowcount > 0


def stopped(db: Connection) -> Sequence[dict[str, Any]]:
    """Every stop in force."""
    return [dict(row) for row in db.execute(select(stops).order_by(stops.c.account)).mappings()]


@dataclass(frozen=True, slots=True)
class Permission:
    """Who may send from this database, and why charging is stopped, if it is."""

    fingerprint: str | None
    stopped_why: str | None


# Built once, for it is asked with every claim.
_PERMISSION = select(
    select(installation.c.fingerprint).scalar_subquery(),
    select(stops.c.why)
    .where(stops.c.account.in_([bindparam("account"), ALL_ACCOUNTS]))
    .limit(1)
    .scalar_subquery(),
)


def permission(db: Connection, account: str) -> Permission:
    """Whether charges of an account may leave, in one look."""
    row = db.execute(_PERMISSION, {"account": account}).one()
    return Permission(row[0], row[1])


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
