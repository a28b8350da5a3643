"""What strikes the processes, and when: a schedule that a seed decides, dealt in real time."""

import random
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from celery import Celery
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from schedules.operations.queues import BULK
from worker.cli.local.stack import Standing
from worker.clock import elapsed
from worker.embedded import EmbeddedServices
from worker.operations import operate
from worker.services import Services


class Blow(StrEnum):
    """What is done to an installation."""

    KILL_CHARGES = "kill -9 of a worker that charges"
    KILL_OPS = "kill -9 of the worker that opens and asks"
    KILL_BEAT = "kill -9 of a beat"
    FREEZE = "a worker frozen past its lease"
    FREEZE_BEAT = "a beat frozen until the other leads"
    FLUSH = "the broker emptied"
    CRASH_BROKER = "the broker killed and started again"
    CRASH_DATABASE = "PostgreSQL killed and started again"
    COPIES = "messages sent once more, some days late"
    STOP = "charging stopped by hand, and resumed"


WEIGHTS = {
    Blow.KILL_CHARGES: 28, Blow.KILL_OPS: 10, Blow.KILL_BEAT: 8, Blow.FREEZE: 14, Blow.FREEZE_BEAT: 4,
    Blow.FLUSH: 8, Blow.CRASH_BROKER: 4, Blow.CRASH_DATABASE: 4, Blow.COPIES: 15, Blow.STOP: 5,
}  # fmt: skip
PAUSE = (2.0, 4.5)  # seconds between two blows, from … to
FROZEN = 9.0  # seconds; above the lease
DEAD = 0.5  # seconds until a supervisor starts again what was killed
COPIED = 60  # messages sent once more at a time


@dataclass(frozen=True, slots=True)
class Planned:
    """A blow, so many seconds after the one before, and what it hits."""

    after: float
    blow: Blow
    number: int


def planned(seed: int) -> Callable[[], Planned]:
    """The endless schedule of a seed: the same blows, in the same order, with the same pauses."""
    chance = random.Random(seed)

    def following() -> Planned:
        (blow,) = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))
        return Planned(chance.uniform(*PAUSE), blow, chance.randrange(2**31))

    return following


@dataclass
class Striker:
    """Deals the blows of a schedule, and mends what it broke as a supervisor would."""

    standing: Standing
    services: Services
    seed: int
    pause: float = 1.0  # so many times longer between two blows than planned
    dealt: Counter[Blow] = field(default_factory=Counter)
    when: list[tuple[float, Blow]] = field(default_factory=list)
    fell: list[str] = field(default_factory=list)  # children that ended and were not killed

    def __post_init__(self) -> None:
        self._following = planned(self.seed)
        self._next = self._following()
        self._began = elapsed()
        self._due = elapsed() + self._next.after * self.pause
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._killed: set[str] = set()
        self._frozen: set[str] = set()
        self._strikes = True
        environment = self.standing.environment
        self._sender = Celery("copies", broker=environment["AGAIN_BROKER_URL"])
        self._sender.conf.task_ignore_result = True

    def look(self) -> None:
        """Deal the blow whose time has come, and mend what was broken long enough."""
        now = elapsed()
        for at, mend in list(self._later):
            if at <= now:
                self._later.remove((at, mend))
                mend()
        self._watch()
        if self._strikes and now >= self._due:
            self._strike(self._next)
            self._next = self._following()
            self._due = elapsed() + self._next.after * self.pause

    def rest(self) -> None:
        """No more blows; everything that is dead is started, everything frozen goes on."""
        self._strikes = False
        for _, mend in self._later:
            mend()
        self._later.clear()

    def _watch(self) -> None:
        for name in self.standing.names():
            (child,) = self.standing.children(name)
            if child.poll() is not None and name not in self._killed:
                self.fell.append(f"{name} ended by itself with status {child.returncode}")
                self.standing.restart(name)

    def _strike(self, plan: Planned) -> None:
        if not self._deal(plan):
            return
        self.dealt[plan.blow] += 1
        self.when.append((elapsed() - self._began, plan.blow))

    def _deal(self, plan: Planned) -> bool:
        match plan.blow:
            case Blow.KILL_CHARGES:
                return self._kill(f"worker-charges-{plan.number % 2 + 1}")
            case Blow.KILL_OPS:
                return self._kill("worker-ops")
            case Blow.KILL_BEAT:
                return self._kill(f"beat-{plan.number % 2 + 1}")
            case Blow.FREEZE:
                names = ("worker-charges-1", "worker-charges-2", "worker-charges-1", "worker-ops")
                return self._freeze(names[plan.number % 4])
            case Blow.FREEZE_BEAT:
                return self._freeze(f"beat-{plan.number % 2 + 1}")
            case Blow.FLUSH:
                return self._flush()
            case Blow.CRASH_BROKER:
                self._embedded().valkey.crash()
                self._embedded().valkey.restart()
            case Blow.CRASH_DATABASE:
                self._embedded().postgres.crash()
                self._embedded().postgres.restart()
                self.services.engine.dispose()
            case Blow.COPIES:
                return self._send_copies(plan.number)
            case Blow.STOP:
                operate.stop_charging(self.services, "chaos", "a fire drill")
                self._after(1.0, self._resume)
        return True

    def _kill(self, name: str) -> bool:
        if name in self._killed or name in self._frozen:
            return False
        (child,) = self.standing.children(name)
        self._killed.add(name)
        child.kill()
        child.wait()

        def start() -> None:
            self.standing.restart(name)
            self._killed.discard(name)

        self._after(DEAD, start)
        return True

    def _freeze(self, name: str) -> bool:
        if name in self._killed or name in self._frozen:
            return False
        (child,) = self.standing.children(name)
        self._frozen.add(name)
        child.send_signal(signal.SIGSTOP)

        def thaw() -> None:
            child.send_signal(signal.SIGCONT)
            self._frozen.discard(name)

        self._after(FROZEN, thaw)
        return True

    def _flush(self) -> bool:
        broker = Redis.from_url(self.standing.environment["AGAIN_BROKER_URL"])
        try:
            broker.flushall()
        except RedisError:
            return False
        finally:
            broker.close()
        return True

    def _send_copies(self, number: int) -> bool:
        """Send messages for charges of any age once more, as a broker does that hands them out again."""
        try:
            with self.services.engine.begin() as db:
                newest = db.execute(text("SELECT coalesce(max(id), 0) FROM charges")).scalar_one()
        except DBAPIError:
            return False
        chance = random.Random(number)
        ids = [chance.randint(1, newest) for _ in range(COPIED // 2)] if newest else []
        ids += list(range(max(1, newest - COPIED // 2), newest + 1))
        try:
            with self._sender.connection_for_write() as connection:
                for charge_id in ids:
                    self._sender.send_task("again.charge", (charge_id,), queue=BULK, connection=connection)
        except (OSError, RedisError, self._sender.connection_for_write().connection_errors[0]):
            return False
        return True

    def _resume(self) -> None:
        operate.resume_charging(self.services, "chaos", "the drill is over")

    def _after(self, seconds: float, mend: Callable[[], None]) -> None:
        self._later.append((elapsed() + seconds, mend))

    def _embedded(self) -> EmbeddedServices:
        services = self.standing.services
        if services is None:
            raise RuntimeError("chaos runs on embedded services alone: it kills them")
        return services
