"""The kill switch and the environment binding, which stop charges from being sent."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Text,
    and_,
    bindparam,
    delete,
    func,
    literal_column,
    select,
    text,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from schedules.operations.health import MOST_SKEW
from worker.clock import Clock
from worker.store.charging.declines import to_present_card
from worker.store.operations.revisions import SCHEMA, Schema
from worker.store.rows import read_all
from worker.store.tables import (
    REFUSED,
    account_bindings,
    attempts,
    billing_keys,
    breakers,
    charges,
    installation,
    stops,
)

ALL_ACCOUNTS = "*"
UNBOUND = "no environment is bound to this database; see `again adopt`"
BREAKER = "again"  # the actor of a stop that the breaker made
# Read in the same statement as the rest, because the host name may lead to another database by now.
_IDENTITY: ColumnElement[str] = literal_column(
    "(SELECT system_identifier || '/' || (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "|| '/' || CASE WHEN pg_is_in_recovery() THEN 'standby' "
    "ELSE left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) END FROM pg_control_system())"
)


def stop(db: Connection, account: str, actor: str, why: str, now: datetime) -> None:
    """Stop charging for an account; a second stop keeps the newer reason."""
    row = {"account": account, "at": now, "actor": actor, "why": why}
    statement = insert(stops).values(row)
    db.execute(statement.on_conflict_do_update(index_elements=["account"], set_=row))


def resume(db: Connection, account: str) -> bool:
    """Resume charging for all accounts or for one, also after a stop by another person; False when not stopped."""
    statement = delete(stops) if account == ALL_ACCOUNTS else delete(stops).where(stops.c.account == account)
    return db.execute(statement).rowcount > 0


def stopped_by(db: Connection, account: str) -> str | None:
    """Return who stopped this account; None when it is not stopped."""
    return db.execute(select(stops.c.actor).where(stops.c.account == account)).scalar()


@dataclass(frozen=True, slots=True)
class Stopped:
    """A stop in force."""

    account: str  # ALL_ACCOUNTS, or one
    at: datetime
    actor: str
    why: str


def stopped(db: Connection) -> Sequence[Stopped]:
    """Every stop in force."""
    return read_all(Stopped, db.execute(select(stops).order_by(stops.c.account)))


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity of a process: its environment with the main account, further accounts, and its schema."""

    fingerprint_in: Callable[[str], str]  # of the environment, in the database that has this identity
    accounts: Mapping[str, str]  # the fingerprint of each further account
    revision: str  # the schema revision of this process's code

    def wrong_account(self, account: str, bound: str | None) -> str | None:
        """Return why this process may not use an account that is bound to `bound`; None when it may.

        The main account is part of the environment's fingerprint. An account without credentials here is left to
        the check for credentials.
        """
        if account not in self.accounts or self.accounts[account] == bound:
            return None
        if bound is None:
            return f"account {account} is not bound to credentials yet; run `again migrate`"
        return (
            f"the credentials of account {account} are not those that it is bound to: another key, address, tier "
            "or environment. Restore the former ones, or, to charge with the new ones from now on, run "
            f"`again adopt --account {account}`"
        )


@dataclass(frozen=True, slots=True)
class Permission:
    """The facts that decide whether this process may send from this database."""

    fingerprint: str | None  # of the bound environment and database
    database: str  # the identity of the database that answers now
    revision: str | None  # of the schema
    oldest_code: str | None  # the oldest revision of code that may run on it
    hold_since: datetime | None
    stopped_why: str | None
    database_clock: datetime
    account: str = ALL_ACCOUNTS
    account_fingerprint: str | None = None  # of the credentials that the account is bound to

    def is_unserved(self, identity: Identity) -> bool:
        """Whether the schema of the database does not serve this process's code."""
        return not Schema(self.revision, self.oldest_code).serves(identity.revision)

    def obstacle(self, identity: Identity, clock: Clock) -> str | None:
        """Return why this process may send nothing from this database; None when it may."""
        stopped = f"charging is stopped: {self.stopped_why}" if self.stopped_why is not None else None
        return self.foreign(identity, clock) or stopped

    def other_credentials(self, identity: Identity) -> str | None:
        """Return why this process may not call the account's gateway; None when the credentials are bound.

        Those of the main account are part of the environment's fingerprint.
        """
        # Computed each time: the connection may lead to another database by now, which may be adopted.
        if self.fingerprint is None:
            return UNBOUND
        if self.fingerprint != identity.fingerprint_in(self.database):
            return "this database belongs to another environment; see `again adopt`"
        return identity.wrong_account(self.account, self.account_fingerprint)

    def unfit(self, identity: Identity, clock: Clock) -> str | None:
        """Return why this process may not send though another may; None when it may."""
        if foreign := self.not_ours(identity):
            return foreign
        skew = clock.ahead_of(self.database_clock)
        if abs(skew) > MOST_SKEW:
            return f"this machine's clock is {skew.total_seconds():+.0f} s from the database's; set it right"
        return None

    def not_ours(self, identity: Identity) -> str | None:
        """Return why this process may not use the database, apart from its clock; None when it may."""
        if self.is_unserved(identity):
            return (
                f"the database is at revision {self.revision}, for code from {self.oldest_code} on; this code is "
                f"for {identity.revision}: stop it, and start the version that `again migrate` was run with"
            )
        return self.other_credentials(identity)

    def foreign(self, identity: Identity, clock: Clock) -> str | None:
        """Return why this process may not act on this database; None when it may."""
        if unfit := self.unfit(identity, clock):
            return unfit
        if self.hold_since is not None:
            return f"on hold since {self.hold_since:%Y-%m-%d %H:%M}Z, until all that was paid is known"
        return None


