"""Wiring: the real parts are put together here, once for each operating-system process."""

import hashlib
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from schedules.errors import Code, FixedCode
from worker.accounts import Account, BadAccounts
from worker.addresses import host_of
from worker.charging.executor import Executor
from worker.clock import Clock, MovedClock, SystemClock, elapsed, wait
from worker.config import BadSettings, Settings, load_settings
from worker.gateway.port import Gateway
from worker.gateway.portone_v1.client import PortOneV1
from worker.gateway.portone_v1.settings import PortOneSettings
from worker.gateway.timeouts import Timeouts
from worker.gateway.transport import tls_context
from worker.operations import operate
from worker.services import Services
from worker.store.charging import account_bindings, kill_switch
from worker.store.engine import check_sessions, make_engine
from worker.store.failures import DATABASE_ERRORS
from worker.store.operations.revisions import (
    Revisions,
    Schema,
    current_schema,
    newest_revision,
    process_name,
    unserved_connected,
)
from worker.store.tokens import SealedTokens
from worker.webhooks.port import Receiver
from worker.webhooks.standard import StandardWebhook

log = logging.getLogger("again.wiring")
MOST_CONNECTIONS = 32  # of one process: charges share theirs, and what else there is waits for milliseconds
READ_EVERY = 2.0  # seconds between two looks at the files of accounts and secrets
STANDS_STILL = 0.2  # seconds that a changed file must stay as it is, so that none is read half written


class BadDatabase(FixedCode, code=Code.HELD):
    """The database cannot be reached, or is not at the revision that this code needs."""


