"""Daily allowances of charges without a second person, and charges that wait for approval."""

from datetime import date

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects.postgresql import insert

from schedules.persons import Person
from worker.store.tables import allowances, charges


def take(db: Connection, account: str, day: date, currency: str, amount: int, limit: int) -> bool:
    """Add an amount to an account's day; False, and nothing is added, when the sum would be above the limit.

    The row stays locked until the transaction ends, so that concurrent additions are serialized. Other accounts,
    days and currencies do not wait.
    """
    if amount > limit:
        return False
    a = allowances.c
    row = {"account": account, "day": day, "currency": currency, "taken": amount}
    statement = insert(allowances).values(row)
    statement = statement.on_conflict_do_update(
        constraint="pk_allowances", set_={"taken": a.taken + amount}, where=a.taken + amount <= limit
    )
    return db.execute(statement.returning(a.taken)).scalar() is not None


def wait_for_second_person(db: Connection, charge_key: str, asked_by: Person) -> None:
    """Write who requested a held charge, so that another person must release it."""
    values = {"unapproved_actor": asked_by.actor, "unapproved_os_user": asked_by.os_user}
    db.execute(update(charges).where(charges.c.key == charge_key).values(values))


def unapproved_of(db: Connection, charge_id: int) -> Person | None:
    """Return who requested a charge that waits for a second person; None when it does not wait for one."""
    c = charges.c
    row = db.execute(select(c.unapproved_actor, c.unapproved_os_user).where(c.id == charge_id)).first()
    return Person(row.unapproved_actor, row.unapproved_os_user) if row and row.unapproved_actor else None
