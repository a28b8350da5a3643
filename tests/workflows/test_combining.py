"""Batches: many items in one piece of work, and an answer for each."""

import asyncio
import threading
from collections.abc import Sequence
from typing import TypeVar

import pytest

from worker.charging.batcher import Batcher
from worker.runtime import event_loop
from worker.runtime.background import Part

T = TypeVar("T")


def submitted(batcher: Batcher[int, T], *items: int) -> list[T | BaseException]:
    """The answers to items that are submitted at one moment."""

    async def submit_all() -> list[T | BaseException]:
        return await asyncio.gather(*(batcher.submit(item) for item in items), return_exceptions=True)

    return event_loop.submit(submit_all()).result(10)


def test_each_gets_its_own_answer() -> None:
    squares: Batcher[int, int] = Batcher(Part.CLAIMS, lambda items: [item * item for item in items], most=10)
    assert submitted(squares, *range(5)) == [0, 1, 4, 9, 16]


def test_those_who_come_meanwhile_are_one_group() -> None:
    most, groups = 8, list[int]()
    begun, go_on = threading.Event(), threading.Event()

    def work(items: Sequence[int]) -> list[int]:
        groups.append(len(items))
        begun.set()
        assert go_on.wait(10)
        return list(items)

    batcher = Batcher(Part.CLAIMS, work, most=most)
    first = event_loop.submit(batcher.submit(0))
    assert begun.wait(10)
    others = [event_loop.submit(batcher.submit(1)) for _ in range(most + 3)]
    event_loop.submit(asyncio.sleep(0)).result(10)  # after those that were submitted before it
    go_on.set()
    for future in (first, *others):
        future.result(10)
    assert groups == [1, most, 3]


def test_what_the_work_raises_is_raised_to_all_of_its_group_and_to_nobody_else() -> None:
    def work(items: Sequence[int]) -> list[int]:
        if 1 in items:
            raise LookupError("one is wrong")
        return list(items)

    batcher = Batcher(Part.CLAIMS, work, most=10)
    with pytest.raises(LookupError, match="one is wrong"):
        event_loop.submit(batcher.submit(1)).result(10)
    assert submitted(batcher, 2) == [2]


def test_work_that_answers_too_little_is_an_error_and_no_hang() -> None:
    batcher: Batcher[int, int] = Batcher(Part.CLAIMS, lambda items: [], most=10)
    (answer,) = submitted(batcher, 1)
    assert isinstance(answer, ValueError)
    assert str(answer) == "1 were asked for, and 0 were answered"
