"""Declined attempts by class: those without a class, and those that older rules classified."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    Select,
    and_,
    any_,
    bindparam,
    column,
    desc,
    func,
    or_,
    select,
    true,
    update,
)

from schedules.charging.charges import AttemptState
from schedules.dunning.decisions import NOT_THE_CARD
from schedules.dunning.declines import UNPLACED
from schedules.dunning.settling import AttemptColumns
from worker.store.tables import attempts, billing_keys, charges
from worker.store.tables.base import INSTANT

# A cancelled payment has the state declined too, but no decline: its answer has no field for a PG's code.
_SAID_NO = (attempts.c.state == AttemptState.DECLINED.value) & attempts.c.answer.has_key("pg_code")


@dataclass(frozen=True, slots=True)
class DeclinedRow:
    """The input of the decline rules for one attempt."""

    id: int
    reason: str
    pg_provider: str | None
    decline_class: str | None


@dataclass(frozen=True, slots=True)
class DeclinedLast:
    """The newest attempt of a charge, which was declined, and its text."""

    id: int
    merchant_uid: str
    reason: str | None
    pg_provider: str | None


@dataclass(frozen=True, slots=True)
class UnplacedText:
    """One text that no rule matches, and its frequency."""

    pg_provider: str | None
    text: str
    count: int
    last_at: datetime


def last_of(db: Connection, charge_ids: Sequence[int]) -> dict[int, DeclinedLast]:
    """The newest attempts of these charges that were declined, by charge id."""
    a, other = attempts.c, attempts.alias("other")
    newest = select(func.max(other.c.number)).where(other.c.charge_id == a.charge_id).scalar_subquery()
    query = select(a.charge_id, a.id, a.merchant_uid, a.reason, a.pg_provider)
    of_charges = a.charge_id == any_(bindparam("charges", type_=ARRAY(BigInteger)))
    # Written like this, the state matches no partial index over all declines.
    said_no = (a.state.concat("") == AttemptState.DECLINED.value) & a.answer.has_key("pg_code")
    rows = db.execute(query.where(of_charges, a.number == newest, said_no), {"charges": list(charge_ids)})
    return {charge_id: DeclinedLast(*row) for charge_id, *row in rows}


def unplaced(db: Connection, limit: int) -> Sequence[UnplacedText]:
    """Return the decline texts that no rule matches, the most frequent first."""
    a = attempts.c
    pg = func.coalesce(a.pg_provider, billing_keys.c.pg_provider)
    count, last_at = func.count(), func.max(a.settled_at)
    query = (
        select(pg, a.reason, count, last_at)
        .join_from(attempts, charges, a.charge_id == charges.c.id)
        .join(billing_keys, billing_keys.c.id == charges.c.billing_key_id)
        .where(_SAID_NO, or_(a.decline_rule.is_(None), a.decline_rule.startswith(f"{UNPLACED}@")))
        .group_by(pg, a.reason)
        .order_by(desc(count), desc(last_at), a.reason)
        .limit(limit)
    )
    return [UnplacedText(*row) for row in db.execute(query)]


def count_stale(db: Connection, version: int) -> int:
    """Return how many declines the rules of this version have not classified."""
    return db.execute(select(func.count()).select_from(attempts).where(_stale(version))).scalar_one()


def take_stale(db: Connection, version: int, after: int, limit: int) -> Sequence[DeclinedRow]:
    """Lock and return the next declines, by row id, that the rules of this version have not classified."""
    a = attempts.c
    query = (
        select(a.id, a.reason, func.coalesce(a.pg_provider, billing_keys.c.pg_provider), a.decline_class)
        .join_from(attempts, charges, a.charge_id == charges.c.id)
        .join(billing_keys, billing_keys.c.id == charges.c.billing_key_id)
        .where(_stale(version), a.id > after)
        .order_by(a.id)
        .limit(limit)
        .with_for_update(of=attempts)
    )
    return [DeclinedRow(id, reason or "", pg, named) for id, reason, pg, named in db.execute(query)]


def _stale(version: int) -> ColumnElement[bool]:
    rule = attempts.c.decline_rule
    return and_(_SAID_NO, or_(rule.is_(None), func.split_part(rule, "@", 2) != str(version)))


def place(db: Connection, attempt_id: int, columns: AttemptColumns) -> None:
    """Write the class of one declined attempt, which the caller has locked."""
    db.execute(update(attempts).where(attempts.c.id == attempt_id).values(**columns))


def declined_times(db: Connection, billing_key_id: int, since: datetime, limit: int) -> list[datetime]:
    """As `declined_times_of`, of one card."""
    return declined_times_of(db, [(billing_key_id, since, limit)])[billing_key_id]


def declined_times_of(db: Connection, wanted: Sequence[tuple[int, datetime, int]]) -> Mapping[int, list[datetime]]:
    """Return the declines of cards, each since an instant or its last change and at most so many, newest first.

    Outcomes without a result for the card, and those of the card before it, are excluded. Only charges that were
    open since then are read.
    """
    times: dict[int, list[datetime]] = {card: [] for card, _, _ in wanted}
    cards, since, most = (list(column) for column in zip(*wanted, strict=True)) if wanted else ([], [], [])
    if cards:
        for row in db.execute(_DECLINED_TIMES, {"cards": cards, "since": since, "most": most}):
            times[row.card].append(row.settled_at)
    return times


def to_present_card() -> ColumnElement[bool]:
    """Whether an attempt was last sent to the present card of its charge; joined with the charge and its key."""
    a, c, k = attempts.c, charges.c, billing_keys.c
    return and_(
        k.changed_at.is_(None) | (a.last_sent_at >= k.changed_at),
        c.card_since.is_(None) | (a.last_sent_at >= c.card_since),
    )


def _declined_times() -> Select[Any]:
    a, c, k = attempts.c, charges.c, billing_keys.c
    cards = bindparam("cards", type_=ARRAY(BigInteger))
    since, most = bindparam("since", type_=ARRAY(INSTANT)), bindparam("most", type_=ARRAY(Integer))
    wanted = (
        func.unnest(cards, since, most)
        .table_valued(column("card", BigInteger), column("since", INSTANT), column("most", Integer))
        .render_derived("wanted")
    )
    declined = (
        select(a.settled_at)
        .join_from(charges, attempts, a.charge_id == c.id)
        .join(billing_keys, k.id == c.billing_key_id)
        .where(c.billing_key_id == wanted.c.card, c.closed_at.is_(None) | (c.closed_at > wanted.c.since))
        # Written like this, the state matches no index over all declines.
        .where(a.state.concat("") == AttemptState.DECLINED.value, a.settled_at > wanted.c.since)
        .where(to_present_card())
        .where(a.decline_class.not_in([kind.value for kind in NOT_THE_CARD]), c.keyed_in.is_(None))
        .order_by(a.settled_at.desc())
        .limit(wanted.c.most)
        .lateral("declined")
    )
    query = select(wanted.c.card, declined.c.settled_at).join_from(wanted, declined, true())
    return query.order_by(wanted.c.card, declined.c.settled_at.desc())


_DECLINED_TIMES = _declined_times()
