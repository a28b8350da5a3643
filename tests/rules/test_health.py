"""When due charges are late, and which starts are a crash loop."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from schedules.operations.health import AccountDue, CauseCode, Observed, ProcessKind, ProcessSeen, causes

NOW = datetime(2026, 12, 1, 0, 0, tzinfo=UTC)
WORKER = ProcessSeen(
    kind=ProcessKind.WORKER, host="a", pid=1, version="1", queues=("charges",), started_at=NOW, seen_at=NOW,
    leads=False, plans=0, clock_ahead=0.0, check_seconds=0.0, obstacle=None, ended=False, started_ago=100.0,
    seconds_ago=1.0, progress_ago=1.0,
)  # fmt: skip
BEAT = replace(WORKER, kind=ProcessKind.BEAT, pid=2, queues=())


def codes(
    *accounts: AccountDue, processes: Sequence[ProcessSeen] = (WORKER, BEAT), unknown: datetime | None = None
) -> list[CauseCode]:
    observed = Observed(NOW, processes, {}, (), None, accounts, None, unknown)
    return [cause.code for cause in causes(observed)]


def due(many: int, seconds: float, rate: float = 50.0) -> AccountDue:
    """So many charges of an account are due, the oldest for so long."""
    oldest = NOW - timedelta(seconds=seconds)
    return AccountDue("main", many, oldest, oldest, rate, 3.0)


@pytest.mark.parametrize(
    ("many", "seconds", "rate", "late"),
    [
        (150_000, 3000, 50, False),  # the first of the month: at 50 a second it takes 3000 s
        (150_000, 4200, 50, True),
        (30, 250, 50, False),
        (30, 310, 50, True),  # thirty that nobody takes
        (30, 310, 0.1, False),  # at a low cap they take 300 s
        (1_000_000, 290, 0, False),
        (1, 310, 0, True),  # without a cap nothing explains a wait
    ],
)
def test_charges_are_late_when_the_cap_does_not_explain_their_wait(
    many: int, seconds: float, rate: float, late: bool
) -> None:
    assert codes(due(many, seconds, rate)) == ([CauseCode.LATE_CHARGES] if late else [])


@pytest.mark.parametrize(
    ("many", "seconds", "rate", "told"),
    [
        (3, 610, 0, True),
        (3, 500, 0, False),  # the tries of a short outage
        (30_000, 1300, 50, False),  # at 50 a second they take 600 s
        (30_000, 1400, 50, True),
    ],
)
def test_charges_that_are_tried_and_never_sent_are_told_though_none_is_due(
    many: int, seconds: float, rate: float, told: bool
) -> None:
    """The next try of each is always to come, so that none of them is ever late."""
    unsent = AccountDue("main", 0, None, None, rate, None, many, NOW - timedelta(seconds=seconds))
    assert codes(unsent) == ([CauseCode.UNSENT_CHARGES] if told else [])


@pytest.mark.parametrize(("minutes", "told"), [(59, False), (61, True)])
def test_an_attempt_that_is_unknown_for_an_hour_is_told(minutes: int, told: bool) -> None:
    since = NOW - timedelta(minutes=minutes)
    assert codes(unknown=since) == ([CauseCode.OLD_UNKNOWN] if told else [])


def test_each_account_is_judged_by_its_own_cap() -> None:
    slow = replace(due(100, 1000, 0.1), account="slow")
    assert codes(due(100, 1000), slow) == [CauseCode.LATE_CHARGES]


def test_a_process_is_seen_crashing_when_it_dies_without_a_successor() -> None:
    dead = replace(WORKER, seconds_ago=70.0)
    starts = [replace(dead, pid=pid) for pid in (11, 12, 13)]
    assert codes(processes=(*starts, WORKER, BEAT)) == [CauseCode.CRASH_LOOP]
    assert codes(processes=(*starts[:2], WORKER, BEAT)) == []


def test_workers_that_died_of_different_programs_or_long_ago_are_no_crash_loop() -> None:
    dead = replace(WORKER, seconds_ago=70.0)
    hosts = [replace(dead, pid=pid, host=f"host{pid}") for pid in (11, 12, 13)]
    old = [replace(dead, pid=pid, started_ago=1300.0) for pid in (21, 22, 23)]
    assert codes(processes=(*hosts, *old, WORKER, BEAT)) == []


def test_eight_workers_that_a_release_started_are_no_crash_loop() -> None:
    assert codes(processes=(*(replace(WORKER, pid=pid) for pid in range(8)), BEAT)) == []


def same_pid(started_ago: float, seconds_ago: float) -> ProcessSeen:
    """A worker with the host's name and process id 1, as a container in its host's network has."""
    started, seen = (NOW - timedelta(seconds=ago) for ago in (started_ago, seconds_ago))
    return replace(
        WORKER, started_at=started, seen_at=seen, started_ago=started_ago, seconds_ago=seconds_ago,
    )  # fmt: skip


def test_live_workers_with_one_host_name_and_process_id_are_no_crash_loop() -> None:
    live = [same_pid(started_ago, 5.0) for started_ago in (110, 108, 106, 104)]
    assert codes(processes=(*live, BEAT)) == []
    # The newest started after the last heartbeat of the others, which run.
    starting = [same_pid(started_ago, started_ago) for started_ago in (9, 8, 7, 6)]
    assert codes(processes=(*starting, BEAT)) == []


def test_workers_that_died_and_were_replaced_under_their_process_id_are_a_crash_loop() -> None:
    died = [same_pid(started_ago, started_ago - 5) for started_ago in (65, 55, 45)]
    assert codes(processes=(*died, same_pid(20, 1), BEAT)) == [CauseCode.CRASH_LOOP]
