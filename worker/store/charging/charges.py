"""Queries of charges: insert them, find those that are due, close them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import Enum
from functools import lru_cache
from typing import Any, Unpack

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Connection,
    Select,
    Text,
    any_,
    bindparam,
    column,
    exists,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql.dml import ReturningInsert

from schedules.charging.buyers import NOBODY, Buyer
from schedules.charging.charges import AttemptState, ChargeKind, ChargeStatus, KeyedIn, SubscriptionStatus, TriedBy
from schedules.dunning.decisions import History
from schedules.dunning.declines import DeclineClass
from schedules.dunning.policies import DunningPolicy, FinalAction
from schedules.money.amounts import Money
from worker.clock import Clock
from worker.store.charging.attempts import Attempt
from worker.store.charging.columns import ChargeColumns, NewCharge
from worker.store.charging.kill_switch import Identity, Permission, permission_columns
from worker.store.customers import policies as policy_rows
from worker.store.rows import as_rows, given_rows, read_all
from worker.store.tables import (
    IS_DUE,
    NOT_ENDED,
    OWED,
    attempts,
    billing_keys,
    charges,
    customers,
    plans,
    policies,
    subscriptions,
)

OWED_STATUSES = [status.value for status in ChargeStatus if status.is_owed]


@dataclass(frozen=True, slots=True)
class Charge:
    """A charge, locked by the transaction that read it."""

    id: int
    key: str
    kind: ChargeKind
    subscription_id: int | None
    subscription: str | None  # its key
    account: str
    billing_key_id: int
    customer_uid: str
    pg_provider: str | None  # where the card was stored
    card_stopped: DeclineClass | None  # the decline class after which the card is not tried
    card_changed_at: datetime | None
    ends_at: datetime | None  # of its subscription, as a person said
    zone: str | None  # of its plan; a debt without a plan has the shop's
    money: Money
    name: str
    policy: DunningPolicy
    status: ChargeStatus
    next_attempt_at: datetime | None
    held_why: str | None
    attempts: int
    history: History
    due_at: datetime
    waits: bool  # for another card, or a person's act
    tried_by: TriedBy | None
    planned_at: datetime | None
    look_at: datetime | None
    given_up: FinalAction | None
    request_key: str | None  # of an ad-hoc charge
    keyed_in: KeyedIn | None
    buyer: Buyer = NOBODY
    is_archived: bool = False  # its attempts are in the archive
    card_since: datetime | None = None  # when it was moved to its present card from another one
    is_of_canceled: bool = False  # its subscription was canceled
    current_key_id: int | None = None  # the present billing key of its subscription


def open_many(db: Connection, rows: Sequence[NewCharge]) -> list[str]:
    """Insert charges and return the new keys; one_charge_for_each_period skips existing ones."""
    return list(db.execute(_open_many(tuple(rows[0])), as_rows(rows)).scalars()) if rows else []


@lru_cache(maxsize=8)
def _open_many(names: tuple[str, ...]) -> ReturningInsert[str]:
    """Return the statement for rows of these columns: one for openings, and one for requested charges."""
    rows = given_rows("opened", *(column(name, charges.c[name].type) for name in names))
    statement = insert(charges).from_select(names, select(rows))
    return statement.on_conflict_do_nothing().returning(charges.c.key)


def locked(db: Connection, charge_id: int) -> Charge | None:
    """Read a charge and lock its row until the transaction ends."""
    row = db.execute(_LOCKED, {"charge": charge_id}).mappings().first()
    return _read(dict(row)) if row is not None else None


def of_ids(db: Connection, ids: Sequence[int]) -> dict[int, Charge]:
    """Return these charges by their row ids, without a lock of their own."""
    rows = db.execute(_OF_IDS, {"charges": list(ids)}).mappings()
    return {row["id"]: _read(dict(row)) for row in rows}


def _read(row: Mapping[str, Any]) -> Charge:
    """Return a row of charges with its joined columns as a value."""
    return Charge(
        id=row["id"],
        key=row["key"],
        kind=ChargeKind(row["kind"]),
        subscription_id=row["subscription_id"],
        subscription=row["subscription"],
        account=row["account"],
        billing_key_id=row["billing_key_id"],
        customer_uid=row["customer_uid"],
        pg_provider=row["pg_provider"],
        card_stopped=DeclineClass(row["stopped_as"]) if row["stopped_as"] else None,
        card_changed_at=row["card_changed_at"],
        ends_at=row["ends_at"],
        zone=row["zone"],
        money=Money(row["amount"], row["currency"]),
        name=row["name"],
        policy=policy_rows.read(row["policy_document"], row["policy"], row["policy_version"]),
        status=ChargeStatus(row["status"]),
        next_attempt_at=row["next_attempt_at"],
        held_why=row["held_why"],
        attempts=row["attempts"],
        history=_history(row),
        due_at=row["due_at"],
        waits=row["waits"] is not None,
        tried_by=TriedBy(row["tried_by"]) if row["tried_by"] else None,
        planned_at=row["planned_at"],
        look_at=row["look_at"],
        given_up=FinalAction(row["given_up"]) if row["given_up"] else None,
        request_key=row["request_key"],
        keyed_in=KeyedIn(row["keyed_in"]) if row["keyed_in"] else None,
        buyer=Buyer(row["buyer_name"], row["buyer_email"], row["buyer_tel"]),
        is_archived=row["archived_at"] is not None,
        card_since=row["card_since"],
        current_key_id=row["current_key_id"],
        is_of_canceled=row["subscription_status"] == SubscriptionStatus.CANCELED.value,
    )


def _history(row: Mapping[str, Any]) -> History:
    return History(**{field.name: row[field.name] for field in fields(History)})


def hold(db: Connection, key: str, why: str, instead_of: str | None = None) -> bool:
    """Hold a charge for an operator; False when it is closed, or held for another reason than `instead_of`.

    It reads no values of the row, so that a row that breaks a rule can be held too.
    """
    c = charges.c
    statement = update(charges).where(c.key == key, text(OWED), c.held_why.is_not_distinct_from(instead_of))
    return db.execute(statement.values(held_why=why, queued_until=None)).rowcount > 0


def held_why(db: Connection, key: str) -> str | None:
    """Return why a charge is held; None when it is not. Like `hold`, it reads nothing else of the row."""
    return db.execute(select(charges.c.held_why).where(charges.c.key == key)).scalar()


def key_of(db: Connection, charge_id: int) -> str | None:
    """The key of the charge with this row id."""
    return db.execute(select(charges.c.key).where(charges.c.id == charge_id)).scalar()


def locked_by_key(db: Connection, key: str | None) -> Charge | None:
    """As `locked`, by the charge's key; None when there is no such charge."""
    charge_id = id_of(db, key) if key else None
    return locked(db, charge_id) if charge_id is not None else None


