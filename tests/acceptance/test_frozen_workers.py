"""Workers that are frozen while work is due: `again status --healthy` fails and names them, except in a stop."""

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from schedules.operations.health import GONE_AFTER, CauseCode
from tests.acceptance.again import again
from tests.installation import Installation, installed
from worker.clock import wait_until
from worker.store.operations import processes

pytestmark = pytest.mark.timeout(900)
SOON = 300.0  # seconds; it takes GONE_AFTER and two heartbeats on an idle machine


@contextmanager
def frozen(shop: Installation, prefix: str) -> Iterator[list[int]]:
    """Freeze the processes with this prefix of their names; they go on afterwards."""
    with ExitStack() as undo:
        pids = []
        for name in shop.standing.names():
            if name.startswith(prefix):
                (process,) = shop.standing.children(name)
                process.send_signal(signal.SIGSTOP)
                undo.callback(process.send_signal, signal.SIGCONT)
                pids.append(process.pid)
        yield pids


def status(shop: Installation) -> tuple[int, dict[str, Any]]:
    """What `again status --healthy` exits with, and its causes by code."""
    done = again("status", "--healthy", "--json", settings=shop.settings)
    return done.returncode, {cause["code"]: cause["sentence"] for cause in json.loads(done.stdout)["causes"]}


def are_silent(shop: Installation, pids: list[int]) -> bool:
    with shop.services.engine.begin() as db:
        return all(each.seconds_ago > GONE_AFTER + 20 for each in processes.seen(db) if each.pid in pids)


def test_frozen_workers_with_work_due_are_a_named_failure_unless_charging_is_stopped() -> None:
    """Guard: workers that hang take the messages that were handed out to them, so that none waits in a queue."""
    with installed() as shop:
        assert wait_until(lambda: status(shop)[0] == 0, SOON, every=1)
        with frozen(shop, "worker") as pids:
            first = shop.customer("ann", "now")
            assert wait_until(lambda: CauseCode.NO_WORKER in status(shop)[1], SOON, every=1)
            code, causes = status(shop)
            assert code == 1
            assert "again worker --queues ops" in causes[CauseCode.NO_WORKER]
            assert any(f":{pid} " in causes[CauseCode.NO_WORKER] for pid in pids)
        shop.wait_for(first, "paid", SOON)
        assert wait_until(lambda: status(shop)[0] == 0, SOON, every=1)
        shop.told("stop-charging", "--why", "a test")
        with frozen(shop, "worker-charges") as pids:
            assert len(pids) == 2
            second = shop.customer("bob", "now")
            assert wait_until(lambda: shop.charge(second) is not None, SOON)
            assert wait_until(lambda: are_silent(shop, pids), SOON)
            code, causes = status(shop)
            assert (code, CauseCode.STOPPED_BY_PERSON in causes, CauseCode.NO_WORKER in causes) == (0, True, False)
        shop.told("resume-charging", "--why", "a test")
        shop.wait_for(second, "paid", SOON)
