"""What every workflow is given: settings, a clock, the database and the gateways."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, Engine

from schedules.errors import Code, OwnCode
from worker.accounts import Account
from worker.clock import Clock, elapsed
from worker.config import Settings
from worker.gateway.port import Gateway
from worker.runtime.check_times import CheckTimes
from worker.runtime.clock_check import ClockCheck
from worker.store.charging import kill_switch
from worker.store.engine import allow_time
from worker.store.operations.revisions import newest_revision
from worker.store.reporting import timeline
from worker.webhooks.port import Receiver

log = logging.getLogger("again.services")


class UnusableAccount(OwnCode):
    """The gateway of an account may not be called from here; nothing has been sent."""


class UnknownAccount(UnusableAccount, LookupError):
    """A charge belongs to a gateway account that this worker has no credentials for."""


class AccountBusy(UnusableAccount):
    """As many requests as may wait for the account's gateway wait for it, and it does not answer."""


class OtherCredentials(UnusableAccount):
    """The account is bound to other credentials than those that are configured here."""


@dataclass(slots=True)
class DryRunChanges:
    """What an act would change: the columns of its subject, before and after."""

    changes: dict[str, tuple[object, object]] = field(default_factory=dict)
    currency: str | None = None  # of the subject's amounts, which may change while it does not

    def note(self, before: Mapping[str, object] | None, after: Mapping[str, object] | None) -> None:
        """Keep what differs between two looks at the subject's row."""
        names = {**(before or {}), **(after or {})}
        if isinstance(currency := names.get("currency"), str):
            self.currency = currency
        seen = ((name, (before or {}).get(name), (after or {}).get(name)) for name in names)
        self.changes |= {name: (was, becomes) for name, was, becomes in seen if was != becomes}


@dataclass(slots=True)
class Joined:
    """One transaction that all acts of a request share: the first of them begins it, `stack` ends it."""

    engine: Engine
    first: Callable[[Connection], None]  # runs at the transaction's begin
    stack: ExitStack
    request_key: str
    db: Connection | None = None

    def connection(self) -> Connection:
        """The connection that has the transaction open."""
        if self.db is None:
            self.db = self.stack.enter_context(self.engine.begin())
            self.first(self.db)
        return self.db