def change(db: Connection, charge_id: int, **values: Unpack[ChargeColumns]) -> None:
    """Write these columns of one charge, which the caller has locked."""
    if values:
        db.execute(update(charges).where(charges.c.id == charge_id).values(**values))


def id_of(db: Connection, key: str) -> int | None:
    """The row id of the charge with this key."""
    return db.execute(select(charges.c.id).where(charges.c.key == key)).scalar()


def accounts_with_work(db: Connection, accounts: Collection[str], now: datetime) -> list[str]:
    """Return those of these gateway accounts that have a due charge, with one step in ix_charges_due for each."""
    c = charges.c
    known = func.unnest(bindparam("accounts", type_=ARRAY(Text))).table_valued("name").render_derived("known")
    due = exists().where(c.account == known.c.name, text(IS_DUE), c.next_attempt_at <= now)
    query = select(known.c.name).where(due.correlate(known)).order_by(known.c.name)
    return list(db.execute(query, {"accounts": sorted(accounts)}).scalars())


def queues_alone(db: Connection, account: str) -> bool:
    """Lock the queueing of an account's charges until the transaction ends; False when another one holds it."""
    key = func.hashtextextended(f"again queues {account}", 0)
    return bool(db.execute(select(func.pg_try_advisory_xact_lock(key))).scalar_one())


def queued_count(db: Connection, account: str, now: datetime) -> int:
    """Return how many charges of the account are marked as queued."""
    c = charges.c
    query = select(func.count()).where(c.account == account, c.queued_until.is_not(None), c.queued_until > now)
    return db.execute(query).scalar_one()


def unqueue(db: Connection, ids: Sequence[int]) -> None:
    """Mark these as not queued: the broker did not accept their messages."""
    db.execute(update(charges).where(charges.c.id.in_(ids)).values(queued_until=None))


def queue_again(db: Connection, ids: Sequence[int], at: datetime) -> None:
    """Mark these as queued until then, unless they were claimed or closed meanwhile."""
    due = charges.c.id.in_(ids) & charges.c.next_attempt_at.is_not(None) & charges.c.queued_until.is_not(None)
    db.execute(update(charges).where(due).values(queued_until=at))


class Then(Enum):
    """What follows for a charge that the pre-send check stops."""

    LATER = "it is tried again soon"
    AT_ONCE = "another process tries it at once"
    CANCEL = "it ends as canceled"
    PERSON = "it waits for a person"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """The reason why an attempt must not be sent now."""

    why: str
    then: Then = Then.LATER


