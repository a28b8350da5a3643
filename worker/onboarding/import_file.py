"""Importing: subscriptions of another system go on here, checked as a whole first, each once."""

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
    """A line that was right when it was checked cannot be written any more."""


@dataclass(slots=True)
class Preview:
    """What an import would bring, counted line by line."""

    new: int = 0
    known: int = 0  # written by an import before
    sums: dict[str, int] = field(default_factory=dict)  # minor units by currency, of each one's first charge here
    first: datetime | None = None  # the first charge of all
    last: datetime | None = None

    def count_line(self, plan: StoredPlan, cursor: Cursor) -> None:
        """Add a subscription that is not there yet."""
        self.new += 1
        price = plan.plan.price
        self.sums[price.currency] = self.sums.get(price.currency, 0) + price.amount
        self.first = min(self.first or cursor.due_at, cursor.due_at)
        self.last = max(self.last or cursor.due_at, cursor.due_at)


@dataclass(slots=True)
class _Reader:
    """What is known while lines are checked: plans, and each reference that was seen."""

    services: Services
    read_keys: bool
    plans: dict[str, StoredPlan | None] = field(default_factory=dict)
    seen: set[bytes] = field(default_factory=set)  # digests of references: eight bytes for each line
    begun: set[bytes] = field(default_factory=set)  # digests of customer and plan of lines that are new

    def plan(self, db: Connection, code: str) -> StoredPlan:
        """The newest version of a plan that takes subscriptions."""
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
    told: Callable[[int], None] = lambda _: None,
    *,
    read_keys: bool = True,
) -> Preview:
    """Look at every line; BadLines names each that cannot be, and nothing is written."""
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
        told(len(chunk))
    if bad:
        raise BadLines(bad, bad_count)
    return preview


def write(
    services: Services, lines: Iterable[Line], actor: str, why: str, told: Callable[[int], None] = lambda _: None
) -> int:
    """Write the subscriptions of lines that were checked; answers how many are new. Said again, it goes on.

    one_subscription_for_each_external_ref decides what is new, whoever writes at the same time.
    """
    reader, written = _Reader(services, read_keys=True), 0
    for chunk in _chunks(lines):
        coming = [_coming(services, line) for line in chunk]
        with services.engine.begin() as db:
            allow_waiting(db)  # for another import that writes the same customers
            _lock_customers(db, coming, services.clock.now())
            # In one order too: two imports may have the same references for other customers.
            count = sum(_write_line(db, reader, one) for one in sorted(coming, key=lambda c: c.asked.external_ref))
            if count:
                event_log.record(db, actor, "import", "subscriptions", why, services.clock.now(), written=count,
                             lines=f"{chunk[0].number}-{chunk[-1].number}")  # fmt: skip
        written += count
        told(len(chunk))
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
        # The check reads keys from the gateway in this transaction: it must hold no lock.
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
    """BadRequest when the customer is on the plan and no second subscription is asked for."""
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
class _Coming:
    """A line that is about to be written."""

    line: Line
    asked: Incoming
    found: tuple[str, BillingKey] | None  # the gateway's account and facts of a customer who is not known here


def _coming(services: Services, line: Line) -> _Coming:
    """A line with the gateway's facts of a customer who is new; asked for outside of any transaction."""
    incoming = read_incoming(line.columns)
    with services.engine.begin() as db:
        is_known = customers.key_by_uid(db, incoming.customer_uid) is not None
    return _Coming(line, incoming, None if is_known else _key_of(services, incoming))


def _lock_customers(db: Connection, coming: Sequence[_Coming], now: datetime) -> None:
    """Write the new customers of these lines, and lock all of them: cards first, as every way in does.

    Each in one order, whatever the order of the lines: two imports wait for each other, and never in a circle.
    """
    for one in sorted(coming, key=lambda c: c.asked.customer_uid):
        if one.found is not None and not subscriptions.by_external_ref(db, one.asked.external_ref):
            _add_customer(db, one.asked, *one.found, now)
    keys = customers.lock_keys(db, {one.asked.customer_uid for one in coming})
    rival_subscriptions.lock_customers(db, {key.customer_id for key in keys})


def _add_customer(db: Connection, asked: Incoming, account: str, key: BillingKey, now: datetime) -> None:
    customer_id = customers.add(db, key.customer_uid, asked.name, asked.email, asked.tel, now)
    customers.add_key(db, customer_id, key.customer_uid, account, facts_of(key), now)


def _write_line(db: Connection, reader: _Reader, one: _Coming) -> bool:
    try:
        return _written(db, reader, one.asked)
    except BadRequest as error:
        raise CannotGoOn(
            error.code,
            f"line {one.line.number}, {error.field}: {error.without_advice}; correct the line and run the file "
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
    # Its key is made of the reference: who writes the same line at the same time writes the same key, once.
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