class Unreachable(BadDatabase, code=Code.UNAVAILABLE):
    """The database does not answer."""


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once."""
    return load_settings()


def services() -> Services:
    """The services of this process as its files of accounts and secrets say now.

    They are made once; a database of another revision is refused. The returned object keeps the accounts of this
    moment: call this again for each piece of work.
    """
    return _wired().services()


@lru_cache(maxsize=1)
def _wired() -> "Wired":
    made = connect(settings())
    check_revision(made.engine, newest_revision())
    return Wired(made)


def executor() -> Executor:
    """The executor of this process, with its services."""
    return _wired().executor


class Wired:
    """The services of one process, with the accounts and secrets that its files hold now. For any thread to use.

    The files are read at most every `read_every` seconds, when the services are requested. A change that cannot
    be read is refused, and the former accounts stay. Calls under way end on the clients that they began with.
    """

    def __init__(self, made: Services, read_every: float = READ_EVERY) -> None:
        self._made = made
        self.executor = Executor(made)
        self._read_every = read_every
        self._accounts = tuple(made.accounts.values())
        self._refused: str | None = None
        self._retired: list[tuple[float, Gateway]] = []  # clients, and when each may be closed
        self._read_at = elapsed() + read_every
        self._lock = threading.Lock()

    def services(self) -> Services:
        """The services as they are now."""
        settings = self._made.settings
        if (settings.accounts_file or settings.portone_secret_file) and elapsed() >= self._read_at:
            with self._lock:
                if elapsed() >= self._read_at:  # else another thread has looked meanwhile
                    try:
                        self._look()
                    finally:
                        self._read_at = elapsed() + self._read_every
        return self._made

    def _look(self) -> None:
        while self._retired and self._retired[0][0] <= elapsed():
            self._retired.pop(0)[1].close()
        read = self._read()
        if read in (self._accounts, self._refused):
            self._refused = read if isinstance(read, str) else None
            return
        wait(STANDS_STILL)
        if self._read() != read:
            return  # it is being written
        if isinstance(read, str):
            log.error("the changed accounts are refused, and the former ones stay in use: %s", read)
            self._refused = read
            return
        self._refused = None
        try:
            self._change(read)
        except DATABASE_ERRORS as error:
            log.warning("the changed accounts are not in use yet, for the database fails: %s", error)

    def _read(self) -> tuple[Account, ...] | str:
        """Every account, the main one first; or why they cannot be read."""
        try:
            return self._made.settings.with_secret_read_again().accounts()
        except (BadAccounts, BadSettings) as error:
            return str(error)

    def _change(self, accounts: Sequence[Account]) -> None:
        settings = self._made.settings.model_copy(update={"portone_secret": accounts[0].secret})
        before, gateways = self._made.accounts, dict[str, Gateway]()
        made = replace(
            self._made, settings=settings, accounts={account.name: account for account in accounts},
            account_fingerprints=account_fingerprints(settings, accounts),
        )  # fmt: skip
        bind_and_warn(made, "accounts file")
        for name, account in made.accounts.items():
            is_same = name in before and gateway_settings(settings, account) == gateway_settings(
                settings, before[name]
            )
            gateways[name] = self._made.gateways[name] if is_same else _gateway(settings, account, made.engine)
        made = replace(made, gateways=gateways)
        self.executor.use(made)
        retired = [gateway for gateway in self._made.gateways.values() if gateway not in gateways.values()]
        # Nothing that was begun with one of them lasts longer than a lease.
        self._retired += [(elapsed() + settings.lease, gateway) for gateway in retired]
        log.warning("accounts: %s", _difference(before, made.accounts))
        self._accounts, self._made = tuple(accounts), made


def _difference(before: Mapping[str, Account], after: Mapping[str, Account]) -> str:
    parts = {
        "added": after.keys() - before.keys(),
        "removed": before.keys() - after.keys(),
        "changed": {name for name in after.keys() & before.keys() if after[name] != before[name]},
    }
    return "; ".join(f"{what} {', '.join(sorted(names))}" for what, names in parts.items() if names)


def bind_and_warn(made: Services, actor: str) -> None:
    """Bind the further accounts that are new; log an ERROR for each with other credentials than the bound ones."""
    operate.bind_new_accounts(made, actor)
    for wrong in wrong_accounts(made):
        log.error("nothing is sent for one account: %s", wrong)


def connect(settings: Settings) -> Services:
    """Put the real parts together; raises BadDatabase or BadSession when the database cannot be used."""
    # A thread holds one connection at a time, and none during a call; beat and the tokens need a few more.
    revision = newest_revision().newest
    name = process_name(revision)
    engine = make_engine(settings.sqlalchemy_url, min(settings.concurrency, MOST_CONNECTIONS) + 4, name)
    try:
        check_sessions(engine)
    except OperationalError as error:
        raise Unreachable(unreachable(settings, error)) from None
    accounts = {account.name: account for account in settings.accounts()}
    return Services(
        settings=settings,
        clock=make_clock(settings),
        engine=engine,
        gateways={name: _gateway(settings, account, engine) for name, account in accounts.items()},
        accounts=accounts,
        fingerprint_in=fingerprint_in(settings),
        receiver=make_receiver(settings),
        account_fingerprints=account_fingerprints(settings, accounts.values()),
        revision=revision,
    )


def make_clock(settings: Settings) -> Clock:
    """The machine's clock, or one that a file moves."""
    return MovedClock(settings.clock_file) if settings.clock_file else SystemClock()


def make_receiver(settings: Settings) -> Receiver | None:
    """The receiver of events; None when no address is set."""
    if settings.webhook_url is None:
        return None
    trust = tls_context(settings.certificates, shows_cert=False)
    return StandardWebhook(settings.webhook_url.get_secret_value(), settings.webhook_secrets, trust=trust)


def _gateway(settings: Settings, account: Account, engine: Engine) -> PortOneV1:
    tokens = SealedTokens(engine, account.name, account.secret.get_secret_value())
    return PortOneV1(gateway_settings(settings, account), tokens)


def gateway_settings(settings: Settings, account: Account) -> PortOneSettings:
    """What the gateway's client needs to know of an account."""
    return PortOneSettings(
        base_url=account.portone_url,
        imp_key=account.key.get_secret_value(),
        imp_secret=account.secret.get_secret_value(),
        timeouts=Timeouts(
            connect=settings.connect_timeout,
            read=settings.read_timeout,
            write=settings.write_timeout,
            deadline=settings.call_deadline,
        ),
        tier=account.tier,
        include_sandbox=account.sandbox,
        proxy_url=settings.proxy_url.get_secret_value() if settings.proxy_url else None,
        certificates=settings.certificates,
    )


