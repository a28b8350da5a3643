"""Combining: what many threads want of the database at one moment is asked for once, for all of them.

A transaction costs nearly the same for one row and for fifty. Whoever comes alone is served at once, alone; where
threads come in crowds, the next group gathers for some milliseconds, so that it is one and not many.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Generic, TypeVar

from worker.clock import wait
from worker.runtime import background
from worker.runtime.background import Part

log = logging.getLogger("again.combining")
CROWD = 2  # wishes; from a group of so many on, gathering saves more than it costs those who wait

T = TypeVar("T")
R = TypeVar("R")
Follow = Callable[[R | None, BaseException | None], None]


class Answer(Generic[R]):
    """An answer that one thread waits for."""

    __slots__ = ("_answer", "_come", "_error")

    def __init__(self) -> None:
        self._answer: R | None = None
        self._error: BaseException | None = None
        self._come = threading.Lock()  # the lightest thing that a thread can wait for
        self._come.acquire()

    def __call__(self, answer: R | None, error: BaseException | None) -> None:
        self._answer, self._error = answer, error
        self._come.release()

    def get(self) -> R:
        """Wait for it; raises what was raised instead."""
        self._come.acquire()
        if self._error is not None:
            raise self._error
        return self._answer  # type: ignore[return-value]  # there is one where there is no error


class Combiner(Generic[T, R]):
    """Does `work`, on a thread of its own, for what several threads ask for at once; each gets its own answer.

    `work` answers in the order of what it is given. What it raises is raised to everybody in its group: it has
    then done nothing, or what it did is found by the next look at the rows.
    """

    def __init__(
        self, part: Part, work: Callable[[Sequence[T]], Sequence[R]], most: int, linger: float = 0.0
    ) -> None:
        self._part = part  # the name of its thread
        self._work = work
        self._most = most
        self._linger = linger  # seconds that a group gathers for, when the one before it was a crowd
        self._wishes: SimpleQueue[tuple[T, Follow[R]]] = SimpleQueue()
        self._begin = threading.Lock()
        self._serves = False

    def want(self, item: T, then: Follow[R]) -> None:
        """Have it done, with whatever else is wanted at this moment, without waiting for it.

        `then` is called with the answer, or with what was raised, on the combiner's thread: it must not take long.
        """
        if not self._serves:
            self.start()
        self._wishes.put((item, then))

    def answer_to(self, item: T) -> R:
        """Have it done, and wait for the answer; raises what the group's work raised."""
        answer: Answer[R] = Answer()
        self.want(item, answer)
        return answer.get()

    def start(self) -> None:
        """Start its thread, if it does not run yet."""
        with self._begin:
            if not self._serves:
                background.start(self._part, self._serve)
                self._serves = True

    def _serve(self) -> None:
        crowded = False
        while True:
            group = [self._wishes.get()]
            if crowded:
                wait(self._linger)
            # Nobody else takes from it, so that what it holds can be had.
            group += [self._wishes.get() for _ in range(min(self._most - 1, self._wishes.qsize()))]
            crowded = len(group) >= CROWD and self._linger > 0
            try:
                answers: Sequence[R | None] = self._answers([item for item, _ in group])
                failed = None
            except BaseException as error:  # noqa: BLE001 # it is raised to each that it concerns
                answers, failed = [None] * len(group), error
            for (_, then), answer in zip(group, answers, strict=True):
                self._tell(then, answer, failed)

    def _tell(self, then: Follow[R], answer: R | None, failed: BaseException | None) -> None:
        try:
            then(answer, failed)
        except Exception:  # one thread answers everybody: those after it would wait for ever
            log.exception("what follows an answer failed")

    def _answers(self, items: Sequence[T]) -> Sequence[R]:
        answers = self._work(items)
        if len(answers) != len(items):
            raise ValueError(f"{len(items)} were asked for, and {len(answers)} were answered")
        return answers
