"""Approve, open, stop and resume batches; their charges are opened a few at a time."""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from schedules.errors import BROKEN, BadRequest, Code, RuleBroken
from schedules.money.amounts import Money, amount_words
from schedules.outbox.events import BatchStopped
from schedules.persons import Person
from schedules.requests.adhoc import ChargeRequest
from schedules.requests.batches import BatchState, held_words
from worker.batches.drafts import CHUNK, CannotBatch, known_batch, refuse_repeated
from worker.charging.adhoc import known_policy, row_of
from worker.charging.approval_limits import above_day_limit
from worker.services import Services, are_ours_and_known
from worker.store import batches
from worker.store.batches import Batch, BatchColumns, LineCharge, StoredLine
from worker.store.charging import adhoc_charges, charges
from worker.store.customers.policies import StoredPolicy
from worker.store.outbox import event_log

log = logging.getLogger("again.run_batch")
MOST_AHEAD = 2000  # opened charges of a batch without an attempt; a stop holds them


def begin(services: Services, key: str, actor: str, os_user: str | None = None) -> Batch:
    """Start a draft; above a limit it waits for the approval of a second person.

    The limits are AGAIN_BATCH_LIMIT for the sum of each currency, AGAIN_CHARGE_LIMIT for each line, and the daily
    limit of each account. Raises CannotBatch for a batch that is no draft or repeats another one.
    """
    now = services.clock.now()
    with services.act() as db:
        batch = known_batch(db, key)
        if batch.state is not BatchState.DRAFT:
            raise CannotBatch(Code.CONFLICT, f"batch {key!r} is {batch.state}; nothing to begin")
        refuse_repeated(db, batch)
        above = _above_limit(services, db, batch, now)
        state = BatchState.WAITING if above else BatchState.RUNNING
        values: BatchColumns = {
            "state": state.value, "created_by": actor, "created_os_user": os_user, "words": above,
        }  # fmt: skip
        if not above:
            values |= {"approved_by": actor, "approved_os_user": os_user, "approved_at": now}
        _begin(db, batch, values)
        event_log.record(db, actor, "batch.begin", key, batch.terms.reason, now, lines=batch.lines,
                     sums=dict(batch.sums), os_user=os_user, repeats=batch.terms.repeats or None)  # fmt: skip
        return known_batch(db, key)


def _begin(db: Connection, batch: Batch, values: BatchColumns) -> None:
    """Write that a batch is begun; one_batch_for_each_content refuses the second of two concurrent ones."""
    try:
        with db.begin_nested():
            batches.change(db, batch.id, **values)
    except IntegrityError as error:
        if "one_batch_for_each_content" not in str(error.orig):
            raise
        raise CannotBatch(
            Code.CONFLICT,
            f"a batch with the lines of {batch.key!r} was begun at this moment; `again batch list` shows it",
        ) from None


def _above_limit(services: Services, db: Connection, batch: Batch, now: datetime) -> str | None:
    """Describe the limit that a batch exceeds; None when it exceeds none.

    Without one, the sums of the batch are added to the daily sums of its accounts.
    """
    sums, each = services.settings.limits("batch_limit"), services.settings.limits("charge_limit")
    for currency, amount in batch.sums.items():
        if amount > sums.of(currency):
            return f"{amount_words(amount, currency)} is above AGAIN_BATCH_LIMIT, {sums.text_of(currency)}"
    shares = batches.shares(db, batch.id)
    for share in shares:
        if share.largest > each.of(share.currency):
            largest = amount_words(share.largest, share.currency)
            return f"a line of {largest} is above AGAIN_CHARGE_LIMIT, {each.text_of(share.currency)}"
    day = db.begin_nested()
    for share in shares:  # always in the same order, to avoid deadlocks
        why = above_day_limit(services, db, share.account, share.total, share.currency, now)
        if why is not None:
            day.rollback()
            return why
    day.commit()
    return None


def approve(services: Services, key: str, actor: str, why: str, os_user: str | None = None) -> None:
    """Approve a batch above the limit. Refused to the person who requested it, by actor name and by OS user."""
    now = services.clock.now()
    with services.act() as db:
        batch = known_batch(db, key)
        if batch.state is not BatchState.WAITING:
            raise _refusal(batch, "nothing to approve", BatchState.RUNNING, BatchState.DONE)
        same = Person(batch.created_by, batch.created_os_user).matches(Person(actor, os_user))
        if same is not None:
            raise CannotBatch(
                Code.NOT_ALLOWED, f"batch {key!r} was asked for by {same} as well; another person must approve it"
            )
        batches.change(
            db, batch.id, state=BatchState.RUNNING.value, approved_by=actor, approved_os_user=os_user,
            approved_at=now, words=None,
        )  # fmt: skip
        event_log.record(db, actor, "batch.approve", key, why, now, os_user=os_user)


def drop(services: Services, key: str, actor: str, why: str) -> None:
    """Discard a batch that is a draft or waits for approval."""
    now = services.clock.now()
    with services.act() as db:
        batch = known_batch(db, key)
        if batch.state not in (BatchState.DRAFT, BatchState.WAITING):
            raise _refusal(batch, "only one that was not begun can be dropped", BatchState.DROPPED)
        batches.change(db, batch.id, state=BatchState.DROPPED.value, ended_at=now, words=why)
        event_log.record(db, actor, "batch.drop", key, why, now)