def fingerprint_in(settings: Settings) -> Callable[[str], str]:
    """Name this environment and gateway account together with a database; a copy of it has another identity."""
    # The host, not the port: a simulator may come back on another one.
    host = host_of(settings.portone_url)
    parts = (settings.environment, settings.account, settings.portone_tier or "", host)
    key = settings.portone_key.get_secret_value()

    def in_database(identity: str) -> str:
        words = "\n".join((*parts, identity, key))
        return hashlib.blake2b(words.encode(), digest_size=16, person=b"again-place").hexdigest()

    return in_database


def account_fingerprint(settings: Settings, account: Account) -> str:
    """Name the credentials of a further account in this environment; a rotated secret keeps the fingerprint.

    The database is not part of it: the environment's fingerprint names that, for all accounts.
    """
    host = host_of(account.portone_url)
    parts = (settings.environment, account.name, account.tier or "", host, account.key.get_secret_value())
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16, person=b"again-account").hexdigest()


def account_fingerprints(settings: Settings, accounts: Iterable[Account]) -> dict[str, str]:
    """The fingerprint of each further account."""
    return {
        account.name: account_fingerprint(settings, account)
        for account in accounts
        if account.name != settings.account
    }


def wrong_accounts(made: Services) -> tuple[str, ...]:
    """Return why further accounts may not be charged from here, one message for each."""
    with made.engine.begin() as db:
        bindings = account_bindings.all_bound(db)
    found = (made.identity.wrong_account(name, bindings.get(name)) for name in made.account_fingerprints)
    return tuple(wrong for wrong in found if wrong is not None)


def wrong_place(made: Services) -> str | None:
    """Why this environment may not send from this database; None when it may."""
    with made.engine.begin() as db:
        bound, environment = kill_switch.bound(db), kill_switch.bound_environment(db)
        ours_here = made.fingerprint(db)
    if bound == ours_here:
        return None
    if bound is None:
        return f"nothing will be sent: {kill_switch.UNBOUND}"
    ours = made.settings.environment
    other = " with another gateway, account or database" if environment == ours else f", not to {ours!r}"
    return f"nothing will be sent: this database is bound to environment {environment!r}{other}; see `again adopt`"


def other_versions(made: Services) -> tuple[str, ...]:
    """Return what to say of connected processes whose code the schema does not serve, one message for each."""
    with made.engine.begin() as db:
        schema = current_schema(db)
        found = unserved_connected(db, schema) if schema is not None else {}
    then = "stop them, and start them again with this version"
    return tuple(
        f"processes for revision {revision} hold {count} connections, and send nothing: {then}"
        if revision
        else f"processes that do not look at the revision hold {count} connections, and go on charging: {then}"
        for revision, count in found.items()
    )


def unreachable(settings: Settings, error: OperationalError) -> str:
    """What to tell a person when the database does not answer, without the password."""
    url = make_engine(settings.sqlalchemy_url, 1, "again").url.render_as_string(hide_password=True)
    return f"the database at {url} does not answer ({error.orig}); see AGAIN_DATABASE_URL"


def check_revision(engine: Engine, code: Revisions) -> None:
    """Refuse a database whose schema does not serve this code; a newer schema may serve it."""
    with engine.connect() as db:
        found = current_schema(db)
    if found is None:
        raise BadDatabase("the database has no tables of ours yet; run `again migrate`")
    if found.serves(code.newest):
        return
    _refuse_unknown(found, code)
    raise BadDatabase(
        f"the database is at revision {found.revision}, behind this code ({code.newest}); run `again migrate`"
    )


def refuse_newer(engine: Engine) -> None:
    """Refuse to migrate a database whose revision this code does not know."""
    with engine.connect() as db:
        found = current_schema(db)
    if found is not None:
        _refuse_unknown(found, newest_revision())


def _refuse_unknown(found: Schema, code: Revisions) -> None:
    if found.oldest_code is None:
        raise BadDatabase(
            f"the database is at revision {found.revision} of a version from before the first release, which this "
            "code can neither use nor migrate: create an empty database, and run `again migrate` there; see "
            "docs/how-to/databases.md"
        )
    if found.revision not in code.known:
        raise BadDatabase(
            f"the database is at revision {found.revision}, which this code does not know: a newer "
            "version of Again migrated it; install that version"
        )
