"""Charges that wait for an operator, for a card or after a refusal: lists and counts."""

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, TextClause, and_, func, select, text

from worker.store.tables import IN_FLIGHT, OWED, REFUSED, attempts, billing_keys, charges


def held(db: Connection) -> list[dict[str, Any]]:
    """The charges that wait for an operator, oldest first."""
    query = select(charges).where(charges.c.held_why.is_not(None)).order_by(charges.c.id)
    return [dict(row) for row in db.execute(query).mappings()]


def for_card(db: Connection, limit: int) -> list[dict[str, Any]]:
    """Return the charges that wait for another card and for no operator, oldest first, with the last answer."""
    c, a, k = charges.c, attempts.c, billing_keys.c
    last = select(a.reason).where(a.charge_id == c.id).order_by(a.number.desc()).limit(1).scalar_subquery()
    query = (
        select(c.key, c.status, c.amount, c.currency, c.due_at, c.look_at, c.given_up, k.customer_uid)
        .add_columns(k.stopped_as, last.label("reason"))
        .join_from(charges, billing_keys)
        .where(c.waits.is_not(None), c.held_why.is_(None))
        .order_by(c.id)
        .limit(limit)
    )
    return [dict(row) for row in db.execute(query).mappings()]


def refused_after(db: Connection, charge_id: int, limit: int) -> list[tuple[int, str]]:
    """Row ids and keys of the charges after this row id that wait for their next attempt after a refused one."""
    c = charges.c
    query = select(c.id, c.key).where(_refused(), c.id > charge_id).order_by(c.id).limit(limit)
    return [(row.id, row.key) for row in db.execute(query)]


def is_refused(db: Connection, charge_id: int) -> bool:
    """Whether a charge waits for its next attempt after a refused one."""
    return db.execute(select(charges.c.id).where(_refused(), charges.c.id == charge_id)).first() is not None


def _refused() -> ColumnElement[bool]:
    """Open charges that wait and whose newest attempt was refused, with ix_charges_owed."""
    c, a = charges.c, attempts.c
    last = select(text(REFUSED)).where(a.charge_id == c.id).order_by(a.number.desc()).limit(1).scalar_subquery()
    waits = (c.next_attempt_at.is_not(None), c.held_why.is_(None), c.refusals > 0)
    return and_(text(OWED), *waits, last)


def waiting(db: Connection, now: datetime) -> dict[str, int]:
    """Return how many charges are due, in flight, held and last refused, counted with partial indexes."""
    c = charges.c
    due = and_(c.next_attempt_at <= now, c.next_attempt_at.is_not(None), c.held_why.is_(None))
    counted: dict[str, ColumnElement[bool] | TextClause] = {
        "due": due,
        "in_flight": text(IN_FLIGHT),
        "waits_for_card": c.waits.is_not(None),
        "held": c.held_why.is_not(None),
        "refused": _refused(),
    }
    counts = (
        select(func.count()).select_from(charges).where(condition).scalar_subquery().label(name)
        for name, condition in counted.items()
    )
    return dict(db.execute(select(*counts)).mappings().one())