def stop(services: Services, key: str, actor: str, why: str) -> int:
    """Open no further line, and hold the charges without an attempt; return how many are held."""
    now = services.clock.now()
    with services.act() as db:
        batch = known_batch(db, key)
        if batch.state not in (BatchState.RUNNING, BatchState.DONE):
            raise _refusal(batch, "nothing to stop", BatchState.STOPPED)
        waiting = _stop(db, batch, why, now)
        event_log.record(db, actor, "batch.stop", key, why, now, waiting=waiting)
    return waiting


def resume(services: Services, key: str, actor: str, why: str) -> int:
    """Continue a stopped batch without a further canary; return how many charges are released."""
    now = services.clock.now()
    with services.act() as db:
        batch = known_batch(db, key)
        if batch.state is not BatchState.STOPPED:
            raise _refusal(batch, "nothing to resume", BatchState.RUNNING, BatchState.DONE)
        released = batches.release_held(db, batch.id, held_words(batch.key))
        batches.change(db, batch.id, state=BatchState.RUNNING.value, words=None, canary_passed=True)
        event_log.record(db, actor, "batch.resume", key, why, now, released=released)
    return released


def _refusal(batch: Batch, why: str, *requested: BatchState) -> CannotBatch:
    """The error of a batch in the wrong state: ALREADY_DONE when it has one of the requested states."""
    code = Code.ALREADY_DONE if batch.state in requested else Code.CONFLICT
    return CannotBatch(code, f"batch {batch.key!r} is {batch.state}; {why}")


def go_on(services: Services, going_on: Callable[[], bool] = lambda: True) -> int:
    """Open the next lines of every running batch, as far as earlier ones were tried; return how many.

    A batch with a line that breaks a rule is stopped, with its event; the other batches continue.
    """
    if not are_ours_and_known(services):
        return 0
    with services.engine.begin() as db:
        keys = batches.running(db)
    opened = 0
    for key in keys:
        try:
            while going_on() and (fresh := _open_next(services, key)):
                opened += fresh
        except BROKEN as broken:
            log.exception("batch %s is stopped: it breaks a rule", key)
            _stop_broken(services, key, broken)
    return opened


def _stop_broken(services: Services, key: str, broken: Exception) -> None:
    now = services.clock.now()
    with services.engine.begin() as db:
        batch = known_batch(db, key)
        if batch.state is BatchState.RUNNING:
            _stop(db, batch, f"it breaks a rule: {broken}", now)


def _open_next(services: Services, key: str) -> int:
    """Open one chunk of a batch; return the number of lines, 0 when nothing can be opened now."""
    now = services.clock.now()
    with services.engine.begin() as db:
        batch = known_batch(db, key)
        if batch.state is not BatchState.RUNNING:
            return 0
        if batch.opened >= batch.lines:
            batches.change(db, batch.id, state=BatchState.DONE.value, ended_at=now)
            return 0
        room = _room(db, batch, now)
        lines = batches.following(db, batch, min(room, CHUNK)) if room else []
        if not lines:
            return 0
        policy = known_policy(services, db, batch.terms.policy)
        _open_lines(db, batch, lines, policy, now)
        batches.change(db, batch.id, opened_to=lines[-1].number, opened=batch.opened + len(lines))
    return len(lines)


def _room(db: Connection, batch: Batch, now: datetime) -> int:
    """How many lines may be opened now: none while the canary is undecided, at most MOST_AHEAD untried."""
    if not batch.canary_passed:
        left = batch.terms.canary - batch.opened
        if left > 0:
            return left
        found = batches.tally(db, batch, batch.terms.canary)
        failed = found.failed + found.without_charge
        if not batch.terms.allows(failed):
            why = f"{failed} of the first {batch.terms.canary} failed, above {batch.terms.canary_bound}%"
            log.error("batch %s is stopped: %s", batch.key, why)
            _stop(db, batch, why, now)
            return 0
        if found.undecided:
            return 0
        batches.change(db, batch.id, canary_passed=True)
    return max(0, MOST_AHEAD - batches.untried(db, batch, 2 * MOST_AHEAD))


def _open_lines(
    db: Connection, batch: Batch, lines: Sequence[StoredLine], policy: StoredPolicy, now: datetime
) -> None:
    requests = {line.number: _request(batch, line) for line in lines}
    able = [(line, card) for line in lines if (card := line.card) is not None]
    charges.open_many(db, [row_of(requests[line.number], *card, policy, now) for line, card in able])
    known = adhoc_charges.by_requests(db, [line.request_key for line, _ in able])
    rows = list[LineCharge]()
    for line in lines:
        charge = known.get(line.request_key)
        row: LineCharge = {"batch": batch.id, "line": line.number, "charge": None, "why": None}
        if charge is None:
            row["why"] = "its billing key was deleted"
        elif charge.fingerprint not in requests[line.number].fingerprints():
            row["why"] = f"its request key is charge {charge.key}, asked for with other arguments"
        else:
            row["charge"] = charge.id
        rows.append(row)
    batches.keep_charges(db, rows)


def _request(batch: Batch, line: StoredLine) -> ChargeRequest:
    try:
        return ChargeRequest(
            customer_uid=line.customer_uid, money=Money(line.amount, line.currency), name=line.name,
            request_key=line.request_key, reason=batch.terms.reason, policy=batch.terms.policy,
        )  # fmt: skip
    except RuleBroken as broken:
        raise BadRequest(Code.INVALID, f"line {line.number}", str(broken)) from broken


def _stop(db: Connection, batch: Batch, why: str, now: datetime) -> int:
    event_log.enqueue_event(
        db, BatchStopped(batch=batch.key, why=why), f"{batch.key}/stopped/{now.isoformat()}", now
    )
    batches.change(db, batch.id, state=BatchState.STOPPED.value, words=why)
    return batches.hold_untried(db, batch.id, held_words(batch.key))
