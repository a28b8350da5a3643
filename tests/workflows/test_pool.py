"""Pools: a bounded number of threads, each result or error for whoever asked."""

import gc
import threading

import pytest

from worker.clock import wait_until
from worker.runtime.background import Closed, Part, Pool


def running(part: Part) -> int:
    """How many threads of this name run."""
    return [thread.name for thread in threading.enumerate()].count(part)


def test_no_more_threads_are_started_than_are_allowed_or_needed() -> None:
    pool = Pool(Part.NOTICES, 3)
    go_on = threading.Event()
    assert pool.submit(lambda: 1).result(10) == 1
    assert wait_until(lambda: running(Part.NOTICES) == 1, 20)
    waiting = [pool.submit(lambda: go_on.wait(30)) for _ in range(6)]
    assert wait_until(lambda: running(Part.NOTICES) == 3, 20)
    go_on.set()
    assert all(future.result(10) for future in waiting)
    assert running(Part.NOTICES) == 3
    pool.close()
    assert wait_until(lambda: running(Part.NOTICES) == 0, 20)


def test_what_the_work_raises_is_raised_to_who_asked() -> None:
    pool = Pool(Part.NOTICES, 1)
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda: 1 / 0).result(10)
    assert pool.submit(lambda: 2).result(10) == 2
    pool.close()


def test_work_whose_result_is_no_longer_wanted_is_left_out() -> None:
    """Guard: a result for a future that was canceled would end the thread, and with it the process."""
    pool = Pool(Part.NOTICES, 1)
    go_on = threading.Event()
    first = pool.submit(lambda: go_on.wait(30))
    second = pool.submit(lambda: 2)
    assert second.cancel()
    go_on.set()
    assert first.result(10)
    assert pool.submit(lambda: 3).result(10) == 3
    pool.close()


def test_a_closed_pool_takes_no_work() -> None:
    pool = Pool(Part.NOTICES, 1)
    pool.close()
    with pytest.raises(Closed):
        pool.execute(lambda: None)


def test_the_threads_of_a_pool_that_nobody_has_any_more_end() -> None:
    pool = Pool(Part.NOTICES, 2)
    pool.start()
    assert wait_until(lambda: running(Part.NOTICES) == 2, 20)
    del pool
    gc.collect()
    assert wait_until(lambda: running(Part.NOTICES) == 0, 20)
