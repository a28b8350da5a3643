"""Batches of database work: what many threads submit at one moment runs in one transaction.

A transaction costs nearly the same for one row and for fifty. A lone item is flushed at once; under load the next
batch waits `linger` seconds.
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
UNDER_LOAD = 2  # items; after a batch of so many the next one waits `linger`

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


class Batcher(Generic[T, R]):
    """Runs `work` on a thread of its own for batches of what other threads submit; each item gets its own answer.

    `work` answers in the order of its items. What it raises is raised to every item of the batch: then nothing is
    committed, or the next look at the rows finds what is.
    """

    def __init__(
        self, part: Part, work: Callable[[Sequence[T]], Sequence[R]], most: int, linger: float = 0.0
    ) -> None:
        self._part = part  # the name of its thread
        self._work = work
        self._most = most
        self._linger = linger  # seconds
        self._waiting: SimpleQueue[tuple[T, Follow[R]]] = SimpleQueue()
        self._begin = threading.Lock()
        self._serves = False

    def submit(self, item: T, then: Follow[R]) -> None:
        """Submit an item without waiting.

        `then` is called with the answer or the exception on the thread of the batcher: it must not take long.
        """
        if not self._serves:
            self.start()
        self._waiting.put((item, then))

    def submit_and_wait(self, item: T) -> R:
        """Submit an item and wait for its answer; raises what `work` raised."""
        answer: Answer[R] = Answer()
        self.submit(item, answer)
        return answer.get()

    def start(self) -> None:
        """Start its thread, if it does not run yet."""
        with self._begin:
            if not self._serves:
                background.start(self._part, self._serve)
                self._serves = True

    def _serve(self) -> None:
        under_load = False
        while True:
            batch = [self._waiting.get()]
            if under_load:
                wait(self._linger)
            # Only this thread takes items out, so the counted ones are there.
            batch += [self._waiting.get() for _ in range(min(self._most - 1, self._waiting.qsize()))]
            under_load = len(batch) >= UNDER_LOAD and self._linger > 0
            try:
                answers: Sequence[R | None] = self._answers([item for item, _ in batch])
                failed = None
            except BaseException as error:  # noqa: BLE001 # it is raised to each that it concerns
                answers, failed = [None] * len(batch), error
            for (_, then), answer in zip(batch, answers, strict=True):
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
