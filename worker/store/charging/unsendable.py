"""Charges that no process sends: those of a gateway account that is not configured."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection, select, text

from worker.store.tables import IS_DUE, charges

# Each account takes one index step (ix_charges_due), independent of the number of its charges.
_ACCOUNTS = text(f"""
    WITH RECURSIVE known AS (
        (SELECT account FROM charges WHERE {IS_DUE} AND account > '' ORDER BY account LIMIT 1)
        UNION ALL
        SELECT (
            SELECT c.account FROM charges AS c WHERE {IS_DUE} AND c.account > known.account
            ORDER BY c.account LIMIT 1
        )
        FROM known WHERE known.account IS NOT NULL
    )
    SELECT account FROM known WHERE account IS NOT NULL
""")  # noqa: S608 # the inserted part is a constant of the schema


def due_at_other_accounts(
    db: Connection, accounts: Collection[str], due_before: datetime, limit: int
) -> list[tuple[str, str]]:
    """Key and account of the charges due before this time at an account that is none of these, locked."""
    others = [account for account in db.execute(_ACCOUNTS).scalars() if account not in accounts]
    found: list[tuple[str, str]] = []
    for account in others:
        found += _due_at(db, account, due_before, limit - len(found))
    return found


def _due_at(db: Connection, account: str, due_before: datetime, limit: int) -> list[tuple[str, str]]:
    c = charges.c
    query = (
        select(c.key, c.account)
        .where(text(IS_DUE), c.account == account, c.next_attempt_at < due_before)
        .order_by(c.next_attempt_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [(row.key, row.account) for row in db.execute(query)]
