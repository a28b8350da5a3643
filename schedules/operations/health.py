"""Health: the causes of an unhealthy installation, and the rules that find them in observations."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from schedules.operations.due_work import AccountDue, Comparison, Unopened
from schedules.operations.queues import OPS

UNKNOWN_AFTER = timedelta(hours=1)  # three quiet times; a gateway that answers resolves it much earlier
UNOPENED_AFTER = 600.0  # seconds after its due time until which a period must be opened
STUCK_AFTER = 300.0  # seconds without progress; a call and a slice of long work each take less
CRASHES_WITHIN = 1200.0  # seconds within which starts are counted
CRASH_LOOP = 3  # starts that ended without a stop signal
# A larger clock error makes leases, quiet times and due times wrong; NTP keeps clocks within a second.
MOST_SKEW = timedelta(seconds=10)
SLOW_CHECK = 0.1  # seconds of a pre-send check that mean fewer calls
BROKEN_CHECK = 1.0  # seconds; more than the distance between worker and database can cause
FIX_CHANNEL = (
    "fix the channel at PortOne or the PG, then for each charge `again release KEY`, or `again release --refused` "
    "for all accounts"
)
MOST_NAMED = 4  # silent workers in one sentence
SILENT_AFTER = 30.0  # seconds within which a running process sends a heartbeat
RESTART = 120.0  # seconds after an orderly end within which its successor starts, as in an upgrade
GONE_AFTER = 60.0  # seconds without a heartbeat; a process sends one every ten, a slow beat every 25


class ProcessKind(StrEnum):
    """The programs that send heartbeats."""

    BEAT = "beat"
    LISTENER = "listener"
    WORKER = "worker"


@dataclass(frozen=True, slots=True)
class ProcessSeen:
    """One start of a process, from its heartbeats; ages in seconds."""

    kind: str
    host: str
    pid: int
    version: str
    queues: Sequence[str]
    started_at: datetime
    seen_at: datetime
    leads: bool
    plans: int  # plans that a beat schedules
    clock_ahead: float  # seconds that its machine's clock is ahead of the database's
    check_seconds: float  # seconds of a pre-send check; 0 without recent ones
    obstacle: str | None  # why it does not act on this database
    ended: bool  # it stopped after a stop signal
    started_ago: float
    seconds_ago: float  # since its last heartbeat
    progress_ago: float  # since it last finished a message, check or tick

    @property
    def name(self) -> str:
        """Host and process id."""
        return f"{self.host}:{self.pid}"

    @property
    def is_alive(self) -> bool:
        """Whether it has not stopped, and sends heartbeats."""
        return not self.ended and self.seconds_ago < GONE_AFTER

    @property
    def is_silent(self) -> bool:
        """Whether it has sent no heartbeat for longer than a running process may, and was not stopped."""
        return not self.ended and self.seconds_ago >= SILENT_AFTER

    @property
    def stands(self) -> bool:
        """Whether it sends heartbeats and finishes nothing, although it may work."""
        return self.is_alive and self.obstacle is None and self.progress_ago > STUCK_AFTER


class CauseCode(StrEnum):
    """The causes of an unhealthy installation, and warnings. The runbook has a section for each."""

    DATABASE_AWAY = "database_away"
    DATABASE_LOCKED = "database_locked"
    DATABASE_SLOW = "database_slow"
    DATABASE_REFUSES_WRITES = "database_refuses_writes"
    BROKER_AWAY = "broker_away"
    BROKER_REFUSES_WRITES = "broker_refuses_writes"
    WRONG_REVISION = "wrong_revision"
    WRONG_PLACE = "wrong_place"
    WRONG_ACCOUNT = "wrong_account"
    WRONG_CLOCK = "wrong_clock"
    OBSTACLE = "obstacle"
    HOLD = "hold"
    STOPPED_BY_BREAKER = "stopped_by_breaker"
    CHANNEL_REFUSED = "channel_refused"
    STOPPED_BY_PERSON = "stopped_by_person"
    NO_BEAT = "no_beat"
    CRASH_LOOP = "crash_loop"
    NO_WORKER = "no_worker"
    UNREAD_QUEUE = "unread_queue"
    STUCK_WORKER = "stuck_worker"
    STUCK_QUEUE = "stuck_queue"
    LATE_CHARGES = "late_charges"
    UNSENT_CHARGES = "unsent_charges"
    OLD_UNKNOWN = "old_unknown"
    LATE_OPENING = "late_opening"
    LATE_RECONCILING = "late_reconciling"
    SLOW_CHECKS = "slow_checks"

    @property
    def is_failure(self) -> bool:
        """Whether `again status --healthy` fails for it.

        It fails when due work does not move. A person's stop is intended; slow checks and a worker that stands
        beside others only reduce the calls; and charging goes on while the comparison is late. These are reported
        and are no failures. When the calls are too few, LATE_CHARGES fails.
        """
        return self not in _NOTICES


_NOTICES = frozenset(
    (CauseCode.STOPPED_BY_PERSON, CauseCode.SLOW_CHECKS, CauseCode.STUCK_WORKER, CauseCode.LATE_RECONCILING)
)


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause, described in one sentence."""

    code: CauseCode
    sentence: str


