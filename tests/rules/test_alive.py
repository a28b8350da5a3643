"""When `again alive` calls a process unhealthy: what only a new start of this very process would mend."""

from dataclasses import replace

import pytest

from schedules.operations.alive import AliveRecord, fault, state
from schedules.operations.health import SILENT_AFTER, STUCK_AFTER

NOW = 10_000.0
WELL = AliveRecord("worker", 7, written_at=NOW, looped_at=NOW, waits_for=None, idle=0, obstacle=None)


def test_a_process_that_records_and_loops_works() -> None:
    assert fault(WELL, NOW) is None
    assert fault(WELL, NOW + SILENT_AFTER - 1) is None
    assert state(WELL, NOW + 2) == "worker (process 7) runs; its main loop began a round 2 s ago"


@pytest.mark.parametrize(
    "silent", [SILENT_AFTER, 3600.0, -1.0], ids=["at once", "long", "before a restart of the machine"]
)
def test_a_process_that_records_nothing_hangs(silent: float) -> None:
    assert "recorded nothing" in str(fault(WELL, NOW + silent))


def test_a_main_loop_that_stands_still_is_a_fault_unless_it_waits_for_something_outside() -> None:
    stands = replace(WELL, looped_at=NOW - STUCK_AFTER)
    assert "stood still for 300 s" in str(fault(stands, NOW))
    waits = replace(stands, waits_for="the broker")
    assert fault(waits, NOW) is None
    assert state(waits, NOW) == "worker (process 7) runs, and waits for the broker"


def test_unfinished_messages_are_a_fault_unless_an_obstacle_explains_them() -> None:
    stuck = replace(WELL, idle=STUCK_AFTER)
    assert "finished none for 300 s" in str(fault(stuck, NOW))
    explained = replace(stuck, obstacle="the database does not answer")
    assert fault(explained, NOW) is None
    assert state(explained, NOW).endswith("takes no charges: the database does not answer")