@dataclass(frozen=True, slots=True)
class Sight:
    """The facts of the pre-send check."""

    status: str
    held_why: str | None
    amount: int
    currency: str
    due_at: datetime
    subscription: str | None
    key_deleted_at: datetime | None
    keyed_in: str | None
    fence: int
    state: str
    lease_until: datetime | None
    permission: Permission

    @property
    def no_card(self) -> bool:
        """Whether there is no card to charge; a typed-in card needs no stored one."""
        return self.key_deleted_at is not None and self.keyed_in is None

    def obstacle(self, intent: Attempt, clock: Clock, call_takes: timedelta, sender: Identity) -> Obstacle | None:
        """Return why this attempt must not be sent now; None when nothing changed since the claim."""
        now = clock.now()
        ours = self.fence == intent.fence and self.state == AttemptState.SENDING.value
        lasts = self.lease_until is not None and self.lease_until >= now + call_takes
        asked = (intent.money.amount, intent.money.currency)
        canceled = self.subscription == SubscriptionStatus.CANCELED.value
        obstacles = (
            (not ours, Obstacle("another worker has taken this attempt")),
            (not lasts, Obstacle("the lease would run out during the call")),
            (not ChargeStatus(self.status).is_owed, Obstacle(f"the charge is {self.status}")),
            (self.held_why is not None, Obstacle(f"the charge is held: {self.held_why}")),
            (canceled, Obstacle("the subscription is canceled", Then.CANCEL)),
            ((self.amount, self.currency) != asked, Obstacle("the amount has changed since", Then.PERSON)),
            (self.due_at > now, Obstacle("the charge is not due yet")),
            (self.no_card, Obstacle("the billing key was deleted", Then.PERSON)),
        )
        found = next((obstacle for stands, obstacle in obstacles if stands), None)
        may_not_send = self.permission.obstacle(sender, clock)
        return found or (Obstacle(may_not_send) if may_not_send is not None else None)


def _pre_send_check() -> Select[Any]:
    c, a, s = charges.c, attempts.c, subscriptions.c
    return (
        select(c.status, c.held_why, c.amount, c.currency, c.due_at, s.status, billing_keys.c.deleted_at)
        .add_columns(c.keyed_in, a.fence, a.state, a.lease_until, *permission_columns(c.account))
        .join_from(attempts, charges, a.charge_id == c.id)
        .join(billing_keys, billing_keys.c.id == c.billing_key_id)
        .outerjoin(subscriptions, s.id == c.subscription_id)
        .add_columns(a.id)
        .where(a.id == any_(bindparam("attempts", type_=ARRAY(BigInteger))))
    )


# Statements of the hot path are built once: building one costs as much time as executing it.
_PRE_SEND_CHECK = _pre_send_check()
_READ = (
    select(charges, billing_keys.c.customer_uid, billing_keys.c.pg_provider, billing_keys.c.stopped_as)
    .add_columns(billing_keys.c.changed_at.label("card_changed_at"))
    .add_columns(subscriptions.c.key.label("subscription"), subscriptions.c.ends_at, plans.c.zone)
    .add_columns(subscriptions.c.billing_key_id.label("current_key_id"))
    .add_columns(subscriptions.c.status.label("subscription_status"))
    .add_columns(policies.c.code.label("policy"), policies.c.version.label("policy_version"), policy_rows.DOCUMENT)
    .add_columns(*(customers.c[name].label(f"buyer_{name}") for name in ("name", "email", "tel")))
    .join_from(charges, billing_keys)
    .join(customers, customers.c.id == billing_keys.c.customer_id)
    .join(policies, policies.c.id == charges.c.policy_id)
    .outerjoin(subscriptions, subscriptions.c.id == charges.c.subscription_id)
    .outerjoin(plans, plans.c.id == subscriptions.c.plan_id)
)
_LOCKED = _READ.where(charges.c.id == bindparam("charge")).with_for_update(of=charges)
_OF_IDS = _READ.where(charges.c.id == any_(bindparam("charges", type_=ARRAY(BigInteger))))


def pre_send_checks(db: Connection, attempt_ids: Sequence[int]) -> dict[int, Sight]:
    """Read the facts of the pre-send check of these attempts, by their row ids, in one statement."""
    own = len(fields(Sight)) - 1
    sights = {}
    for row in db.execute(_PRE_SEND_CHECK, {"attempts": list(attempt_ids)}):
        *columns, attempt_id = row
        seen: list[Any] = [*columns[:own], Permission(*columns[own:])]
        sights[attempt_id] = Sight(*seen)
    return sights


@dataclass(frozen=True, slots=True)
class OwedCharge:
    """An open charge of a subscription."""

    id: int
    key: str
    amount: int
    currency: str


def lock_owed_of(db: Connection, subscription_id: int) -> list[OwedCharge]:
    """Lock the open charges of a subscription and return them by period."""
    c = charges.c
    query = select(c.id, c.key, c.amount, c.currency).where(c.subscription_id == subscription_id)
    query = query.where(c.status.in_(OWED_STATUSES)).order_by(c.period_no).with_for_update()
    return read_all(OwedCharge, db.execute(query))


def owed_of(db: Connection, subscription_id: int) -> list[Charge]:
    """Return the open charges of a subscription, oldest first, without a lock."""
    c = charges.c
    # Not the condition of a partial index: with figures from a time of few open charges, the planner would read
    # those of all subscriptions.
    is_owed = (c.status + "").in_(OWED_STATUSES)
    query = _READ.where(c.subscription_id == subscription_id, is_owed).order_by(c.period_no)
    return [_read(dict(row)) for row in db.execute(query).mappings()]


def owed_after(db: Connection, charge_id: int, limit: int) -> list[int]:
    """Return open charges with a row id above this one, in order, with ix_charges_owed."""
    query = (
        select(charges.c.id).where(text(NOT_ENDED), charges.c.id > charge_id).order_by(charges.c.id).limit(limit)
    )
    return list(db.execute(query).scalars())