@dataclass(frozen=True, slots=True)
class Stop:
    """A stop of an account's charging, or of all."""

    account: str
    why: str
    by_breaker: bool
    all_accounts: bool


@dataclass(frozen=True, slots=True)
class Observed:
    """The observations of one moment."""

    now: datetime
    processes: Sequence[ProcessSeen]
    messages: Mapping[str, int]  # waiting messages of each queue; empty when the broker is unreachable
    stops: Sequence[Stop]
    hold_since: datetime | None
    accounts: Sequence[AccountDue]
    unopened: Sequence[Unopened]
    oldest_unknown: datetime | None = None  # start of the oldest attempt whose outcome is unknown
    refused_channels: Sequence[tuple[str, str, datetime]] = ()  # account, channel, start of the failures
    comparisons: Sequence[Comparison] = ()

    def may_charge(self, account: str) -> bool:
        """Whether neither a stop nor a hold keeps the account's charges."""
        return self.hold_since is None and not any(
            stop.all_accounts or stop.account == account for stop in self.stops
        )


def causes(observed: Observed) -> list[Cause]:
    """Return every cause that the observations show."""
    return [
        *_stops(observed),
        *_processes(observed),
        *_unserved(observed),
        *_queues(observed),
        *_late(observed),
    ]


def _stops(observed: Observed) -> Iterator[Cause]:
    if observed.hold_since is not None:
        yield Cause(
            CauseCode.HOLD,
            f"on hold since {_instant(observed.hold_since)}, until all that was paid is known; it ends by itself",
        )
    for stop in observed.stops:
        whose = "all accounts" if stop.all_accounts else f"account {stop.account}"
        if stop.by_breaker:
            yield Cause(CauseCode.STOPPED_BY_BREAKER, f"the breaker stopped charging for {whose}: {stop.why}")
        else:
            yield Cause(CauseCode.STOPPED_BY_PERSON, f"a person stopped charging for {whose}: {stop.why}")


def _processes(observed: Observed) -> Iterator[Cause]:
    alive = [process for process in observed.processes if process.is_alive]
    if not any(process.kind == ProcessKind.BEAT for process in alive):
        yield Cause(
            CauseCode.NO_BEAT,
            f"no beat was seen in the last {GONE_AFTER:.0f} seconds; start one with `again beat`",
        )
    for process in alive:
        if abs(process.clock_ahead) > MOST_SKEW.total_seconds():
            yield Cause(
                CauseCode.WRONG_CLOCK,
                f"the clock of {process.kind} {process.name} is {process.clock_ahead:+.0f} s from the database's; "
                "set it right",
            )
        elif process.obstacle is not None:
            yield Cause(CauseCode.OBSTACLE, f"{process.kind} {process.name} does nothing: {process.obstacle}")
        if process.check_seconds > BROKEN_CHECK:
            yield Cause(
                CauseCode.DATABASE_SLOW,
                f"a pre-send check takes {process.check_seconds:.2f} s in {process.name}; milliseconds are usual",
            )
        elif process.check_seconds > SLOW_CHECK:
            yield Cause(
                CauseCode.SLOW_CHECKS,
                f"a pre-send check takes {process.check_seconds:.2f} s in {process.name}: fewer calls are sent",
            )
    yield from _crash_loops(observed.processes)


def _crash_loops(processes: Sequence[ProcessSeen]) -> Iterator[Cause]:
    """Programs that started several times lately and ended each time without a stop signal."""
    newest = {(process.host, process.pid): process for process in processes}
    # Containers in their host's network share its name, and may all have process id 1. A heartbeat after the newer
    # one's start tells that the earlier one runs; shortly after that start, none may have been due yet.
    died: dict[tuple[str, str, tuple[str, ...]], int] = {}
    for process in processes:
        replaced = process.seen_at < newest[process.host, process.pid].started_at
        is_gone = process.seconds_ago >= (SILENT_AFTER if replaced else GONE_AFTER)
        if not process.ended and is_gone and process.started_ago < CRASHES_WITHIN:
            program = (process.kind, process.host, tuple(process.queues))
            died[program] = died.get(program, 0) + 1
    for (kind, host, queues), times in died.items():
        if times >= CRASH_LOOP:
            of = f" of {', '.join(queues)}" if queues else ""
            yield Cause(
                CauseCode.CRASH_LOOP,
                f"a {kind}{of} on {host} started and ended by itself {times} times within "
                f"{CRASHES_WITHIN / 60:.0f} minutes; its log says why",
            )


def _unserved(observed: Observed) -> Iterator[Cause]:
    """Work that is due while no worker of its queue sends heartbeats: all hang or were killed, or none ran."""
    late: dict[str, list[str]] = {}  # accounts with a charge that waits in a queue
    for its in observed.accounts:
        for queue, since in its.since_by_queue.items():
            if observed.may_charge(its.account) and _seconds(observed.now, since) > GONE_AFTER:
                late.setdefault(queue, []).append(its.account)
    for queue, accounts in late.items():
        due = f"charges of account {' and '.join(accounts)} are due"
        yield from _without_worker(observed.processes, queue, due)
    if any(_seconds(observed.now, each.since) > GONE_AFTER for each in observed.unopened):
        yield from _without_worker(observed.processes, OPS, "a period is due and not opened")


