"""Queries of attempts: the claim with its fence, the lease, and the look-ups of unknown outcomes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, union_all, update
from sqlalchemy.dialects.postgresql import insert as insert_or

from schedules.charging.charges import AttemptState
from schedules.charging.claiming import SENDABLE
from schedules.charging.outcomes import Outcome
from schedules.charging.unknown_outcomes import AskedAbout
from schedules.dunning.settling import AttemptColumns
from schedules.money.amounts import Money
from worker.store.charging import card_calls
from worker.store.charging.columns import NewAttempt
from worker.store.tables import archived_attempts, attempt_events, attempts, billing_keys, charges

UNRESOLVED_STATES = [state.value for state in AttemptState if state.is_unresolved]
_ALL = (attempts, archived_attempts)
_NOT_UNKNOWN: dict[str, Any] = {"unknown_since": None, "next_ask_at": None, "quiet_answers": 0}


# Statements of the hot path are built once: building one costs as much time as executing it.
_OF_CHARGE = attempts.c.charge_id == bindparam("charge")
_EARLIER = select(attempts).where(
    attempts.c.charge_id.in_(bindparam("charges", expanding=True)),
    attempts.c.state.in_([*UNRESOLVED_STATES, AttemptState.PAID.value]),
)
_PAID = select(attempts.c.id).where(_OF_CHARGE, attempts.c.state == AttemptState.PAID.value)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A claimed attempt: the holder of this fence may write its outcome."""

    id: int
    charge_id: int
    number: int
    merchant_uid: str
    money: Money
    fence: int
    last_sent_at: datetime
    unknown_since: datetime | None
    quiet_answers: int
    imp_uid: str | None  # the gateway's record that its last answer was read from
    sends: int  # number of claims including this one; a claim does not always lead to a call


def asked_about(attempt: Attempt, customer_uids: frozenset[str]) -> AskedAbout:
    """The facts of an attempt for `schedules.charging.unknown_outcomes`."""
    quiet_since = max(attempt.last_sent_at, attempt.unknown_since or attempt.last_sent_at)
    return AskedAbout(
        attempt.merchant_uid,
        attempt.money,
        customer_uids,
        attempt.last_sent_at,
        quiet_since,
        attempt.quiet_answers,
    )


def customer_uids_of(db: Connection, charge_id: int) -> frozenset[str]:
    """Return the billing keys of the charge's customer, deleted ones too; it may have moved between them."""
    key, keys = billing_keys.alias("key"), billing_keys
    query = (
        select(keys.c.customer_uid)
        .join_from(charges, key, key.c.id == charges.c.billing_key_id)
        .join(keys, keys.c.customer_id == key.c.customer_id)
        .where(charges.c.id == charge_id)
    )
    return frozenset(db.execute(query).scalars())


@dataclass(frozen=True, slots=True)
class Earlier:
    """What the attempts of some charges forbid, by charge id."""

    paid: frozenset[int]  # charges with a paid attempt
    unresolved: Mapping[int, tuple[Attempt, AttemptState]]


def earlier_of(db: Connection, charge_ids: Sequence[int]) -> Earlier:
    """Return which of these charges have a paid attempt, and the unresolved attempt of each."""
    rows = db.execute(_EARLIER, {"charges": list(charge_ids)}).mappings().all()
    found = [(dict(row), AttemptState(row["state"])) for row in rows]
    return Earlier(
        frozenset(row["charge_id"] for row, state in found if state is AttemptState.PAID),
        {row["charge_id"]: (_read(row), state) for row, state in found if state is not AttemptState.PAID},
    )


def unresolved(db: Connection, charge_id: int) -> tuple[Attempt, AttemptState] | None:
    """Return the unresolved attempt of a charge, if there is one."""
    return earlier_of(db, [charge_id]).unresolved.get(charge_id)


def has_paid(db: Connection, charge_id: int) -> bool:
    """Whether the charge has a paid attempt already."""
    return db.execute(_PAID, {"charge": charge_id}).first() is not None


