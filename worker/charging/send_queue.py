"""The send queue: claimed attempts go in the slots of their account, by priority, each after a pre-send check.

One thread of a process takes slots and looks, for as many charges as leave within the next moments; the calls are
the gateway's. No account waits for another: each has a line of its own, and its own room for calls under way.
"""

import heapq
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from queue import Empty, SimpleQueue

from schedules.charging.charges import ChargeKind
from schedules.charging.outcomes import Outcome
from worker.charging.rate_limiter import Permit, SlotSearch, interval, request_permits, too_late
from worker.clock import elapsed, wait
from worker.failpoints import Failpoint, hit
from worker.gateway.port import Missed, Sending, Slot
from worker.runtime import background, stop_signal
from worker.runtime.background import Part
from worker.services import Services
from worker.store.charging.charges import Obstacle, Then

log = logging.getLogger("again.send_queue")
TOGETHER = 64  # charges that look and take slots in one statement
SPAN = 0.045  # seconds of an account's cap that are taken at once: with more, the last would leave on a stale look
ASKED_BEFORE = 0.045  # seconds that slots are asked for before those that were given are over
LINGER = 0.015  # seconds that a group gathers for where there is a crowd
STOPPING = Obstacle("this process is stopping", Then.AT_ONCE)


@dataclass(slots=True, eq=False)
class QueuedCall(SlotSearch):
    """A claimed attempt in the queue."""

    sending: Sending
    # Called once: with the gateway's answer, on a thread of the gateway's; with the obstacle for which the charge
    # was not sent; or with the error of its pre-send check, in which case it was not sent.
    answered: Callable[[Outcome | Obstacle | Exception], None]
    begun: Callable[[], object]  # it has left the queue; perhaps called more than once

    @property
    def turn(self) -> int:
        """What goes first: what somebody asked for, then what is tried again, then the rest."""
        if self.claimed.kind is ChargeKind.ADHOC:
            return 0
        return 1 if self.claimed.intent.number > 1 else 2


@dataclass(slots=True)
class _Lane:
    """The line of one account."""

    rate: float
    room: int  # calls that may still begin
    waiting: Sequence[deque[QueuedCall]] = field(default_factory=lambda: (deque(), deque(), deque()))
    asks_at: float = 0.0  # the slots that were given reach until soon after this
    overrun: float = 0.0  # seconds by which a call left too late, since slots were last taken

    def is_due(self, now: float) -> bool:
        """Whether some of it may ask for slots now."""
        return self.room > 0 and now >= self.asks_at and any(self.waiting)

    def next_few(self, span: float) -> list[QueuedCall]:
        """Take out those that leave next, as many as look at once: at most `span` seconds of the cap."""
        most = min(self.room, TOGETHER, max(1, int(span * self.rate)) if self.rate else TOGETHER)
        few: list[QueuedCall] = []
        for line in self.waiting:
            while line and len(few) < most:
                few.append(line.popleft())
        self.room -= len(few)
        return few


