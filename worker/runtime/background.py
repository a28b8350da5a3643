"""Background threads of a process. The process ends when one of them fails.

A process without one of its threads would do nothing and not end on SIGTERM. Instead it ends with an ERROR line
and status 70, so that its supervisor starts it again.
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
    """The background threads of a process, by name."""

    CLAIMS = "claims"  # claims charges in batches
    SETTLEMENTS = "settlements"  # settles payments in batches
    PACER = "pacer"  # gives claimed charges their send slots
    STEPS = "steps"  # a pool: steps that need their own transaction
    ACCOUNTS = "accounts"  # a pool for each account: work that calls its gateway, such as look-ups
    GIVING_BACK = "giving-back"  # repeats writes that failed in the database
    CONNECTIONS = "connections"  # the event loop of all calls to the gateway
    TOKENS = "tokens"  # a pool: fetches access tokens
    DEAD_LETTERS = "dead-letters"  # records refused messages
    NOTICES = "notices"  # a pool: sends webhooks of the listener to the broker
    HEARTBEATS = "heartbeats"  # writes heartbeats
    READINESS = "readiness"  # checks whether this worker may and can send charges
    STOP_LIMIT = "stop-limit"  # ends a stop that takes too long
    ALIVE = "alive"  # records that the process works, for `again alive`
    METRICS = "metrics"  # answers /metrics, /healthz and /readyz
    STDIN = "stdin"  # waits until standard input closes


def start(part: Part, run: Work) -> threading.Thread:
    """Run a function on a new thread. Its return ends the thread, and an exception in it ends the process."""
    thread = threading.Thread(target=_watched, args=(part, run), name=part, daemon=True)
    try:
        thread.start()
    except (RuntimeError, MemoryError) as error:
        _end_process(part, "could not be started", error)
    return thread


def threads_for_asyncio(most: int) -> ThreadPoolExecutor:
    """Return threads for the name resolution of an event loop; exceptions are raised in its coroutines."""
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
    finally:  # without memory, logging may fail too
        os._exit(FAILED)


class Closed(RuntimeError):
    """Work was submitted to a pool that was closed."""


class Pool:
    """At most `most` threads, which run submitted work in order. Thread-safe.

    Threads start on demand, and end after the pool is closed or garbage-collected.
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
        """Start all threads now, so that none has to be started later."""
        with self._lock:
            while self._started < self._most:
                self._start_one()

    def execute(self, work: Work) -> None:
        """Run the work on a thread; an exception in it ends the process. Raises Closed after `close`."""
        with self._lock:
            if self._is_closed:
                raise Closed(f"the threads of {self._part} have ended")
            if not self._idle.acquire(blocking=False) and self._started < self._most:
                self._start_one()
            self._work.put(work)

    def submit(self, work: Callable[[], T]) -> "Future[T]":
        """Run the work on a thread; the future gets its result or its exception."""
        future: Future[T] = Future()

        def done() -> None:
            if not future.set_running_or_notify_cancel():
                return  # canceled by the waiting side
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 # it is raised in the thread that waits for it
                future.set_exception(error)
            else:
                future.set_result(result)

        self.execute(done)
        return future

    def close(self) -> None:
        """End the threads after the work that was submitted."""
        with self._lock:
            self._is_closed = True
            self._work.put(None)

    def _start_one(self) -> None:
        work, idle = self._work, self._idle  # no reference to the pool, which would keep it alive
        start(self._part, lambda: _carry_out(work, idle))
        self._started += 1


def _carry_out(works: "SimpleQueue[Work | None]", idle: threading.Semaphore) -> None:
    while (work := works.get()) is not None:
        work()
        del work  # release its references before waiting for the next
        idle.release()
    works.put(None)  # for the next thread
