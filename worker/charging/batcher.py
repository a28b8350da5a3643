"""Batches of database work: what many charges submit at one moment runs in one transaction.

A transaction costs nearly the same for one row and for fifty. A lone item is flushed at once; under load the next
batch waits `linger` seconds.
"""

import asyncio
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from threading import Lock
from typing import Generic, TypeVar

from worker.clock import wait
from worker.runtime import background, event_loop
from worker.runtime.background import Part

UNDER_LOAD = 2  # items; after a batch of so many the next one waits `linger`

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """Runs `work` on a thread of its own for batches of submitted items; each item gets its own answer.

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
        self._waiting: SimpleQueue[tuple[T, asyncio.Future[R]]] = SimpleQueue()
        self._begin = Lock()
        self._serves = False

    async def submit(self, item: T) -> R:
        """Submit an item and wait for its answer; raises what `work` raised. On the event loop only."""
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        if not self._serves:
            self.start()
        self._waiting.put((item, answer))
        return await answer

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
            futures = [future for _, future in batch]
            try:
                answers = self._answers([item for item, _ in batch])
            except BaseException as error:  # noqa: BLE001 # raised in each task that waits for it
                event_loop.resolve_all([(future, error) for future in futures])
            else:
                event_loop.resolve_all(list(zip(futures, answers, strict=True)))

    def _answers(self, items: Sequence[T]) -> Sequence[R]:
        answers = self._work(items)
        if len(answers) != len(items):
            raise ValueError(f"{len(items)} were asked for, and {len(answers)} were answered")
        return answers
