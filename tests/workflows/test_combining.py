"""Combining: one piece of work for many threads, and an answer for each."""

import threading
from collections.abc import Sequence

import pytest

from worker.charging.batcher import Batcher
from worker.charging.executor import UnderWay
from worker.runtime.background import Part


def test_each_gets_its_own_answer() -> None:
    squares: Batcher[int, int] = Batcher(Part.CLAIMS, lambda items: [item * item for item in items], most=10)
    assert [squares.submit_and_wait(item) for item in range(5)] == [0, 1, 4, 9, 16]


def test_those_who_come_meanwhile_are_one_group() -> None:
    most, groups = 8, list[int]()
    begun, go_on = threading.Event(), threading.Event()

    def work(items: Sequence[int]) -> list[int]:
        groups.append(len(items))
        begun.set()
        assert go_on.wait(10)
        return list(items)

    batcher = Batcher(Part.CLAIMS, work, most=most)
    wanted = UnderWay()
    for number in range(most + 4):
        wanted.more(1)
        batcher.submit(number, lambda answer, error: wanted.over())
        assert begun.wait(10)
    go_on.set()
    wanted.wait()
    assert groups == [1, most, 3]


def test_what_the_work_raises_is_raised_to_all_of_its_group_and_to_nobody_else() -> None:
    def work(items: Sequence[int]) -> list[int]:
        if 1 in items:
            raise LookupError("one is wrong")
        return list(items)

    batcher = Batcher(Part.CLAIMS, work, most=10)
    with pytest.raises(LookupError, match="one is wrong"):
        batcher.submit_and_wait(1)
    assert batcher.submit_and_wait(2) == 2


def test_work_that_answers_too_little_is_an_error_and_no_hang() -> None:
    batcher: Batcher[int, int] = Batcher(Part.CLAIMS, lambda items: [], most=10)
    with pytest.raises(ValueError, match="1 were asked for, and 0 were answered"):
        batcher.submit_and_wait(1)


def test_what_follows_an_answer_may_fail_and_nobody_else_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("worker.charging.batcher.log.exception", said.append)
    batcher: Batcher[int, int] = Batcher(Part.CLAIMS, lambda items: list(items), most=10)

    def fail(answer: int | None, error: BaseException | None) -> None:
        raise RuntimeError("a fault of ours")

    batcher.submit(1, fail)
    assert batcher.submit_and_wait(2) == 2
    assert said == ["what follows an answer failed"]