def begin(db: Connection, row: NewAttempt, words: str = "claimed") -> Attempt | None:
    """Insert a claimed attempt; None when a unique constraint refuses it; `is_taken` tells which."""
    statement = insert_or(attempts).values(row).on_conflict_do_nothing().returning(attempts)
    written = db.execute(statement).mappings().first()
    return _noted(db, dict(written), row["created_at"], words) if written else None


def is_taken(db: Connection, charge_id: int, number: int, uid: str) -> bool:
    """Whether a constraint other than that of the card refuses a new attempt with this number and uid."""
    a = attempts.c
    own = (a.charge_id == charge_id) & ((a.number == number) | a.state.in_(UNRESOLVED_STATES))
    return db.execute(select(a.id).where(own | (a.merchant_uid == uid))).first() is not None


def from_gateway(
    charge_id: int, number: int, uid: str, money: Money, sent_at: datetime, now: datetime
) -> NewAttempt:
    """Return the row of an attempt that only the gateway has: made after the backup that was restored.

    It is written as declined, a state that no constraint on other attempts forbids.
    """
    return {
        "charge_id": charge_id, "number": number, "merchant_uid": uid, "state": AttemptState.DECLINED.value,
        "amount": money.amount, "currency": money.currency, "fence": 1, "lease_until": None, "sends": 1,
        "last_sent_at": sent_at, "created_at": now, "settled_at": now,
        "reason": "made after the backup that was restored; read from the gateway",
    }  # fmt: skip


def claim(
    db: Connection, attempt: Attempt, billing_key_id: int, now: datetime, lease_until: datetime
) -> Attempt | None:
    """Take an attempt that may be sent again, under the next fence; None when its fence has moved.

    Raises CardInUse when another charge of the card has a call under way; the caller must roll back then.
    """
    a = attempts.c
    statement = (
        update(attempts)
        .where(a.id == attempt.id, a.fence == attempt.fence, a.state.in_([state.value for state in SENDABLE]))
        .values(
            state=AttemptState.SENDING.value,
            fence=a.fence + 1,
            lease_until=lease_until,
            sends=a.sends + 1,
            last_sent_at=now,
            settled_at=None,
            decline_class=None,
            decline_rule=None,
            billing_key_id=billing_key_id,
            **_NOT_UNKNOWN,
        )
        .returning(attempts)
    )
    with card_calls.card_in_use_raised():
        row = db.execute(statement).mappings().first()
    return _noted(db, dict(row), now, "claimed, to be sent again") if row else None


def release(db: Connection, attempt: Attempt, now: datetime, why: str) -> bool:
    """Release a claimed attempt that was definitely not sent."""
    values = {"state": AttemptState.READY.value, "lease_until": None, "reason": why}
    return _write(db, attempt, AttemptState.SENDING, now, values, why)


def take_back(db: Connection, attempt: Attempt, now: datetime, why: str) -> bool:
    """Release an attempt that was definitely not sent, though its lease has expired and it is unknown.

    Return False and write nothing when its state is another one, or when it was claimed for another send since.
    """
    a = attempts.c
    statement = (
        update(attempts)
        .where(a.id == attempt.id, a.state.concat("") == AttemptState.UNKNOWN.value, a.fence > attempt.fence)
        # Each claim for a send writes this; a look-up only raises the fence.
        .where(a.last_sent_at == attempt.last_sent_at)
        .values(state=AttemptState.READY.value, fence=a.fence + 1, lease_until=None, reason=why, **_NOT_UNKNOWN)
        .returning(attempts)
    )
    row = db.execute(statement).mappings().first()
    if row is None:
        return False
    _noted(db, dict(row), now, f"not sent: {why}")
    return True


def settle(
    db: Connection,
    attempt: Attempt,
    before: AttemptState,
    outcome: Outcome,
    now: datetime,
    values: AttemptColumns,
) -> bool:
    """Write an outcome under the fence; return False and write nothing when the fence has changed."""
    answer = json.loads(json.dumps(answer_of(outcome), default=str))
    written = {**values, "answer": answer, "lease_until": None}
    return _write(db, attempt, before, now, written, values.get("reason"))


