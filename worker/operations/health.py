"""The state of an installation, and every cause for which it does not work as it should."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from schedules.dunning.decisions import TECHNICAL_DELAYS
from schedules.operations.due_work import COMPARED_WITHIN, AccountDue, Comparison, Unopened
from schedules.operations.health import Cause, CauseCode, Observed, ProcessSeen, Stop, causes
from schedules.operations.queues import BULK, CHARGES
from worker.charging import circuit_breaker
from worker.services import Services, clock_is_right
from worker.store import failures
from worker.store.charging import attempts, kill_switch, waits
from worker.store.charging.kill_switch import Hold, Stopped
from worker.store.engine import allow_briefly
from worker.store.operations import dead_letters, processes
from worker.store.operations import health as rows
from worker.store.outbox import deliveries
from worker.store.reconciliation import findings

LOCKED = "55P03"
TIMED_OUT = "57014"
DISK_FULL = "53100"
READ_ONLY = "25006"
WAITING = ("due", "in_flight", "waits_for_card", "held", "refused", "unknown", "dead_events")
T = TypeVar("T")


@dataclass(slots=True)
class Health:
    """The observed state, and the causes of faults."""

    processes: list[ProcessSeen] = field(default_factory=list)
    stops: Sequence[Stopped] = ()
    hold: Hold | None = None
    counts: dict[str, int | None] = field(default_factory=dict)
    accounts: Sequence[AccountDue] = ()
    unopened: Sequence[Unopened] = ()
    comparisons: Sequence[Comparison] = ()
    causes: list[Cause] = field(default_factory=list)

    @property
    def is_healthy(self) -> bool:
        """Whether no cause is a failure."""
        return not any(cause.code.is_failure for cause in self.causes)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """What waits in the large tables."""

    counts: Mapping[str, int] = field(default_factory=dict)
    accounts: Sequence[AccountDue] = ()
    unopened: Sequence[Unopened] = ()
    oldest_unknown: datetime | None = None
    refused_channels: Sequence[tuple[str, str, datetime]] = ()


def examine(services: Services, messages: Mapping[str, int]) -> Health:
    """Examine the installation, each part within seconds.

    `messages` is the number of waiting messages by queue.
    """
    found = Health(counts=dict.fromkeys(WAITING))
    now = services.clock.now()
    if not _read(services, found, lambda db: _read_small(services, db, found)):
        return found
    waiting = _read(services, found, lambda db: _read_waiting(services, db, now)) or _Waiting()
    found.counts |= waiting.counts
    found.accounts, found.unopened = waiting.accounts, waiting.unopened
    found.comparisons = _read(services, found, lambda db: _comparisons(services, db, now)) or ()
    found.causes += causes(
        Observed(
            now=now,
            processes=found.processes,
            messages=messages,
            stops=[_stop(stopped) for stopped in found.stops],
            hold_since=found.hold.since if found.hold is not None else None,
            accounts=waiting.accounts,
            unopened=waiting.unopened,
            oldest_unknown=waiting.oldest_unknown,
            refused_channels=waiting.refused_channels,
            comparisons=found.comparisons,
        )
    )
    found.causes += _probe_writes(services)
    return found


def _read_small(services: Services, db: Connection, found: Health) -> bool:
    """Read the small tables. They are read first, because a large one may be locked."""
    found.processes = processes.seen(db)
    found.stops = kill_switch.stopped(db)
    found.hold = kill_switch.hold(db)
    found.counts |= {"findings": sum(findings.open_counts(db).values()), "dead_letters": dead_letters.total(db)}
    if not clock_is_right(services, db):
        ahead = services.clock_check.ahead.total_seconds()
        found.causes.append(Cause(CauseCode.WRONG_CLOCK, f"the clock of this machine is {ahead:+.0f} s from the "
                                  "database's; set it right"))  # fmt: skip
    return True


def _read_waiting(services: Services, db: Connection, now: datetime) -> _Waiting:
    released = rows.released_at(db)
    due = rows.due(db, services.account_names, now)
    unsent = rows.unsent(db, now + TECHNICAL_DELAYS[-1])  # a later attempt waits for another reason
    return _Waiting(
        counts=waits.waiting(db, now)
        | {"unknown": attempts.unknown_count(db), "dead_events": deliveries.dead_count(db)},
        accounts=[_account_due(services, its, unsent.get(its.account), released) for its in due],
        unopened=rows.unopened(db, now),
        oldest_unknown=rows.oldest_unknown(db),
        refused_channels=_refused_channels(services, db, now),
    )


def _refused_channels(services: Services, db: Connection, now: datetime) -> list[tuple[str, str, datetime]]:
    enough = services.settings.breaker_refusals
    return [
        (account, str(channel), first)
        for account in services.account_names
        for channel, first in circuit_breaker.channels_that_refuse(db, account, enough, now)
    ]


def _account_due(
    services: Services, its: rows.Due, unsent: tuple[int, datetime] | None, released: datetime | None
) -> AccountDue:
    many, oldest_unsent = unsent or (0, None)
    return AccountDue(
        its.account,
        its.due,
        its.oldest,
        _could_leave(its.oldest, its.counted_from, released),
        services.account(its.account).rate,
        its.last_slot_ago,
        many,
        _could_leave(oldest_unsent, its.counted_from, released),
        its.oldest_key,
        {
            queue: since
            for queue, oldest in ((CHARGES, its.oldest_requested), (BULK, its.oldest_renewal))
            if (since := _could_leave(oldest, its.counted_from, released)) is not None
        },
    )


def _comparisons(services: Services, db: Connection, now: datetime) -> list[Comparison]:
    """The last comparison of each account; one that was never compared could have been since it was bound."""
    bound = rows.released_at(db) or now
    compared = rows.compared(db, services.account_names, COMPARED_WITHIN)
    return [Comparison(account, kind, ended_at, ended_at or bound) for account, kind, ended_at in compared]


def _could_leave(oldest: datetime | None, *released: datetime | None) -> datetime | None:
    """Since when the oldest charge could be sent; time in a stop or a hold does not count."""
    return None if oldest is None else max(at for at in (oldest, *released) if at is not None)


def _stop(stopped: Stopped) -> Stop:
    everything = stopped.account == kill_switch.ALL_ACCOUNTS
    return Stop(stopped.account, stopped.why, stopped.actor == kill_switch.BREAKER, everything)


def _read(services: Services, found: Health, read: Callable[[Connection], T]) -> T | None:
    """Read one part; None when a lock or a slow database prevents it, which is recorded as a cause."""
    try:
        with services.engine.begin() as db:
            allow_briefly(db)
            return read(db)
    except failures.DATABASE_ERRORS as error:
        found.causes.append(database_cause(error))
        return None


def _probe_writes(services: Services) -> list[Cause]:
    try:
        with services.engine.begin() as db:
            allow_briefly(db)
            rows.write_blocks(db)
    except failures.DATABASE_ERRORS as error:
        return [database_cause(error, writing=True)]
    return []


def database_cause(error: BaseException, *, writing: bool = False) -> Cause:
    """The cause for a database error. `writing`: the error came from the probe of writes."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    state = getattr(cause, "sqlstate", None)
    words = str(cause).partition("\n")[0]
    match state:
        case _ if state == LOCKED:
            return Cause(CauseCode.DATABASE_LOCKED, f"a table is locked, so not all could be read: {words}")
        case _ if state == TIMED_OUT:
            return Cause(CauseCode.DATABASE_SLOW, f"the database takes more than seconds to answer: {words}")
        case _ if state == DISK_FULL:
            return Cause(CauseCode.DATABASE_REFUSES_WRITES, f"the database's disk is full: {words}")
        case _ if state == READ_ONLY:
            return Cause(CauseCode.DATABASE_REFUSES_WRITES, f"the database is read-only: {words}")
        case _ if writing and state is not None:
            return Cause(CauseCode.DATABASE_REFUSES_WRITES, f"the database cannot be written: {words}")
        case _:
            return Cause(CauseCode.DATABASE_AWAY, f"the database does not answer: {words}")
