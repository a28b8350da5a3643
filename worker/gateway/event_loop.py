"""The event loop of all HTTP calls of a process, on a thread that runs as long as the process does."""

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from worker.runtime import background
from worker.runtime.background import Part

log = logging.getLogger("again.http")
T = TypeVar("T")

_loops: list[asyncio.AbstractEventLoop] = []
_making = threading.Lock()
_tasks: set[asyncio.Task[Any]] = set()  # the loop itself holds tasks weakly


def _forget() -> None:
    _loops.clear()
    _tasks.clear()


os.register_at_fork(after_in_child=_forget)  # the child has no thread that runs the loop


def running() -> asyncio.AbstractEventLoop:
    """Return the loop; start it if it does not run yet."""
    if not _loops:
        with _making:
            if not _loops:
                loop = asyncio.new_event_loop()
                loop.set_debug(False)  # whatever the environment says: debug mode logs arguments
                loop.set_exception_handler(_unforeseen)
                background.start(Part.CONNECTIONS, partial(_run_for_ever, loop))
                _loops.append(loop)
    return _loops[0]


def start(work: Callable[[], Coroutine[Any, Any, T]], then: Callable[[T], None] = lambda _: None) -> None:
    """Run a coroutine on the loop, from any thread; call `then` with its result on the loop's thread.

    `then` must be quick: other calls wait for it.
    """
    running().call_soon_threadsafe(_create_task, work, then)


def _create_task(work: Callable[[], Coroutine[Any, Any, T]], then: Callable[[T], None]) -> None:
    task = asyncio.get_running_loop().create_task(work())
    _tasks.add(task)
    task.add_done_callback(partial(_done, then))


def _done(then: Callable[[T], None], task: asyncio.Task[T]) -> None:
    _tasks.discard(task)
    then(task.result())  # the loop's exception handler reports what is raised here


def _run_for_ever(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    raise RuntimeError("the event loop has stopped")


def _unforeseen(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log a fault of ours by its type alone: asyncio's own text may hold a request."""
    log.error("a callback of the HTTP client failed: %s", type(context.get("exception")).__name__)
