"""The background threads of a process: each is started here, and a process ends when one of them fails.

After a thread has failed, its process would live on, do nothing, and not even end on SIGTERM. The
process ends instead, with an ERROR line and status 70, so that its supervisor starts it again.
"""

import logging
import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from enum import StrEnum
from queue import SimpleQueue
from typing import NoReturn, TypeVar

log = logging.getLogger("again.background")
FAILED = os.EX_SOFTWARE  # 70
T = TypeVar("T")
Work = Callable[[], object]


class Part(StrEnum):
    """Every background thread that a process may have, by its name."""

    CLAIMS = "claims"  # claims charges by the batch
    SETTLEMENTS = "settlements"  # settles payments by the batch
    PACER = "pacer"  # gives claimed charges their send slots
    STEPS = "steps"  # a pool: what needs a transaction of its own
    LOOK_UPS = "look-ups"  # a pool: asks the gateway for a charge's earlier attempts before it is sent
    GIVING_BACK = "giving-back"  # repeats writes that the database did not take
    CONNECTIONS = "connections"  # the event loop of all calls to the gateway
    TOKENS = "tokens"  # a pool: fetches access tokens
    DEAD_LETTERS = "dead-letters"  # records refused messages
    NOTICES = "notices"  # a pool: the listener hands webhooks on
    HEARTBEATS = "heartbeats"  # reports what the process does
    READINESS = "readiness"  # looks whether this worker may and can send charges
    STOP_LIMIT = "stop-limit"  # ends a stop that takes too long
    ALIVE = "alive"  # records that the process works, for `again alive`
    STDIN = "stdin"  # waits until standard input closes


def start(part: Part, run: Work) -> threading.Thread:
    """Run something on a thread of its own. It returns when its work is over; what it raises ends the process."""
    thread = threading.Thread(target=_watched, args=(part, run), name=part, daemon=True)
    try:
        thread.start()
    except (RuntimeError, MemoryError) as error:
        _end_process(part, "could not be started", error)
    return thread


def threads_for_asyncio(most: int) -> ThreadPoolExecutor:
    """Return the threads on which an event loop looks names up; what fails there is raised in its coroutine."""
    return ThreadPoolExecutor(most, thread_name_prefix="names")


def _watched(part: Part, run: Work) -> None:
    try:
        run()
    except BaseException as error:  # noqa: BLE001 # no other thread does this thread's work
        _end_process(part, "failed", error)


def _end_process(part: Part, what: str, error: BaseException) -> NoReturn:
    try:
        words = "background thread %s %s (%s); the process ends with status %d, and must be started again"
        log.error(words, part, what, type(error).__name__, FAILED, exc_info=error)
    finally:  # without memory, even the line may fail
        os._exit(FAILED)


class Closed(RuntimeError):
    """Work was submitted to threads that had been stopped."""


class Pool:
    """At most so many threads, which carry out work in its order. For any thread to use.

    Threads are started as they are needed, and end when nobody has the pool any more.
    """

    def __init__(self, part: Part, most: int) -> None:
        self._part = part
        self._most = most
        self._work: SimpleQueue[Work | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._started = 0
        self._is_closed = False
        self._lock = threading.Lock()
        weakref.finalize(self, self._work.put, None).atexit = False

    def start(self) -> None:
        """Start all of its threads, so that none has to be started later."""
        with self._lock:
            while self._started < self._most:
                self._start_one()

    def execute(self, work: Work) -> None:
        """Let a thread carry out the work; raises Closed after `close`. What the work raises ends the process."""
        with self._lock:
            if self._is_closed:
                raise Closed(f"the threads of {self._part} have ended")
            if not self._idle.acquire(blocking=False) and self._started < self._most:
                self._start_one()
            self._work.put(work)

    def submit(self, work: Callable[[], T]) -> "Future[T]":
        """Let a thread carry out the work; its result, or what it raised, is in the future."""
        future: Future[T] = Future()

        def done() -> None:
            if not future.set_running_or_notify_cancel():
                return  # the waiting side has given up
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 # it is raised in the thread that waits for it
                future.set_exception(error)
            else:
                future.set_result(result)

        self.execute(done)
        return future

    def close(self) -> None:
        """Let its threads end when the work that they have is done."""
        with self._lock:
            self._is_closed = True
            self._work.put(None)

    def _start_one(self) -> None:
        work, idle = self._work, self._idle  # a thread that knew the pool would keep it alive
        start(self._part, lambda: _carry_out(work, idle))
        self._started += 1


def _carry_out(works: "SimpleQueue[Work | None]", idle: threading.Semaphore) -> None:
    while (work := works.get()) is not None:
        work()
        del work  # what it knows must not live until the next
        idle.release()
    works.put(None)  # for the next thread
