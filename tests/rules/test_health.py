"""When due work does not move, and which starts are a crash loop."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import pytest

from schedules.operations.due_work import AccountDue, Comparison, Unopened
from schedules.operations.health import Cause, CauseCode, Observed, ProcessKind, ProcessSeen, Stop, causes

NOW = datetime(2026, 12, 1, 0, 0, tzinfo=UTC)
WORKER = ProcessSeen(
    kind=ProcessKind.WORKER, host="a", pid=1, version="1", queues=("charges",), started_at=NOW, seen_at=NOW,
    leads=False, plans=0, clock_ahead=0.0, check_seconds=0.0, obstacle=None, ended=False, started_ago=100.0,
    seconds_ago=1.0, progress_ago=1.0,
)  # fmt: skip
NONE: Mapping[str, int] = MappingProxyType({})
BEAT = replace(WORKER, kind=ProcessKind.BEAT, pid=2, queues=())


def codes(
    *accounts: AccountDue, processes: Sequence[ProcessSeen] = (WORKER, BEAT), unknown: datetime | None = None
) -> list[CauseCode]:
    return [cause.code for cause in found(*accounts, processes=processes, oldest_unknown=unknown)]


def found(
    *accounts: AccountDue, processes: Sequence[ProcessSeen] = (WORKER, BEAT), messages: Mapping[str, int] = NONE,
    **others: Any,
) -> list[Cause]:  # fmt: skip
    """The causes of an installation in which nothing else is wrong."""
    nothing: dict[str, Any] = {"stops": (), "hold_since": None, "unopened": ()}
    return causes(Observed(now=NOW, processes=processes, messages=messages, accounts=accounts, **nothing | others))


def due(many: int, seconds: float, rate: float = 50.0) -> AccountDue:
    """So many charges of an account are due, the oldest for so long."""
    oldest = NOW - timedelta(seconds=seconds)
    return AccountDue("main", many, oldest, oldest, rate, 3.0, since_by_queue={"charges": oldest})


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
    ("slot", "rate", "late"),
    [
        (-2.0, 50, False),  # slots are taken in advance
        (0.0, 50, False),
        (299.0, 50, False),
        (301.0, 50, True),
        (None, 50, True),
        (900.0, 0.001, False),  # a slot in 1000 s
    ],
)
def test_the_cap_explains_nothing_while_its_slots_are_not_taken(
    slot: float | None, rate: float, late: bool
) -> None:
    """Guard: on the 1st of the month the cap would excuse an hour in which nothing is sent."""
    many = int(3000 * rate) or 1
    found_causes = found(replace(due(many, 900, rate), last_slot_ago=slot))
    assert [cause.code for cause in found_causes] == ([CauseCode.LATE_CHARGES] if late else [])


def test_the_time_of_the_last_slot_is_not_below_zero() -> None:
    (cause,) = found(replace(due(1, 900), last_slot_ago=-2.0))
    assert cause.sentence.endswith("the last slot was taken 0 s ago")


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


FROZEN = replace(WORKER, seconds_ago=61.0, progress_ago=61.0)
OPS = replace(WORKER, pid=3, queues=("ops", "reconcile"))


def unopened(seconds: float) -> Unopened:
    """A period that is due for so long."""
    since = NOW - timedelta(seconds=seconds)
    return Unopened("main", since, "7k3v9q0m2x5c4t8b1n6w", since)


def test_due_charges_without_a_worker_that_sends_heartbeats_are_told_after_a_minute() -> None:
    """Guard: frozen workers take the messages that their broker has handed out, so that none waits in a queue."""
    (cause,) = found(due(1, 70), processes=(FROZEN, OPS, BEAT))
    assert cause.code is CauseCode.NO_WORKER
    assert "charges of account main are due" in cause.sentence
    assert "a:1 (61 s ago)" in cause.sentence
    (cause,) = found(due(1, 70), processes=(OPS, BEAT))
    assert cause.code is CauseCode.NO_WORKER
    assert cause.sentence.endswith("start `again worker --queues charges`")


def test_many_due_charges_are_no_reason_while_a_worker_sends_heartbeats_or_restarts() -> None:
    assert codes(due(150_000, 900)) == []
    assert codes(due(1, 20), processes=(FROZEN, OPS, BEAT)) == []
    stopped = replace(WORKER, ended=True, seconds_ago=110.0)
    assert codes(due(1, 200), processes=(FROZEN, stopped, OPS, BEAT)) == []
    stopped = replace(WORKER, ended=True, seconds_ago=130.0)
    assert codes(due(1, 200), processes=(FROZEN, stopped, OPS, BEAT)) == [CauseCode.NO_WORKER]


def test_a_worker_of_requested_charges_does_not_hide_that_none_takes_renewals() -> None:
    """Guard: a worker of `charges` alone never takes the messages of renewals."""
    renewal = replace(due(1, 70), since_by_queue={"charges.bulk": NOW - timedelta(seconds=70)})
    (cause,) = found(renewal, processes=(WORKER, OPS, BEAT))
    assert (cause.code, "--queues charges.bulk" in cause.sentence) == (CauseCode.NO_WORKER, True)


@pytest.mark.parametrize("stopped", ["*", "main"])
def test_a_refused_channel_is_no_failure_while_its_account_is_stopped(stopped: str) -> None:
    stop = Stop(stopped, "a fire", by_breaker=False, all_accounts=stopped == "*")
    (cause,) = found(stops=[stop], refused_channels=[("main", "kcp", NOW)])
    assert cause.code is CauseCode.STOPPED_BY_PERSON


def test_a_period_that_is_due_without_a_worker_of_its_queue_is_told_after_a_minute() -> None:
    (cause,) = found(unopened=[unopened(70)])
    assert (cause.code, "again worker --queues ops" in cause.sentence) == (CauseCode.NO_WORKER, True)
    assert found(unopened=[unopened(70)], processes=(WORKER, OPS, BEAT)) == []


def test_a_period_that_is_not_opened_names_its_account_and_subscription() -> None:
    (cause,) = found(unopened=[unopened(601)], processes=(WORKER, OPS, BEAT))
    assert cause.code is CauseCode.LATE_OPENING
    assert "account main" in cause.sentence
    assert "7k3v9q0m2x5c4t8b1n6w" in cause.sentence


@pytest.mark.parametrize("workers", [(WORKER,), (FROZEN,), ()], ids=["works", "frozen", "none"])
def test_a_stop_or_a_hold_keeps_charges_without_being_late(workers: Sequence[ProcessSeen]) -> None:
    """Guard: charges of a stopped account are not due work, however old they are, and the stop is said."""
    processes = (*workers, OPS, BEAT)
    one = Stop("main", "a fire", by_breaker=False, all_accounts=False)
    everything = Stop("*", "a fire", by_breaker=False, all_accounts=True)
    for stop in (one, everything):
        (cause,) = found(due(1000, 90_000), processes=processes, stops=[stop])
        assert (cause.code, cause.code.is_failure) == (CauseCode.STOPPED_BY_PERSON, False)
    assert [each.code for each in found(due(1000, 90_000), processes=processes, hold_since=NOW)] == [
        CauseCode.HOLD
    ]
    other = replace(one, account="other")
    loud = {each.code for each in found(due(1000, 90_000), processes=processes, stops=[other])}
    assert CauseCode.LATE_CHARGES in loud


def test_a_worker_that_stands_while_others_work_is_named_and_is_no_failure() -> None:
    standing = replace(WORKER, pid=7, progress_ago=400.0)
    (cause,) = found(processes=(standing, WORKER, BEAT), messages={"charges": 5})
    assert (cause.code, cause.code.is_failure) == (CauseCode.STUCK_WORKER, False)
    assert "a:7" in cause.sentence
    assert "a:1" not in cause.sentence
    assert found(processes=(standing, WORKER, BEAT), messages={"charges": 0}) == []


def test_workers_that_all_stand_while_their_queue_holds_messages_are_named() -> None:
    standing = [replace(WORKER, pid=pid, progress_ago=400.0) for pid in (7, 8)]
    (cause,) = found(processes=(*standing, BEAT), messages={"charges": 5})
    assert (cause.code, cause.code.is_failure) == (CauseCode.STUCK_QUEUE, True)
    assert "restart a:7, a:8" in cause.sentence


@pytest.mark.parametrize(
    ("kind", "hours", "late"),
    [("hourly", 2.9, False), ("hourly", 3.1, True), ("daily", 35, False), ("daily", 37, True)],
)
def test_a_comparison_that_is_late_is_told_and_is_no_failure(kind: str, hours: float, late: bool) -> None:
    at = NOW - timedelta(hours=hours)
    for ended_at in (at, None):  # None: it was bound then, and never compared
        told = found(comparisons=[Comparison("main", kind, ended_at, at)])
        assert [(each.code, each.code.is_failure) for each in told] == [(CauseCode.LATE_RECONCILING, False)] * late