@dataclass(frozen=True, slots=True)
class Services:
    """The real parts, wired together once for each operating-system process."""

    settings: Settings
    clock: Clock
    engine: Engine
    gateways: Mapping[str, Gateway]
    # Of this environment in the database with this identity; no copy of a database has the same.
    fingerprint_in: Callable[[str], str]
    receiver: Receiver | None = None  # of events; without one they wait
    accounts: Mapping[str, Account] = field(
        default_factory=dict
    )  # what is known of each; the main one unless given
    dry_run: DryRunChanges | None = None  # set: what a person does is undone, and only shown
    joined: Joined | None = None  # acts run in this transaction and do not commit it
    check_times: CheckTimes = field(default_factory=CheckTimes, compare=False)
    clock_check: ClockCheck = field(default_factory=ClockCheck, compare=False)
    account_fingerprints: Mapping[str, str] = field(default_factory=dict)  # of each account but the main one
    # Called before a gateway is given out; raises UnusableAccount when too many requests wait for that account.
    before_calls: Callable[[str], object] = field(default=lambda _: None, compare=False)
    revision: str = field(default_factory=lambda: newest_revision().newest)  # of the schema that this code is for

    @property
    def identity(self) -> kill_switch.Identity:
        """What this database must be bound to, and its revision, for this process to send."""
        return kill_switch.Identity(self.fingerprint_in, self.account_fingerprints, self.revision)

    def fingerprint(self, db: Connection) -> str:
        """The fingerprint of this environment in the database that this connection leads to."""
        return self.fingerprint_in(kill_switch.database_identity(db))

    @contextmanager
    def act(self, subject: str | None = None) -> Iterator[Connection]:
        """The one transaction of what a person does to a subject; in a dry run it is undone at its end.

        Under a request key it is the transaction of the request, which commits it together with the answer.
        """
        if self.joined is not None:
            yield self.joined.connection()
            return
        if self.dry_run is None:
            with self.engine.begin() as db:
                yield db
            return
        with self.engine.connect() as db, db.begin() as transaction:
            before = timeline.columns_of(db, subject)
            yield db
            self.dry_run.note(before, timeline.columns_of(db, subject))
            transaction.rollback()

    @contextmanager
    def one_moment(self, *, for_long: bool = False) -> Iterator[Connection]:
        """A read-only transaction on one snapshot; `for_long` raises its time-outs for a slow reader.

        Otherwise a charge could be shown beside attempts that were made a second later.
        """
        with self.engine.connect() as connection:
            db = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with db.begin():
                if for_long:
                    allow_time(db)
                yield db

    @property
    def account_names(self) -> tuple[str, ...]:
        """The gateway accounts that there are credentials for, the main one first."""
        return tuple(self.gateways)

    def account(self, name: str) -> Account:
        """What is known of a gateway account: its rates, and whether it is one for tests."""
        if name in self.accounts:
            return self.accounts[name]
        if name == self.settings.account:
            return self.settings.main_account
        raise UnknownAccount(
            Code.NOT_FOUND, f"gateway account {name!r} is not known; there are: {', '.join(self.account_names)}"
        )

    def gateway(self, account: str) -> Gateway:
        """The gateway of an account; UnusableAccount unless its credentials are those that it is bound to.

        Another merchant would answer that there is no such payment or card. Call this outside of a transaction.
        """
        gateway = self.gateway_to_send(account)
        self.before_calls(account)
        with self.engine.begin() as db:
            wrong = kill_switch.permission(db, account).other_credentials(self.identity)
        if wrong is not None:
            raise OtherCredentials(Code.HELD, wrong)
        return gateway

    def gateway_if_ours(self, account: str) -> Gateway | None:
        """As `gateway`; None, with a line in the log, where it may not be called: for work that is repeated."""
        try:
            return self.gateway(account)
        except UnusableAccount as error:
            log.warning("%s", error)
            return None

    def gateway_to_send(self, account: str) -> Gateway:
        """The gateway for a claimed attempt: its pre-send check compares the credentials, with `identity`."""
        try:
            return self.gateways[account]
        except KeyError:
            known = ", ".join(self.account_names)
            raise UnknownAccount(
                Code.HELD, f"no credentials for gateway account {account!r}; this worker has: {known}"
            ) from None


def are_ours_and_known(services: Services) -> bool:
    """Whether this process may act on these books: they are bound to it, not on hold, and its clock is right."""
    with services.engine.begin() as db:
        permission = kill_switch.permission(db, kill_switch.ALL_ACCOUNTS)
    foreign = permission.foreign(services.identity, services.clock)
    if foreign is not None:
        log.log(level_of(services, permission), "%s", foreign)
    return foreign is None


CANNOT_DECIDE = (
    "this machine's clock is wrong, or the database belongs to another environment or version; see `again status`"
)


def may_decide(services: Services, db: Connection) -> bool:
    """Whether this process may act on what is due: its clock is right and the database is its own, on hold or not.

    Opening and asking go on in a hold, which they end. A process of another environment may have a clock that was
    moved on purpose, which no comparison with the database's clock shows.
    """
    if not clock_is_right(services, db):
        return False
    permission = kill_switch.permission(db, kill_switch.ALL_ACCOUNTS)
    foreign = permission.not_ours(services.identity)
    if foreign is not None:
        log.log(
            level_of(services, permission),
            "nothing is opened, swept, asked about or archived by this process: %s",
            foreign,
        )
    return foreign is None


def right_time(services: Services, db: Connection) -> datetime:
    """The time by the database's clock: what another process is to see in time is not written by a wrong clock."""
    return services.clock.now() - services.clock.ahead_of(kill_switch.database_clock(db))


def level_of(services: Services, permission: kill_switch.Permission) -> int:
    """The log level of an obstacle: ERROR when the schema does not serve this code; the rest may be intended."""
    return logging.ERROR if permission.is_unserved(services.identity) else logging.WARNING


def clock_is_right(services: Services, db: Connection) -> bool:
    """Whether this machine's clock agrees with the database's; one that does not decides no due times."""
    asked_at = elapsed()
    theirs = kill_switch.database_clock(db)
    return services.clock_check.judge(services.clock.ahead_of(theirs), theirs, asked_at)