def _without_worker(processes: Sequence[ProcessSeen], queue: str, because: str) -> Iterator[Cause]:
    workers = [each for each in processes if queue in each.queues]
    # The successor of one that was stopped in good order is starting.
    if any(each.seconds_ago < (RESTART if each.ended else GONE_AFTER) for each in workers):
        return
    start = f"start `again worker --queues {queue}`"
    newest = sorted((each for each in workers if each.is_silent), key=lambda each: each.seconds_ago)[:MOST_NAMED]
    silent = [f"{each.name} ({each.seconds_ago:.0f} s ago)" for each in newest]
    if silent:
        them = f"the last heartbeats came from {', '.join(silent)}: restart what hangs there, or {start}"
    else:
        them = start
    yield Cause(
        CauseCode.NO_WORKER,
        f"{because}, and no worker of {queue} has sent a heartbeat for {GONE_AFTER:.0f} seconds; {them}",
    )


def _queues(observed: Observed) -> Iterator[Cause]:
    standing: dict[str, ProcessSeen] = {}  # workers that stand beside others, by name
    for queue, messages in observed.messages.items():
        if not messages:
            continue
        readers = [each for each in observed.processes if each.is_alive and queue in each.queues]
        stuck = [each for each in readers if each.stands]
        if not readers:
            yield Cause(
                CauseCode.UNREAD_QUEUE,
                f"{messages} messages wait in queue {queue}, and no worker takes them; start "
                f"`again worker --queues {queue}`",
            )
        elif len(stuck) == len(readers):
            idle = min(each.progress_ago for each in stuck)
            yield Cause(
                CauseCode.STUCK_QUEUE,
                f"{messages} messages wait in queue {queue}, and its workers have finished none for "
                f"{idle / 60:.0f} minutes: restart {', '.join(each.name for each in stuck)}",
            )
        else:
            standing |= {each.name: each for each in stuck}
    for name, each in standing.items():
        yield Cause(
            CauseCode.STUCK_WORKER,
            f"worker {name} sends heartbeats and has finished nothing for {each.progress_ago / 60:.0f} minutes, "
            f"while messages wait in its queues ({', '.join(each.queues)}) and other workers take them; "
            "restart it",
        )


def _late(observed: Observed) -> Iterator[Cause]:
    for its in observed.accounts:
        if observed.may_charge(its.account):
            yield from _late_of(its, observed.now)
    for account, channel, since in observed.refused_channels:
        if observed.may_charge(account):
            yield Cause(
                CauseCode.CHANNEL_REFUSED,
                f"channel {channel} of account {account} has refused all calls since {_instant(since)}; "
                f"{FIX_CHANNEL}",
            )
    unknown = observed.oldest_unknown
    if unknown is not None and observed.now - unknown > UNKNOWN_AFTER:
        yield Cause(
            CauseCode.OLD_UNKNOWN,
            f"an attempt that began at {_instant(unknown)} has an unknown outcome; `again unknown` lists them",
        )
    for period in observed.unopened:
        if _seconds(observed.now, period.since) > UNOPENED_AFTER:
            yield Cause(
                CauseCode.LATE_OPENING,
                f"a period of account {period.account} that was due at {_instant(period.due_at)} is not opened "
                f"(subscription {period.subscription}): see beat and the workers of {OPS}",
            )
    for each in observed.comparisons:
        if each.is_late(observed.now):
            last = f"ended at {_instant(each.ended_at)}" if each.ended_at else "has not ended yet"
            yield Cause(
                CauseCode.LATE_RECONCILING,
                f"the last {each.kind} comparison of account {each.account} {last}; see beat and the log of the "
                "workers of reconcile",
            )


def _late_of(its: AccountDue, now: datetime) -> Iterator[Cause]:
    """What is late of an account whose charges may leave."""
    if its.since is not None and its.oldest is not None and _seconds(now, its.since) > its.explained:
        cap = f"at {its.rate:g} a second they take {its.due / its.rate:.0f} s" if its.rate else "there is no cap"
        ago = its.last_slot_ago  # below zero while slots are taken in advance
        slot = "" if ago is None else f"; the last slot was taken {max(0, ago):.0f} s ago"
        yield Cause(
            CauseCode.LATE_CHARGES,
            f"{its.due} charges of account {its.account} are due, the oldest since {_instant(its.oldest)}"
            f"{_key(its.oldest_key)}; {cap}{slot}",
        )
    if its.unsent_since is not None and _seconds(now, its.unsent_since) > its.unsent_explained:
        yield Cause(
            CauseCode.UNSENT_CHARGES,
            f"{its.unsent} charges of account {its.account} were tried and could not be sent, the oldest since "
            f"{_instant(its.unsent_since)}; `again show KEY` says why",
        )


def _seconds(now: datetime, since: datetime) -> float:
    return (now - since).total_seconds()


def _key(key: str | None) -> str:
    return f" ({key})" if key else ""


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}Z"
