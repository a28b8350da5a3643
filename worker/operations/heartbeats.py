"""Heartbeats: a process reports that it started, that it runs, and the obstacle that stops its work."""

import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from uuid import uuid4

from sqlalchemy import Connection

from schedules.operations.health import ProcessKind
from worker.clock import elapsed
from worker.config import installed_version
from worker.runtime import alive, background
from worker.runtime.background import Part
from worker.services import Services, clock_is_right
from worker.store import failures
from worker.store.charging import kill_switch
from worker.store.operations import processes
from worker.store.operations.processes import Report

log = logging.getLogger("again.heartbeats")
INTERVAL = 10.0  # seconds between two heartbeats
IDLE_AFTER = 60.0  # seconds without progress after which `has_work` is called
LAST_WRITE = 3.0  # seconds that `stop` waits for a heartbeat under way


class Heartbeats:
    """The heartbeats of one run of a process. Beat writes them in its ticks, other processes on a thread."""

    def __init__(
        self,
        services: Services,
        kind: ProcessKind,
        queues: Sequence[str] = (),
        has_work: Callable[[], bool] = lambda: True,  # or messages that wait for it
        takes_nothing: Callable[[], str | None] = lambda: None,  # why a worker takes no charges now
    ) -> None:
        self._services = services
        self._takes_nothing = takes_nothing
        self._has_work = has_work
        self._kind, self._queues = kind, tuple(queues)
        self._id = uuid4().hex
        self._host, self._pid = socket.gethostname(), os.getpid()
        self._progress_at = elapsed()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def progressed(self) -> None:
        """Record that a message was finished. Thread-safe."""
        self._progress_at = elapsed()

    def look_for_work(self) -> None:
        """Restart the count of idle time if no work waits."""
        if elapsed() - self._progress_at >= IDLE_AFTER and not self._has_work():
            self.progressed()
        alive.note_idle(self._idle() if self._queues else 0.0)  # a process without queues is never idle

    def write(self, db: Connection, *, leads: bool = False, plans: int = 0) -> None:
        """Write one heartbeat."""
        services = self._services
        clock_is_right(services, db)
        # Without the hold: it concerns all processes and is reported once.
        permission = replace(kill_switch.permission(db, kill_switch.ALL_ACCOUNTS), hold_since=None)
        foreign = permission.foreign(services.identity, services.clock)
        if permission.is_unserved(services.identity):
            log.error("%s", foreign)  # logged by every process, also by one without work
        its = Report(
            id=self._id,
            kind=self._kind,
            host=self._host,
            pid=self._pid,
            version=installed_version(),
            queues=self._queues,
            idle=self._idle(),
            clock_ahead=services.clock_check.ahead.total_seconds(),
            check_seconds=services.check_times.takes,
            obstacle=foreign or self._takes_nothing(),
            leads=leads,
            plans=plans,
        )
        processes.report(db, its)

    def start(self) -> None:
        """Report the start, and then regularly from a thread until `stop`."""
        self._write_once()
        self._thread = background.start(Part.HEARTBEATS, self._run)

    def stop(self, *, in_order: bool = True) -> None:
        """Stop reporting. `in_order`: the process received a stop signal, so its end is recorded."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(LAST_WRITE)
        if in_order:
            try:
                with self._services.engine.begin() as db:
                    processes.end(db, self._id)
            except failures.DATABASE_ERRORS as error:
                log.warning("the end of this process is not recorded: %s", failures.summary(error))

    def _idle(self) -> float:
        return elapsed() - max(self._progress_at, self._services.check_times.last_at)

    def _run(self) -> None:
        while not self._ending.wait(INTERVAL):
            self._write_once()

    def _write_once(self) -> None:
        self.look_for_work()  # outside of the transaction, because the broker may take seconds to answer
        try:
            with self._services.engine.begin() as db:
                self.write(db)
        except failures.DATABASE_ERRORS as error:
            failures.outage.failed(f"a heartbeat is not recorded: {failures.summary(error)}")
        else:
            failures.outage.succeeded()