def permission_columns(account: ColumnElement[str]) -> list[ColumnElement[Any]]:
    """Return the columns of Permission for an account, for the statement of a claim or a pre-send check."""
    stopped = select(stops.c.why).where(stops.c.account.in_([account, ALL_ACCOUNTS])).limit(1)
    return [
        select(installation.c.fingerprint).scalar_subquery(),
        _IDENTITY,
        *SCHEMA,
        select(installation.c.hold_since).scalar_subquery(),
        stopped.scalar_subquery(),
        func.clock_timestamp(),
        account,
        select(account_bindings.c.fingerprint).where(account_bindings.c.account == account).scalar_subquery(),
    ]


# Built once, because every claim uses it.
_PERMISSION = select(*permission_columns(bindparam("account", type_=Text)))


def permission(db: Connection, account: str) -> Permission:
    """Read the Permission of an account in one statement."""
    return Permission(*db.execute(_PERMISSION, {"account": account}).one())


def database_clock(db: Connection) -> datetime:
    """Return the time of the database's machine."""
    at: datetime = db.execute(select(func.clock_timestamp())).scalar_one()
    return at


def database_identity(db: Connection) -> str:
    """Return the identity of this database: the cluster's number, its own within the cluster, and the timeline.

    A restored dump has another number; a promoted standby, or a cluster restored to a point in time, has another
    timeline. A copy of a stopped cluster's files has the same identity.
    """
    return str(db.execute(select(_IDENTITY)).scalar_one())


def bound(db: Connection) -> str | None:
    """The fingerprint of the environment that may send from this database; None when none was bound yet."""
    return db.execute(select(installation.c.fingerprint)).scalar()


def bound_environment(db: Connection) -> str | None:
    """The name of the environment that may send from this database; None when none was bound yet."""
    return db.execute(select(installation.c.environment)).scalar()


def has_signed_mark(db: Connection) -> bool:
    """Whether the restore mark was signed from this database; an older backup has no such row."""
    return db.execute(select(installation.c.mark_signed_at)).scalar() is not None


def note_signed_mark(db: Connection, now: datetime) -> None:
    """Remember that the restore mark is signed from now on."""
    is_first = installation.c.mark_signed_at.is_(None)
    db.execute(update(installation).where(is_first).values(mark_signed_at=now))


def bind(db: Connection, fingerprint: str, environment: str, actor: str, now: datetime) -> None:
    """Bind this environment, and no other, to this database."""
    row = {
        "id": 1, "identity": database_identity(db), "fingerprint": fingerprint, "environment": environment,
        "bound_at": now, "bound_by": actor,
    }  # fmt: skip
    db.execute(insert(installation).values(row).on_conflict_do_update(index_elements=["id"], set_=row))


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold: nothing is sent, because payments since `hold_from` may be missing in this database."""

    since: datetime
    hold_from: datetime
    cursor: int  # open charges up to this row id have been looked up


def hold(db: Connection) -> Hold | None:
    """The hold in force."""
    i = installation.c
    row = db.execute(select(i.hold_since, i.hold_from, i.hold_cursor)).first()
    return Hold(row[0], row[1], row[2]) if row is not None and row[0] is not None else None


def begin_hold(db: Connection, now: datetime, hold_from: datetime) -> None:
    """Begin a hold: nothing is sent until all charges were looked up at the gateway since `hold_from`.

    A second hold starts again and reaches back as far as the first.
    """
    earliest = func.least(func.coalesce(installation.c.hold_from, hold_from), hold_from)
    db.execute(update(installation).values(hold_since=now, hold_from=earliest, hold_cursor=0))


def move_hold(db: Connection, cursor: int) -> None:
    """Write that open charges up to this row were looked up."""
    db.execute(update(installation).where(installation.c.hold_since.is_not(None)).values(hold_cursor=cursor))


def end_hold(db: Connection, now: datetime) -> None:
    """End the hold. Charges that are inserted later are looked up before they are sent (asked_before_sending)."""
    db.execute(
        update(installation).values(
            hold_since=None, hold_from=None, hold_cursor=None, restored_at=now, asked_to=installation.c.hold_cursor
        )
    )


def count_refusals_from(db: Connection, account: str, now: datetime) -> None:
    """Exclude refused calls before now from the breaker's count: a person has handled them."""
    row = {"account": account, "counted_from": now}
    statement = insert(breakers).values(row)
    db.execute(statement.on_conflict_do_update(index_elements=["account"], set_=row))


