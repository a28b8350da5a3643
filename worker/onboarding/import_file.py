"""Import subscriptions of another system: the file is checked as a whole first, and each line is written once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from sqlalchemy import Connection

from schedules.charging.identity import subject_of_request
from schedules.errors import BadRequest, Code, OwnCode
from schedules.requests.batches import MOST_SHOWN, BadLine, Line
from schedules.requests.imports import Incoming, read_incoming, seam
from schedules.subscriptions.cursor import Cursor
from worker.batches.drafts import BadLines
from worker.customers.cards import facts_of, read_new_key
from worker.customers.enrollment import check_facts
from worker.gateway.port import BillingKey, KeyMissing, code_of
from worker.renewals.begin_subscription import Beginning, begin
from worker.renewals.one_per_plan import seen, why_not
from worker.services import Services, UnusableAccount
from worker.store.customers import customers, plans, rival_subscriptions, subscriptions
from worker.store.customers.customers import StoredKey
from worker.store.customers.plans import StoredPlan
from worker.store.customers.rival_subscriptions import Wanted
from worker.store.engine import allow_waiting
from worker.store.outbox import event_log

SECOND = "write yes into the column `another` for a second one beside it"
CHUNK = 500  # lines checked or written in one transaction


class CannotGoOn(OwnCode):
    """A line that was correct when it was checked cannot be written now."""


@dataclass(slots=True)
class Preview:
    """The result that an import would have."""

    new: int = 0
    known: int = 0  # written by an earlier import
    sums: dict[str, int] = field(default_factory=dict)  # minor units by currency: the first charges here
    first: datetime | None = None  # the earliest first charge
    last: datetime | None = None

    def count_line(self, plan: StoredPlan, cursor: Cursor) -> None:
        """Count a new subscription."""
        self.new += 1
        price = plan.plan.price
        self.sums[price.currency] = self.sums.get(price.currency, 0) + price.amount
        self.first = min(self.first or cursor.due_at, cursor.due_at)
        self.last = max(self.last or cursor.due_at, cursor.due_at)


@dataclass(slots=True)
class _Reader:
    """State of a check: the plans, and the references that were read."""

    services: Services
    read_keys: bool
    plans: dict[str, StoredPlan | None] = field(default_factory=dict)
    seen: set[bytes] = field(default_factory=set)  # digests of references, 16 bytes each
    begun: set[bytes] = field(default_factory=set)  # digests of customer and plan of the new lines

    def plan(self, db: Connection, code: str) -> StoredPlan:
        """The newest version of a plan on sale; raises BadRequest when there is none."""
        if code not in self.plans:
            found = plans.newest(db, code)
            self.plans[code] = found if found is not None and found.archived_at is None else None
        plan = self.plans[code]
        if plan is None:
            raise BadRequest(Code.NOT_FOUND, "plan", f"plan {code!r} is not known, or is archived")
        return plan


def check(
    services: Services,
    lines: Iterable[Line],
    on_progress: Callable[[int], None] = lambda _: None,
    *,
    read_keys: bool = True,
) -> Preview:
    """Check every line without writing; raise BadLines with each wrong line.

    With `read_keys`, the billing key of each new customer is read from the gateway. `on_progress` gets the number
    of lines of each chunk.
    """
    reader, preview, bad, bad_count = _Reader(services, read_keys), Preview(), list[BadLine](), 0
    for chunk in _chunks(lines):
        with services.engine.begin() as db:
            for line in chunk:
                try:
                    _check_line(db, reader, preview, line)
                except BadRequest as error:
                    bad_count += 1
                    if len(bad) < MOST_SHOWN:
                        bad.append(BadLine(line.number, error.field, error.words))
        on_progress(len(chunk))
    if bad:
        raise BadLines(bad, bad_count)
    return preview


def write(
    services: Services,
    lines: Iterable[Line],
    actor: str,
    why: str,
    on_progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Write the subscriptions of checked lines; return how many are new.

    A repeated call continues after an interruption: the constraint one_subscription_for_each_external_ref decides
    what is new, also between concurrent imports. Raises CannotGoOn for a line that has become wrong.
    """
    reader, written = _Reader(services, read_keys=True), 0
    for chunk in _chunks(lines):
        pending = [_pending(services, line) for line in chunk]
        with services.engine.begin() as db:
            allow_waiting(db)  # another import may lock the same customers
            _lock_customers(db, pending, services.clock.now())
            # In a fixed order too: two imports may have the same references for different customers.
            count = sum(
                _write_line(db, reader, each)
                for each in sorted(pending, key=lambda one: one.incoming.external_ref)
            )
            if count:
                event_log.record(db, actor, "import", "subscriptions", why, services.clock.now(), written=count,
                             lines=f"{chunk[0].number}-{chunk[-1].number}")  # fmt: skip
        written += count
        on_progress(len(chunk))
    return written


def _check_line(db: Connection, reader: _Reader, preview: Preview, line: Line) -> None:
    if line.wrong is not None:
        raise BadRequest(Code.INVALID, "line", line.wrong)
    incoming = read_incoming(line.columns)
    digest = subject_of_request(incoming.external_ref).encode()[:16]
    if digest in reader.seen:
        raise BadRequest(Code.CONFLICT, "external_ref", f"{incoming.external_ref!r} is that of another line")
    reader.seen.add(digest)
    plan = reader.plan(db, incoming.plan)
    if subscriptions.by_external_ref(db, incoming.external_ref):
        preview.known += 1
        return
    cursor = seam(plan.plan, incoming, reader.services.clock.now())
    _check_customer(db, reader, incoming, cursor)
    preview.count_line(plan, cursor)


