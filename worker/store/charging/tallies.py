"""Counts: the work that is due, the time of the next work, and the results of all charges."""

from datetime import datetime
from typing import Any

from sqlalchemy import Column, Connection, Select, exists, func, select, text

from schedules.charging.charges import AttemptState, ChargeStatus
from schedules.outbox.event_fields import Payload
from worker.store.tables import OWED, attempts, billing_keys, charges, outbox, subscriptions

ASKED_CARDS, ASKED_OUTCOMES = "a card is asked about", "an outcome is asked for"
_TO_ASK = attempts.c.state == AttemptState.UNKNOWN.value  # also of held charges


def work_left(db: Connection, now: datetime) -> dict[str, int]:
    """The work that is due at this moment; all zero when everything is due later."""
    s, c, a = subscriptions.c, charges.c, attempts.c
    counts = {
        "to open": select(func.count()).where(s.status == "active", s.open_at <= now).select_from(subscriptions),
        "due": select(func.count())
        .where(c.next_attempt_at <= now, c.next_attempt_at.is_not(None), c.held_why.is_(None))
        .select_from(charges),
        "in flight": select(func.count()).where(a.state == AttemptState.SENDING.value).select_from(attempts),
        "to look": select(func.count()).where(c.look_at <= now, c.look_at.is_not(None)).select_from(charges),
        "to ask": select(func.count()).where(_TO_ASK, a.next_ask_at <= now).select_from(attempts),
    }
    columns = [query.scalar_subquery().label(name) for name, query in counts.items()]
    return {name: int(count) for name, count in db.execute(select(*columns)).mappings().one().items()}


def next_moment(db: Connection) -> datetime | None:
    """Return when the next work is due; None when there is none.

    Look-ups of held charges are excluded: they may continue until a person acts.
    """
    work = {name: query for name, (query, _) in _work().items()}
    work[ASKED_OUTCOMES] = work[ASKED_OUTCOMES].join_from(attempts, charges).where(charges.c.held_why.is_(None))
    times = (db.execute(query).scalar() for query in work.values())
    return min((at for at in times if at is not None), default=None)


def next_telling(db: Connection) -> datetime | None:
    """Return when the next announcement or card look-up is due; None when there is none."""
    times = (db.execute(query).scalar() for query, _ in _tellings().values())
    return min((at for at in times if at is not None), default=None)


def next_moments(db: Connection, now: datetime) -> dict[str, datetime]:
    """Return the kinds of work that are due after this moment, each with its first time.

    Card look-ups are excluded: some are daily while a debt waits for another card.
    """
    found = (
        (name, db.execute(query.where(column > now)).scalar())
        for name, (query, column) in (_work() | _tellings()).items()
        if name != ASKED_CARDS
    )
    return {name: at for name, at in found if at is not None}


def tellings_left(db: Connection, now: datetime) -> dict[str, int]:
    """Return the number of announcements and of card look-ups that are due at this moment."""
    counts = {
        name: db.execute(select(func.count()).where(column <= now)).scalar_one()
        for name, (_, column) in _tellings().items()
    }
    return {name: count for name, count in counts.items() if count}


def newest_event(db: Connection) -> int:
    """The number of the newest event for the shop; 0 before the first."""
    return int(db.execute(select(func.coalesce(func.max(outbox.c.id), 0))).scalar_one())


def events_after(db: Connection, number: int) -> list[tuple[str, str, Payload]]:
    """Kind, subject and payload of each event after this one, in order."""
    o = outbox.c
    rows = db.execute(select(o.kind, o.subject, o.payload).where(o.id > number).order_by(o.id))
    return [(row.kind, row.subject, row.payload) for row in rows]


def _work() -> dict[str, tuple[Select[Any], Column[Any]]]:
    """The first time of each kind of work, by its name, and the column of that time."""
    s, c, a = subscriptions.c, charges.c, attempts.c
    return {
        "a period opens": (select(func.min(s.open_at)).where(s.status == "active"), s.open_at),
        "a charge is tried": (
            select(func.min(c.next_attempt_at)).where(c.held_why.is_(None)), c.next_attempt_at,
        ),
        "a debt is looked at": (select(func.min(c.look_at)), c.look_at),
        ASKED_OUTCOMES: (select(func.min(a.next_ask_at)).where(_TO_ASK), a.next_ask_at),
    }  # fmt: skip


def _tellings() -> dict[str, tuple[Select[Any], Column[Any]]]:
    """The first time of each kind of announcement, by its name, and the column of that time."""
    s, k = subscriptions.c, billing_keys.c
    return {
        "a charge or an end is announced": (select(func.min(s.tell_at)), s.tell_at),
        ASKED_CARDS: (select(func.min(k.ask_at)), k.ask_at),
        "a card's expiry is announced": (select(func.min(k.tell_expiry_at)), k.tell_expiry_at),
    }


def active_subscriptions(db: Connection) -> list[str]:
    """The keys of all subscriptions that will be charged again."""
    s = subscriptions.c
    return list(db.execute(select(s.key).where(s.status == "active", s.open_at.is_not(None))).scalars())


def paid_uids(db: Connection) -> dict[str, int]:
    """Every paid merchant_uid with its amount in minor units."""
    a = attempts.c
    rows = db.execute(select(a.merchant_uid, a.amount).where(a.state == AttemptState.PAID.value))
    return {row.merchant_uid: row.amount for row in rows}


def charge_counts(db: Connection) -> dict[str, int]:
    """Return the number of expected charges, and their results."""
    c, a = charges.c, attempts.c
    by_status: dict[str, int] = dict(db.execute(select(c.status, func.count()).group_by(c.status)).tuples().all())
    paid = c.status == ChargeStatus.PAID.value
    failed_first = c.first_declined_at.is_not(None) | (c.refusals > 0)
    retried = select(func.count()).where(paid, failed_first).select_from(charges)
    was_unknown = exists().where(a.charge_id == c.id, a.asks > 0)
    is_unknown = exists().where(a.charge_id == c.id, a.state == AttemptState.UNKNOWN.value)
    resolved = select(func.count()).where(was_unknown, ~is_unknown).select_from(charges)
    held = select(func.count()).where(c.held_why.is_not(None)).select_from(charges)
    owed = select(func.count()).where(text(OWED), c.held_why.is_(None)).select_from(charges)
    return {
        "expected": sum(by_status.values()),
        "paid": by_status.get(ChargeStatus.PAID.value, 0),
        "paid, recovered by a retry": db.execute(retried).scalar_one(),
        "given up": by_status.get(ChargeStatus.UNCOLLECTIBLE.value, 0),
        "still being tried": db.execute(owed).scalar_one(),
        "held for an operator": db.execute(held).scalar_one(),
        "unknown for a while, and resolved": db.execute(resolved).scalar_one(),
        "unknown still": db.execute(
            select(func.count()).where(a.state == AttemptState.UNKNOWN.value).select_from(attempts)
        ).scalar_one(),
    }
