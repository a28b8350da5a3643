"""Simulated processes: each runs a real verb, and stops, goes on or dies where the scheduler says."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import Enum
from typing import ClassVar

from worker import failpoints
from worker.failpoints import Failpoint

HUNG = 60.0  # seconds of real time; a step takes milliseconds, so this is a lock that nobody gives back
TRANSACTION = "transaction"  # the stop before each transaction, where no lock is held
# Stops inside a transaction: whoever stands there holds row locks.
LOCKED = frozenset({Failpoint.OPENING_WRITTEN.value, Failpoint.SETTLING_WRITTEN.value})


class Killed(BaseException):
    """The process is dead at this line: what it has not committed is gone."""


class Hung(AssertionError):
    """A process did not come to its next stop."""


class Move(Enum):
    """What a process does at a stop."""

    PASS = "pass"
    PARK = "park"
    KILL = "kill"


Choose = Callable[[str], Move]


def straight_on(stop: str) -> Move:
    """Go through to the end."""
    return Move.PASS


class Hand:
    """A thread that lives one process after the other, and only while it has the turn."""

    idle: ClassVar[list["Hand"]] = []

    def __init__(self) -> None:
        self.live: Callable[[], None] = lambda: None
        self._may_run, self._has_stopped = threading.Lock(), threading.Lock()
        self._may_run.acquire()
        self._has_stopped.acquire()
        threading.Thread(target=self._serve, name="model", daemon=True).start()

    @classmethod
    def take(cls, live: Callable[[], None]) -> "Hand":
        """A hand that has nothing to do, for this."""
        hand = cls.idle.pop() if cls.idle else cls()
        hand.live = live
        return hand

    def give_turn(self, name: str) -> None:
        """Let the thread run until it gives the turn back."""
        self._may_run.release()
        if not self._has_stopped.acquire(timeout=HUNG):
            raise Hung(f"{name} came to no stop within {HUNG:g} s")

    def wait_for_turn(self) -> None:
        """Give the turn back, and wait until it comes again; only called on the thread itself."""
        self._has_stopped.release()
        self._may_run.acquire()

    def _serve(self) -> None:
        self._may_run.acquire()
        while True:
            self.live()
            self.wait_for_turn()


class Process:
    """One process at one verb: on a thread of its own if it may be parked."""

    def __init__(self, name: str, verb: Callable[[], object], *, on_thread: bool) -> None:
        self.name = name
        self.at: str | None = None  # the stop that it stands at
        self.ended = False
        self.choose: Choose = straight_on
        self.lease_until: datetime | None = None  # of the attempt that it claimed
        self.looked_at: datetime | None = None  # when its pre-send check allowed the call
        self.called_at: datetime | None = None  # when it began its call
        self._verb = verb
        self._error: BaseException | None = None
        self._hand = Hand.take(self._run) if on_thread else None

    @property
    def holds_locks(self) -> bool:
        """Whether it stands inside a transaction that has written."""
        return self.at in LOCKED

    def go(self) -> None:
        """Run to the next stop at which it parks, or to its end; raises what the verb raised."""
        self.at = None
        if self._hand is None:
            self._run()
        else:
            self._hand.give_turn(self.name)
            if self.ended:
                Hand.idle.append(self._hand)
        if self.ended and self._error is not None and not isinstance(self._error, Killed):
            raise self._error

    def park(self, stop: str) -> None:
        """Give the turn back, and wait until it comes again; only called by the process itself."""
        if self._hand is None:
            raise AssertionError(f"{self.name} was begun as one that never parks")
        self.at = stop
        self._hand.wait_for_turn()

    def _run(self) -> None:
        try:
            self._verb()
        except BaseException as error:  # noqa: BLE001 # whatever ended it is told where the turn comes back
            self._error = error
        self.ended = True


class Stage:
    """Lets one process at a time take its next steps."""

    def __init__(self) -> None:
        self.current: Process | None = None
        self.parked: list[Process] = []
        self.seen: Counter[str] = Counter()
        self.kills = 0
        self.passed: Callable[[Process, str], None] = lambda process, stop: None

    def stop(self, name: str, subject: str = "") -> None:
        """What a process calls at each stop; whoever is no simulated process passes."""
        process = self.current
        if process is None:
            return
        self.seen[name] += 1
        self.passed(process, name)
        move = process.choose(name)
        while move is Move.PARK:
            process.park(name)
            move = process.choose(name)
        if move is Move.KILL:
            self.kills += 1
            raise Killed(name)

    def begin(
        self, name: str, verb: Callable[[], object], choose: Choose = straight_on, *, parks: bool
    ) -> Process:
        """Start a process; one that never parks runs here, without a thread."""
        process = Process(name, verb, on_thread=parks)
        self.go_on(process, choose)
        return process

    def go_on(self, process: Process, choose: Choose = straight_on) -> None:
        """Let a process run until it parks or ends."""
        if self.current is not None:
            raise AssertionError(f"{self.current.name} runs; {process.name} must wait for its turn")
        process.choose = _after_this(process.at, choose)
        self.current = process
        try:
            process.go()
        finally:
            self.current = None
            self.parked = [other for other in self.parked if other is not process]
            if not process.ended:
                self.parked.append(process)

    def kill(self, process: Process) -> None:
        """End a parked process where it stands."""
        self.go_on(process, lambda stop: Move.KILL)

    def kill_all(self) -> None:
        """End every parked process."""
        for process in tuple(self.parked):
            self.kill(process)


def _after_this(standing: str | None, choose: Choose) -> Choose:
    """The choice for the stops to come: at the one where it stands a process is killed or goes on."""
    first = standing is not None

    def chosen(stop: str) -> Move:
        nonlocal first
        move = choose(stop)
        if first:
            first = False
            return Move.PASS if move is Move.PARK else move
        return move

    return chosen


@contextmanager
def failpoints_stop_at(stage: Stage) -> Iterator[None]:
    """Every point of the product is a stop on this stage."""
    failpoints.on_hit(lambda point, subject: stage.stop(point.value, subject))
    try:
        yield
    finally:
        failpoints.on_hit(None)
