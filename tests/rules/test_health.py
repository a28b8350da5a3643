"""When due charges are late, and which starts are a crash loop."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from schedules.health import AccountDue, CauseCode, Observed, ProcessKind, ProcessSeen, causes

NOW = datetime(2026, 12, 1, 0, 0, tzinfo=UTC)
WORKER = ProcessSeen(
    kind=ProcessKind.WORKER, host="a", pid=1, version="1", queues=("charges",), started_at=NOW, seen_at=NOW,
    leads=False, plans=0, clock_ahead=0.0, check_seconds=0.0, obstacle=None, ended=False, started_ago=100.0,
    seconds_ago=1.0, progress_ago=1.0,
)  # fmt: skip
BEAT = replace(WORKER, kind=ProcessKind.BEAT, pid=2, queues=())


def codes(*accounts: AccountDue, processes: Sequence[ProcessSeen] = (WORKER, BEAT)) -> list[CauseCode]:
    observed = Observed(NOW, processes, {}, (), None, accounts, None)
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
