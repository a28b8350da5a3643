"""The credentials that each further gateway account is bound to, by their fingerprints."""

from datetime import datetime

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert

from worker.store.tables import account_bindings


def all_bound(db: Connection) -> dict[str, str]:
    """Return the fingerprint that each further account is bound to."""
    a = account_bindings.c
    return {row.account: row.fingerprint for row in db.execute(select(a.account, a.fingerprint))}


def bound(db: Connection, account: str) -> str | None:
    """Return the fingerprint that one account is bound to; None when it is not bound."""
    return db.execute(select(account_bindings.c.fingerprint).where(account_bindings.c.account == account)).scalar()


def bind_if_new(db: Connection, account: str, fingerprint: str, actor: str, now: datetime) -> bool:
    """Bind an account that is not bound yet; False when it is bound already."""
    row = {"account": account, "fingerprint": fingerprint, "bound_at": now, "bound_by": actor}
    statement = insert(account_bindings).values(row).on_conflict_do_nothing()
    return db.execute(statement.returning(account_bindings.c.account)).first() is not None


def bind(db: Connection, account: str, fingerprint: str, actor: str, now: datetime) -> None:
    """Bind an account to these credentials, in place of any former ones."""
    row = {"account": account, "fingerprint": fingerprint, "bound_at": now, "bound_by": actor}
    db.execute(insert(account_bindings).values(row).on_conflict_do_update(index_elements=["account"], set_=row))