def answer_of(outcome: Outcome) -> Mapping[str, object]:
    """Return an outcome as it is kept; asdict copies each value deeply, which takes longer than the rest."""
    return {field.name: getattr(outcome, field.name) for field in fields(outcome)}


def take_lapsed(db: Connection, now: datetime, next_ask_at: datetime, limit: int) -> Sequence[str]:
    """Set attempts with an expired lease to unknown, under the next fence; return their uids."""
    a = attempts.c
    lapsed = (
        select(a.id)
        .where(a.state == AttemptState.SENDING.value, a.lease_until < now)
        .order_by(a.lease_until)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("lapsed")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    why = "the worker's lease ran out"
    statement = (
        update(attempts)
        .where(a.id.in_(select(lapsed.c.id)))
        .values(state=AttemptState.UNKNOWN.value, fence=a.fence + 1, lease_until=None, reason=why)
        .values(unknown_since=now, next_ask_at=next_ask_at)
        .returning(attempts)
    )
    rows = [dict(row) for row in db.execute(statement).mappings()]
    for row in rows:
        _noted(db, row, now, why)
    return [row["merchant_uid"] for row in rows]


def to_ask(db: Connection, now: datetime, limit: int) -> dict[int, str]:
    """Return the unknown attempts whose look-up is due with their accounts, longest waiting first.

    At most `limit` of each account: one whose look-ups pile up hides no other.
    """
    a = attempts.c
    # A subquery for each attempt: for a join the planner might read all charges.
    account = select(charges.c.account).where(charges.c.id == a.charge_id).scalar_subquery()
    due = (
        select(a.id, a.next_ask_at, account.label("account"))
        .where(a.state == AttemptState.UNKNOWN.value, a.next_ask_at <= now)
        .subquery()
    )
    place = func.row_number().over(partition_by=due.c.account, order_by=due.c.next_ask_at).label("place")
    placed = select(due, place).subquery()
    query = select(placed.c.id, placed.c.account).where(placed.c.place <= limit).order_by(placed.c.next_ask_at)
    return {row.id: row.account for row in db.execute(query)}


def unknown_count(db: Connection) -> int:
    """Return the number of attempts with an unknown outcome, counted with ix_attempts_to_ask."""
    query = select(func.count()).where(attempts.c.state == AttemptState.UNKNOWN.value)
    return db.execute(query.select_from(attempts)).scalar_one()


def in_doubt_count(db: Connection, account: str) -> int:
    """Return how many attempts of an account are under way or have an unknown outcome."""
    in_doubt = [AttemptState.SENDING.value, AttemptState.UNKNOWN.value]
    query = select(func.count()).select_from(attempts).join(charges, charges.c.id == attempts.c.charge_id)
    return db.execute(query.where(attempts.c.state.in_(in_doubt), charges.c.account == account)).scalar_one()


def unknown_since(db: Connection, attempt_id: int) -> datetime | None:
    """Return since when an attempt has been unknown; None when it is not."""
    is_unknown = attempts.c.state.concat("") == AttemptState.UNKNOWN.value  # by id, not by an index of the state
    query = select(attempts.c.unknown_since).where(attempts.c.id == attempt_id, is_unknown)
    return db.execute(query).scalar()


def ask_now(db: Connection, attempt_id: int, now: datetime) -> None:
    """Make the next look-up of an unknown attempt due at this time."""
    a = attempts.c
    unknown = (a.id == attempt_id) & (a.state == AttemptState.UNKNOWN.value) & (a.next_ask_at > now)
    db.execute(update(attempts).where(unknown).values(next_ask_at=now))


def claim_ask(
    db: Connection, attempt_id: int, now: datetime, next_ask_at: datetime
) -> tuple[Attempt, str, str | None] | None:
    """Claim a look-up, under the next fence, with the account and the card's PG; None when it is not due."""
    a = attempts.c
    statement = (
        update(attempts)
        .where(a.id == attempt_id, a.state == AttemptState.UNKNOWN.value, a.next_ask_at <= now)
        .values(fence=a.fence + 1, asks=a.asks + 1, next_ask_at=next_ask_at)
        .returning(attempts)
    )
    row = db.execute(statement).mappings().first()
    if row is None:
        return None
    query = (
        select(charges.c.account, billing_keys.c.pg_provider)
        .outerjoin(billing_keys, billing_keys.c.id == charges.c.billing_key_id)
        .where(charges.c.id == row["charge_id"])
    )
    account, pg_provider = db.execute(query).one()
    return _read(dict(row)), account, pg_provider


def state_of(db: Connection, merchant_uid: str) -> tuple[int, AttemptState] | None:
    """Return the row id and the state of the attempt with this uid, also from the archive."""
    both = union_all(*(select(t.c.id, t.c.state).where(t.c.merchant_uid == merchant_uid) for t in _ALL))
    row = db.execute(both).first()
    return (row.id, AttemptState(row.state)) if row else None


def account_of(db: Connection, merchant_uid: str) -> str | None:
    """Return the gateway account of the attempt with this uid, also from the archive."""
    c = charges.c
    each = (select(c.account).join_from(t, charges, t.c.charge_id == c.id) for t in _ALL)
    both = (query.where(t.c.merchant_uid == merchant_uid) for query, t in zip(each, _ALL, strict=True))
    return db.execute(union_all(*both)).scalar()


def take(db: Connection, attempt_id: int, state: AttemptState, now: datetime) -> Attempt | None:
    """Claim an attempt in this state, under the next fence; not one that is paid, or has a valid lease.

    The payment is written, and a look-up that began before it has nothing to add.
    """
    if state is AttemptState.PAID:
        return None
    a = attempts.c
    statement = (
        update(attempts)
        .where(a.id == attempt_id, a.state == state.value, a.lease_until.is_(None) | (a.lease_until < now))
        .values(fence=a.fence + 1)
        .returning(attempts)
    )
    row = db.execute(statement).mappings().first()
    return _read(dict(row)) if row else None


def _write(
    db: Connection,
    attempt: Attempt,
    before: AttemptState,
    now: datetime,
    values: dict[str, Any],
    words: str | None,
) -> bool:
    a = attempts.c
    statement = (
        update(attempts)
        # Written like this, the state matches no partial index over all unresolved attempts.
        .where(a.id == attempt.id, a.fence == attempt.fence, a.state.concat("") == before.value)
        .values(**values)
        .returning(attempts)
    )
    row = db.execute(statement).mappings().first()
    if row is None:
        return False
    _noted(db, dict(row), now, words)
    return True


def _noted(db: Connection, row: dict[str, Any], now: datetime, words: str | None) -> Attempt:
    event = {"attempt_id": row["id"], "at": now, "state": row["state"], "fence": row["fence"], "words": words}
    db.execute(insert(attempt_events).values(event))
    return _read(row)


def _read(row: dict[str, Any]) -> Attempt:
    return Attempt(
        id=row["id"],
        charge_id=row["charge_id"],
        number=row["number"],
        merchant_uid=row["merchant_uid"],
        money=Money(row["amount"], row["currency"]),
        fence=row["fence"],
        last_sent_at=row["last_sent_at"],
        unknown_since=row["unknown_since"],
        quiet_answers=row["quiet_answers"],
        imp_uid=row["imp_uid"],
        sends=row["sends"],
    )


def is_under_way(db: Connection, charge_id: int) -> bool:
    """Whether a call of this charge is in flight or its outcome unknown, so that money may have moved."""
    states = [AttemptState.SENDING.value, AttemptState.UNKNOWN.value]
    query = select(attempts.c.id).where(attempts.c.charge_id == charge_id, attempts.c.state.in_(states))
    return db.execute(query).first() is not None
