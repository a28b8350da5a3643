"""Rows of the history of a subscription or charge: a fixed number of statements, each up to a limit of rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    Select,
    Subquery,
    Text,
    case,
    func,
    literal,
    or_,
    select,
    union_all,
)

from schedules.charging.charges import AttemptState, ChargeStatus
from schedules.dunning.declines import DeclineClass
from schedules.operations.findings import FindingKind, FindingState
from schedules.outbox.event_fields import Payload
from schedules.requests.refunds import RefundState
from worker.store.rows import read_all
from worker.store.tables import (
    archived_attempt_events,
    archived_attempts,
    archived_outbox,
    attempt_events,
    attempts,
    audit,
    billing_keys,
    charges,
    findings,
    outbox,
    refunds,
)

_TEXTS = ARRAY(Text)


@dataclass(frozen=True, slots=True)
class Scope:
    """The charges that a story is about, and the further subjects of its audit entries and events."""

    charge_id: int | None = None
    subscription_id: int | None = None  # all its charges
    subjects: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """The newest `limit` entries before an instant; without either, all."""

    before: datetime | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class StoryCharge:
    """When a charge was opened and closed."""

    id: int
    key: str
    period_no: int
    amount: int
    currency: str
    status: ChargeStatus
    due_at: datetime
    created_at: datetime
    closed_at: datetime | None
    closed_why: str | None


def charges_of(db: Connection, scope: Scope, page: Page) -> list[StoryCharge]:
    """Return the charges that were opened or closed last."""
    c = charges.c
    query = _newest(select(charges).where(_in_scope(scope)), page, c.id, c.created_at, c.closed_at)
    return read_all(StoryCharge, db.execute(query))


@dataclass(frozen=True, slots=True)
class Step:
    """A step of an attempt, with the card that the attempt was last claimed for."""

    id: int
    at: datetime
    state: AttemptState
    words: str | None
    merchant_uid: str
    charge: str  # its key
    amount: int
    currency: str
    imp_uid: str | None
    pg_provider: str | None
    decline_class: DeclineClass | None
    customer_uid: str | None
    card_name: str | None  # as they are now
    card_number: str | None


def steps_of(db: Connection, scope: Scope, page: Page) -> list[Step]:
    """Return the newest steps of the attempts, including archived ones."""
    pairs = ((attempt_events, attempts), (archived_attempt_events, archived_attempts))
    both = union_all(
        *(
            select(e.c.id, e.c.at, e.c.state, e.c.words, a.c.merchant_uid, a.c.amount, a.c.currency, a.c.imp_uid)
            .add_columns(a.c.pg_provider, a.c.decline_class, a.c.billing_key_id, charges.c.key.label("charge"))
            .join_from(e, a, a.c.id == e.c.attempt_id)
            .join(charges, charges.c.id == a.c.charge_id)
            .where(_in_scope(scope))
            for e, a in pairs
        )
    ).subquery()
    newest = _newest(select(both), page, both.c.id, both.c.at).subquery()
    k = billing_keys.c
    query = select(newest, k.customer_uid, k.card_name, k.card_number)
    return read_all(Step, db.execute(query.outerjoin(billing_keys, k.id == newest.c.billing_key_id)))


@dataclass(frozen=True, slots=True)
class StoryAct:
    """An audit entry."""

    id: int
    at: datetime
    actor: str
    verb: str
    subject: str
    why: str | None
    details: Mapping[str, object]


def acts_on(db: Connection, subjects: Sequence[str], verbs: Sequence[str] = ("",)) -> list[StoryAct]:
    """Return all audit entries of these subjects whose verb has one of these prefixes, in order."""
    a = audit.c
    query = select(audit).where(a.subject.in_(subjects), or_(*(a.verb.startswith(verb) for verb in verbs)))
    return read_all(StoryAct, db.execute(query.order_by(a.at, a.id)))


def acts_of(db: Connection, scope: Scope, page: Page) -> list[StoryAct]:
    """Return the newest audit entries of the charges and the further subjects."""
    a = audit.c
    query = select(audit).where(a.subject.in_(_subjects(scope)))
    return read_all(StoryAct, db.execute(_newest(query, page, a.id, a.at)))


@dataclass(frozen=True, slots=True)
class StoryEvent:
    """An event for the shop, and its delivery."""

    id: int
    kind: str
    subject: str
    payload: Payload
    created_at: datetime
    delivered_at: datetime | None
    dead_at: datetime | None
    tries: int
    last_answer: str | None


def events_of(db: Connection, scope: Scope, page: Page) -> list[StoryEvent]:
    """Return the newest events about the charges and the further subjects, including archived ones."""
    tables = (outbox, archived_outbox)
    names = ("id", "kind", "subject", "payload", "created_at", "delivered_at", "dead_at", "tries", "last_answer")
    subjects = _subjects(scope)
    both = union_all(
        *(select(*(t.c[name] for name in names)).where(t.c.subject.in_(subjects)) for t in tables)
    ).subquery()
    over = func.coalesce(both.c.delivered_at, both.c.dead_at)
    query = _newest(select(both), page, both.c.id, both.c.created_at, over)
    return read_all(StoryEvent, db.execute(query))


@dataclass(frozen=True, slots=True)
class StoryRefund:
    """A requested refund, and its result."""

    id: int
    request_key: str
    charge: str  # its key
    amount: int
    currency: str
    state: RefundState
    words: str | None
    created_at: datetime
    ended_at: datetime | None


def refunds_of(db: Connection, scope: Scope, page: Page) -> list[StoryRefund]:
    """Return the newest refunds of the charges."""
    r = refunds.c
    query = select(refunds, charges.c.key.label("charge")).join_from(refunds, charges).where(_in_scope(scope))
    return read_all(StoryRefund, db.execute(_newest(query, page, r.id, r.created_at, r.ended_at)))


@dataclass(frozen=True, slots=True)
class StoryFinding:
    """A finding that names a charge, and its end."""

    id: int
    kind: FindingKind
    charge_key: str
    merchant_uid: str
    amount: int
    currency: str
    state: FindingState
    found_at: datetime
    ended_at: datetime | None
    ended_by: str | None
    ended_why: str | None


def findings_of(db: Connection, scope: Scope, page: Page) -> list[StoryFinding]:
    """Return the newest findings about the charges."""
    f = findings.c
    query = select(findings).where(f.charge_key.in_(select(charges.c.key).where(_in_scope(scope))))
    return read_all(StoryFinding, db.execute(_newest(query, page, f.id, f.found_at, f.ended_at)))


def _in_scope(scope: Scope) -> ColumnElement[bool]:
    if scope.charge_id is not None:
        return charges.c.id == scope.charge_id
    return charges.c.subscription_id == scope.subscription_id


def _subjects(scope: Scope) -> Select[Any]:
    keys = select(charges.c.key).where(_in_scope(scope))
    own = select(func.unnest(literal(list(scope.subjects), _TEXTS)))
    both: Subquery = union_all(keys, own).subquery()
    return select(both.c.key)


def _newest(
    query: Select[Any], page: Page, row_id: ColumnElement[int], began: ColumnElement[Any],
    ended: ColumnElement[Any] | None = None,
) -> Select[Any]:  # fmt: skip
    """Limit a query to the rows of the page; a row counts by its latest time before the page's instant."""
    latest = began if ended is None else func.coalesce(ended, began)
    if page.before is not None:
        query = query.where(began < page.before)
        if ended is not None:
            latest = case((ended < page.before, ended), else_=began)
    return query.order_by(latest.desc(), row_id.desc()).limit(page.limit)