@dataclass(frozen=True, slots=True)
class Channel:
    """A contract with a PG, under which cards are stored and charged."""

    pg_provider: str
    pg_id: str | None

    def __str__(self) -> str:
        return f"{self.pg_provider}.{self.pg_id}" if self.pg_id else self.pg_provider


def channel_of(db: Connection, billing_key_id: int) -> Channel | None:
    """Return the channel on which a billing key is stored, where the gateway has told it."""
    k = billing_keys.c
    row = db.execute(select(k.pg_provider, k.pg_id).where(k.id == billing_key_id)).first()
    return Channel(row.pg_provider, row.pg_id) if row is not None and row.pg_provider else None


def refused_channels(db: Connection, account: str, since: datetime, enough: int) -> list[Channel]:
    """Return the channels of the cards of so many customers whose calls were refused, settled after `since`."""
    k = billing_keys.c
    query = (
        _refused(account, since, k.pg_provider, k.pg_id)
        .where(k.pg_provider.is_not(None))
        .group_by(k.pg_provider, k.pg_id)
        .having(func.count(k.customer_id.distinct()) >= enough)
        .order_by(k.pg_provider, k.pg_id)
    )
    return [Channel(*row) for row in db.execute(query)]


def refused_customers(
    db: Connection, account: str, since: datetime, most: int, channel: Channel | None = None
) -> Sequence[datetime]:
    """Return when the newest refused call of each refused customer was sent, the newest first, at most so many.

    Refusals that were settled before `since`, or that a person has handled, are excluded.
    """
    k = billing_keys.c
    sent_at = func.max(attempts.c.last_sent_at)
    query = (
        _refused(account, since, sent_at)
        .where(_on(channel))
        .group_by(k.customer_id)
        .order_by(sent_at.desc())
        .limit(most)
    )
    return db.execute(query).scalars().all()


def _refused(account: str, since: datetime, *columns: ColumnElement[Any]) -> Select[Any]:
    a, c, k = attempts.c, charges.c, billing_keys.c
    counted_from = select(breakers.c.counted_from).where(breakers.c.account == account).scalar_subquery()
    return (
        select(*columns)
        .join_from(attempts, charges, a.charge_id == c.id)
        .join(billing_keys, k.id == c.billing_key_id)
        .where(text(REFUSED), a.settled_at > since, c.account == account)
        .where(a.settled_at > func.coalesce(counted_from, since))
    )


def _on(channel: Channel | None) -> ColumnElement[bool]:
    """Whether a call counts for the channel, which is that of the charge's present card; others do not count."""
    k = billing_keys.c
    if channel is None:
        return true()
    is_its = and_(k.pg_provider == channel.pg_provider, k.pg_id.is_not_distinct_from(channel.pg_id))
    return and_(is_its, to_present_card())


def was_paid_since(db: Connection, account: str, since: datetime, channel: Channel | None = None) -> bool:
    """Whether any call of the account, or of one channel of it, that was sent since then was paid."""
    a, c, k = attempts.c, charges.c, billing_keys.c
    paid = (
        select(a.id)
        .join_from(attempts, charges, a.charge_id == c.id)
        .where(text("state = 'paid'"), a.last_sent_at >= since, c.account == account)
    )
    if channel is not None:
        paid = paid.join(billing_keys, k.id == c.billing_key_id).where(_on(channel))
    return bool(db.execute(select(paid.exists())).scalar_one())


def declined_customers(
    db: Connection, account: str, since: datetime, most: int, channel: Channel | None = None
) -> int:
    """Count the customers whose card declined a call that was sent since then, no further than to `most`."""
    a, c, k = attempts.c, charges.c, billing_keys.c
    declined = (
        select(k.customer_id)
        .join_from(attempts, charges, a.charge_id == c.id)
        .join(billing_keys, k.id == c.billing_key_id)
        .where(text(f"state = 'declined' AND NOT {REFUSED}"), a.settled_at >= since, a.last_sent_at >= since)
        .where(c.account == account, a.decline_class.is_not(None), _on(channel))
        .distinct()
        .limit(most)
        .subquery()
    )
    return db.execute(select(func.count()).select_from(declined)).scalar_one()
