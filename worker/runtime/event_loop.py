"""The event loop of a process, which runs its charges and HTTP calls on a thread that never ends."""

import asyncio
import logging
import os
import threading
import traceback
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from schedules.charging.outcomes import Unknown
from worker.runtime import background
from worker.runtime.background import Part

log = logging.getLogger("again.http")
# At once. asyncio's own default is four more than there are processors; look-ups of receivers' names that take
# long would delay the look-up of the gateway's name.
NAME_LOOK_UPS = 32
T = TypeVar("T")

_loops: list[asyncio.AbstractEventLoop] = []
_making = threading.Lock()
_tasks: set[asyncio.Task[Any]] = set()  # the loop itself holds tasks weakly
_inherited: list[object] = []  # of the parent; were a task collected, it would write to the parent's connection


def _forget() -> None:
    global _making
    _making = threading.Lock()  # a thread of the parent may have held it
    _inherited.extend((*_loops, *_tasks))
    _loops.clear()
    _tasks.clear()


os.register_at_fork(after_in_child=_forget)  # the child has no thread that runs the loop


def running() -> asyncio.AbstractEventLoop:
    """Return the loop; start it if it does not run yet."""
    if not _loops:
        with _making:
            if not _loops:
                loop = asyncio.new_event_loop()
                loop.set_debug(False)  # also with PYTHONASYNCIODEBUG=1: debug mode logs arguments
                loop.set_exception_handler(_unforeseen)
                loop.set_default_executor(background.threads_for_asyncio(NAME_LOOK_UPS))
                background.start(Part.CONNECTIONS, partial(_run_for_ever, loop))
                _loops.append(loop)
    return _loops[0]


def start(
    work: Callable[[], Coroutine[Any, Any, T]], then: Callable[[T | Unknown], None] = lambda _: None
) -> None:
    """Run a coroutine on the loop, from any thread; call `then` with its result on the loop's thread.

    A coroutine that raises results in Unknown. `then` must be quick: other calls wait for it.
    """
    running().call_soon_threadsafe(_create_task, work, then)


def submit(work: Coroutine[Any, Any, T]) -> "Future[T]":
    """Run a coroutine on the loop, from any other thread; its result, or what it raised, is in the future."""
    return asyncio.run_coroutine_threadsafe(work, running())


def resolve_all(answers: "Sequence[tuple[asyncio.Future[T], T | BaseException]]") -> None:
    """Set the results of futures of the loop, or what is raised where they are awaited; from any thread."""
    running().call_soon_threadsafe(_resolve, answers)


def _resolve(answers: "Sequence[tuple[asyncio.Future[T], T | BaseException]]") -> None:
    for future, answer in answers:
        if future.done():
            continue
        if isinstance(answer, StopIteration):  # no future takes one
            future.set_exception(RuntimeError("StopIteration"))
        elif isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)


def where(fault: BaseException) -> str:
    """Return the type of a fault and the place that raised it. Its text is left out: it may hold a request."""
    frames = traceback.extract_tb(fault.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return type(fault).__name__ + place


def _create_task(work: Callable[[], Coroutine[Any, Any, T]], then: Callable[[T | Unknown], None]) -> None:
    task = asyncio.get_running_loop().create_task(work())
    _tasks.add(task)
    task.add_done_callback(partial(_done, then))


def _done(then: Callable[[T | Unknown], None], task: asyncio.Task[T]) -> None:
    """Report the result. A call that is never reported would hold its charge until the lease ends."""
    _tasks.discard(task)
    came: T | Unknown = Unknown("a fault of ours")
    if task.cancelled():
        log.error("a call was cancelled")
    elif (fault := task.exception()) is not None:
        log.error("a call failed for a fault of ours: %s", where(fault))
    else:
        came = task.result()
    then(came)  # the loop's exception handler reports what is raised here


def _run_for_ever(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    raise RuntimeError("the event loop has stopped")


def _unforeseen(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log a fault of ours by its type and place alone: asyncio's own text may hold a request."""
    fault = context.get("exception")
    log.error("a callback of the event loop failed: %s", "no exception" if fault is None else where(fault))