def _check_customer(db: Connection, reader: _Reader, incoming: Incoming, cursor: Cursor) -> None:
    key = customers.key_by_uid(db, incoming.customer_uid)
    whose = f"known/{key.customer_id}" if key is not None else f"new/{incoming.customer_uid}"
    digest = subject_of_request(f"{incoming.plan}/{whose}").encode()[:16]
    if digest in reader.begun and not incoming.another:
        raise BadRequest(
            Code.CONFLICT,
            "customer_uid",
            f"{incoming.customer_uid!r} is on {incoming.plan!r} by another line of the file; {SECOND}",
        )
    reader.begun.add(digest)
    if key is not None:
        if key.deleted_at is not None:
            raise BadRequest(
                Code.NOT_FOUND, "customer_uid", f"the billing key of {incoming.customer_uid!r} was deleted"
            )
        # Without a lock, because the check calls the gateway within this transaction.
        _refuse_second(seen, db, key, incoming, cursor)
        return
    check_facts(incoming.customer_uid, name=incoming.name, email=incoming.email, tel=incoming.tel)
    if reader.read_keys:
        _key_of(reader.services, incoming)


def _refuse_second(
    find: Callable[[Connection, Wanted], str | None],
    db: Connection,
    key: StoredKey,
    incoming: Incoming,
    cursor: Cursor,
) -> None:
    """Raise BadRequest when the customer is on the plan and the line does not set `another`."""
    wanted = Wanted(customer_id=key.customer_id, plan=incoming.plan, starts_at=cursor.due_at)
    rival = None if incoming.another else find(db, wanted)
    if rival is not None:
        raise BadRequest(Code.CONFLICT, "customer_uid", f"{incoming.customer_uid!r} {rival}; {SECOND}")


def _key_of(services: Services, incoming: Incoming) -> tuple[str, BillingKey]:
    account = _account(services, incoming)
    try:
        gateway = services.gateway(account)
    except UnusableAccount as error:
        raise BadRequest(error.code, "account", error.without_advice) from None
    found = read_new_key(gateway, incoming.customer_uid)
    if isinstance(found, KeyMissing):
        raise BadRequest(
            Code.NOT_FOUND, "customer_uid", f"the gateway has no billing key for {incoming.customer_uid!r}"
        )
    if not isinstance(found, BillingKey):
        raise BadRequest(
            code_of(found),
            "customer_uid",
            f"the gateway did not tell of {incoming.customer_uid!r}: {found.reason}",
        )
    return account, found


def _account(services: Services, incoming: Incoming) -> str:
    name = incoming.account or services.settings.account
    if name not in services.account_names:
        raise BadRequest(
            Code.NOT_FOUND, "account", f"{name!r} is not known; there are: {', '.join(services.account_names)}"
        )
    return name


@dataclass(frozen=True, slots=True)
class _PendingLine:
    """A line that is about to be written."""

    line: Line
    incoming: Incoming
    found: tuple[str, BillingKey] | None  # gateway account and billing key of a new customer


def _pending(services: Services, line: Line) -> _PendingLine:
    """Read a line and, for a new customer, the billing key from the gateway; call it outside of a transaction."""
    incoming = read_incoming(line.columns)
    with services.engine.begin() as db:
        is_known = customers.key_by_uid(db, incoming.customer_uid) is not None
    return _PendingLine(line, incoming, None if is_known else _key_of(services, incoming))


def _lock_customers(db: Connection, pending: Sequence[_PendingLine], now: datetime) -> None:
    """Write the new customers of these lines and lock all of them, billing keys first as everywhere.

    Both in a fixed order, independent of the order of the lines, so that two imports do not deadlock.
    """
    for each in sorted(pending, key=lambda one: one.incoming.customer_uid):
        if each.found is not None and not subscriptions.by_external_ref(db, each.incoming.external_ref):
            _add_customer(db, each.incoming, *each.found, now)
    keys = customers.lock_keys(db, {each.incoming.customer_uid for each in pending})
    rival_subscriptions.lock_customers(db, {key.customer_id for key in keys})


def _add_customer(db: Connection, asked: Incoming, account: str, key: BillingKey, now: datetime) -> None:
    customer_id = customers.add(db, key.customer_uid, asked.name, asked.email, asked.tel, now)
    customers.add_key(db, customer_id, key.customer_uid, account, facts_of(key), now)


def _write_line(db: Connection, reader: _Reader, each: _PendingLine) -> bool:
    try:
        return _written(db, reader, each.incoming)
    except BadRequest as error:
        raise CannotGoOn(
            error.code,
            f"line {each.line.number}, {error.field}: {error.without_advice}; correct the line and run the file "
            "again: lines that are written already are left alone",
        ) from None


def _written(db: Connection, reader: _Reader, incoming: Incoming) -> bool:
    now = reader.services.clock.now()
    if subscriptions.by_external_ref(db, incoming.external_ref):
        return False
    plan = reader.plan(db, incoming.plan)
    cursor = seam(plan.plan, incoming, now)
    known = customers.key_by_uid(db, incoming.customer_uid)
    if known is None or known.deleted_at is not None:
        raise BadRequest(Code.NOT_FOUND, "customer_uid", f"{incoming.customer_uid!r} has no card any more")
    _refuse_second(why_not, db, known, incoming, cursor)
    # The key is derived from the reference: concurrent imports of the line write the same key, once.
    what = Beginning(
        key=subject_of_request(f"import/{incoming.external_ref}"), customer_id=known.customer_id,
        billing_key_id=known.id, plan=plan, anchor=incoming.anchor, first=cursor,
        external_ref=incoming.external_ref, another=incoming.another, trial_of=incoming.plan,
    )  # fmt: skip
    return begin(db, what, now)


def _chunks(lines: Iterable[Line]) -> Iterator[Sequence[Line]]:
    iterator = iter(lines)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk
