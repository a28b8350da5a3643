"""Charges that wait for an operator, a card, a look-up or another attempt: lists and counts."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, TextClause, and_, func, select, text

from schedules.charging.charges import AttemptState, ChargeStatus
from schedules.dunning.declines import DeclineClass
from schedules.dunning.policies import FinalAction
from worker.store.rows import read_all
from worker.store.tables import IN_FLIGHT, OWED, REFUSED, attempts, billing_keys, charges


@dataclass(frozen=True, slots=True)
class Held:
    """A charge that waits for an operator."""

    key: str
    status: ChargeStatus
    amount: int
    currency: str
    due_at: datetime
    held_why: str


@dataclass(frozen=True, slots=True)
class WaitsForCard:
    """A charge that waits for another card."""

    key: str
    customer_uid: str
    status: ChargeStatus
    amount: int
    currency: str
    due_at: datetime
    look_at: datetime | None
    given_up: FinalAction | None
    stopped_as: DeclineClass | None  # the decline class after which its card is not tried
    reason: str | None  # the last answer


def held(db: Connection, limit: int) -> list[Held]:
    """The charges that wait for an operator, oldest first."""
    query = select(charges).where(charges.c.held_why.is_not(None)).order_by(charges.c.id).limit(limit)
    return read_all(Held, db.execute(query))


def for_card(db: Connection, limit: int) -> list[WaitsForCard]:
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
    return read_all(WaitsForCard, db.execute(query))


@dataclass(frozen=True, slots=True)
class UnknownOutcome:
    """An attempt with an unknown outcome, with its customer's account, for a list."""

    merchant_uid: str
    amount: int
    currency: str
    unknown_since: datetime
    next_ask_at: datetime
    asks: int
    reason: str | None
    account: str
    held_why: str | None  # of the charge


def unknown(db: Connection, limit: int) -> list[UnknownOutcome]:
    """Return the attempts with an unknown outcome, oldest first."""
    a, c = attempts.c, charges.c
    query = (
        select(a.merchant_uid, a.amount, a.currency, a.unknown_since, a.next_ask_at, a.asks, a.reason)
        .add_columns(c.account, c.held_why)
        .join_from(attempts, charges, a.charge_id == c.id)
        .where(a.state == AttemptState.UNKNOWN.value)
        .order_by(a.unknown_since)
        .limit(limit)
    )
    return read_all(UnknownOutcome, db.execute(query))


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