class SendQueue:
    """Sends queued calls in the slots of their accounts. Any thread may use it."""

    def __init__(self, services: Services, room: int) -> None:
        self._services = services
        self._room = room  # calls of one account under way at a time
        self._lanes: dict[str, _Lane] = {}
        self._bell: SimpleQueue[QueuedCall | None] = SimpleQueue()
        self._to_look_at: list[tuple[float, int, QueuedCall]] = []  # a heap, by when
        self._numbers = count()
        self._lock = threading.Lock()  # of the lanes, and of each one's room and overrun
        self._serves = False

    def submit(self, queued: QueuedCall) -> None:
        """Let it leave when its turn has come."""
        with self._lock:
            rate = queued.services.account(account := queued.claimed.account).rate
            self._lanes.setdefault(account, _Lane(rate, self._room)).rate = rate
        self.start()
        self._bell.put(queued)

    def start(self) -> None:
        """Start its thread, if it does not run yet."""
        with self._lock:
            if not self._serves:
                background.start(Part.PACER, self._serve)
                self._serves = True

    def _serve(self) -> None:
        crowded = False
        while True:
            self._gather(crowded)
            if stop_signal.is_told():
                self._hold_all()
            few, overruns = self._due(), self._overruns()
            if few or overruns:
                self._grant(few, overruns)
            # What is lined up waits for room: whatever makes some is taken together.
            crowded = len(few) > 1 or any(any(lane.waiting) for lane in self._all_lanes())

    def wake(self) -> None:
        """Wake it so that it sees the stop signal at once."""
        self._bell.put(None)

    def _hold_all(self) -> None:
        """Hold back what was not sent."""
        while self._to_look_at:
            queued = heapq.heappop(self._to_look_at)[2]
            self._make_room(queued)
            queued.answered(STOPPING)
        for lane in self._all_lanes():
            for line in lane.waiting:
                while line:
                    line.popleft().answered(STOPPING)

    def _gather(self, crowded: bool) -> None:
        """Wait until a call may be sent, or one is submitted."""
        if crowded:
            wait(LINGER)
        else:
            at = self._next_at()
            try:
                self._take_in(self._bell.get(timeout=None if at is None else max(0.0, at - elapsed())))
            except Empty:
                return
        for _ in range(self._bell.qsize()):
            self._take_in(self._bell.get())

    def _take_in(self, come: QueuedCall | None) -> None:
        if come is None:
            return  # somebody has made room
        line = self._lane(come).waiting[come.turn]
        # What has missed its slot was first before.
        line.appendleft(come) if come.asked_at else line.append(come)

    def _lane(self, queued: QueuedCall) -> _Lane:
        return self._lanes[queued.claimed.account]

    def _all_lanes(self) -> tuple[_Lane, ...]:
        with self._lock:
            return tuple(self._lanes.values())

    def _next_at(self) -> float | None:
        """When something may leave next, if nothing comes; None for never."""
        times = [lane.asks_at for lane in self._all_lanes() if lane.room > 0 and any(lane.waiting)]
        times += [self._to_look_at[0][0]] if self._to_look_at else []
        return min(times, default=None)

    def _due(self) -> list[QueuedCall]:
        """Those whose slot comes now, to be looked at again, and those that may take one."""
        now, extra = elapsed(), self._services.check_times.extra
        few: list[QueuedCall] = []
        while self._to_look_at and self._to_look_at[0][0] <= now and len(few) < TOGETHER:
            few.append(heapq.heappop(self._to_look_at)[2])
        for lane in self._all_lanes():
            with self._lock:
                if lane.is_due(now):
                    few += lane.next_few(SPAN + extra)
        return few

    def _grant(self, few: Sequence[QueuedCall], overruns: Mapping[str, float]) -> None:
        try:
            permits = request_permits(self._services, [queued.request() for queued in few], overruns)
        except Exception as error:  # noqa: BLE001 # raised in the task of each charge; the next may succeed
            self._overran(overruns)
            for queued in few:
                self._fail(queued, error)
            return
        for queued, permit in zip(few, permits, strict=True):
            try:
                self._decide(queued, permit)
            except Exception as error:  # noqa: BLE001 # raised in the charge's task
                self._fail(queued, error)

    def _fail(self, queued: QueuedCall, error: Exception) -> None:
        self._make_room(queued)
        queued.answered(error)

    def _overruns(self) -> dict[str, float]:
        with self._lock:
            overruns = {account: lane.overrun for account, lane in self._lanes.items() if lane.overrun}
            for account in overruns:
                self._lanes[account].overrun = 0.0
        return overruns

    def _overran(self, overruns: Mapping[str, float]) -> None:
        with self._lock:
            for account, late in overruns.items():
                lane = self._lanes[account]
                lane.overrun = max(lane.overrun, late)

    def _decide(self, queued: QueuedCall, permit: Permit) -> None:
        """Let one leave that has just been looked at, look at it again, or hold it back."""
        lane = self._lane(queued)
        if queued.permit is None and permit.is_granted and lane.rate:
            lane.asks_at = permit.earliest + interval(lane.rate) - ASKED_BEFORE - self._services.check_times.extra
        match queued.decide(permit):
            case Permit() as granted:
                self._begin(queued, granted)
            case Obstacle() as found:
                self._make_room(queued)
                queued.answered(found)
            case look_at:
                heapq.heappush(self._to_look_at, (look_at, next(self._numbers), queued))

    def _begin(self, queued: QueuedCall, permit: Permit) -> None:
        hit(Failpoint.CHARGING_LOOKED, queued.claimed.intent.merchant_uid)
        # Counted from before the pre-send check: a worker frozen after it that wakes too late does not send.
        until = permit.looked_at + self._services.settings.call_deadline
        latest = min(permit.latest, permit.stale_at)
        slot = Slot(permit.earliest, latest, partial(self._left, queued, permit.earliest))
        queued.begun()
        queued.sending.begin(until, slot, partial(self._came, queued))

    def _left(self, queued: QueuedCall, earliest: float, at: float) -> None:
        lane = self._lane(queued)
        if lane.rate and (late := too_late(lane.rate, at - earliest)):
            self._overran({queued.claimed.account: late})
            self._bell.put(None)

    def _came(self, queued: QueuedCall, came: Outcome | Missed) -> None:
        self._make_room(queued)
        if isinstance(came, Missed):
            self._bell.put(queued)
        else:
            queued.answered(came)

    def _make_room(self, queued: QueuedCall) -> None:
        lane = self._lane(queued)
        with self._lock:
            lane.room += 1
            was_full = lane.room == 1
        if was_full:
            self._bell.put(None)
