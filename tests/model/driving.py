"""A seeded run of one shop: what is random is decided here and nowhere else, so that a seed repeats it."""

from collections import Counter
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random

from tests.model.gateway import Fate, Weather
from tests.model.stage import LOCKED, Choose, Move, Process, straight_on
from tests.model.world import Message, World

ANCHOR = date(2026, 2, 2)
SLOWEST = (
    500.0  # seconds until a slow payment shows; the quiet time promises 900, less the lease it was sent under
)
# One call in three meets a fault: far more than life brings, so that a run of minutes meets every pair of them.
FATES = {
    Fate.AS_CARD: 65, Fate.LOST_REPLY: 6, Fate.SLOW: 6, Fate.LOST_BEFORE: 6, Fate.NOT_SENT: 5,
    Fate.SHOWN_LATE: 4, Fate.UNCLEAR: 2, Fate.UNCLEAR_PAID: 1, Fate.REFUSED: 2, Fate.LATE_PAID: 1,
    Fate.OTHER_AMOUNT: 1, Fate.OTHER_AMOUNT_LOST: 1,
}  # fmt: skip
# What breaks the promise of the quiet time: payments that show hours later, and declines without a record of them.
IN_DOUBT = FATES | {Fate.SHOWN_HOURS_LATE: 15, Fate.UNCLEAR_HOURS_LATE: 10, Fate.RECORDLESS: 40}
LATEST_SHOWN = 5 * 3600.0  # seconds; before the ladder's next try
WAKING = (0.6, 0.2, 0.05)  # how likely a parked process goes on in a round: some sleep through hours
MOST_PARKED = 15
KILLED = 0.06  # of all processes, at one of their stops


@dataclass(frozen=True, slots=True)
class Size:
    """How big one shop is."""

    subscriptions: int = 40
    charges: int = 200  # after that many, opening ends, and all comes to rest
    in_doubt: bool = False  # meets IN_DOUBT; no backup is restored, which knows nothing of what shows hours later


class Driver:
    """Rolls the dice for one shop."""

    def __init__(self, world: World, seed: str, size: Size) -> None:
        self.world = world
        self.dice = Random(seed)
        self.size = size
        self.opened = 0
        self.counts: Counter[str] = Counter()
        self._backups: list[object] = []
        self._wakes: dict[Process, float] = {}
        fates = IN_DOUBT if size.in_doubt else FATES
        self._fates = list(fates)
        self._weights = list(fates.values())

    def run(self) -> Counter[str]:
        """The whole life of the shop; answers what happened how often."""
        world, dice = self.world, self.dice
        names = [f"customer-{n:04d}" for n in range(self.size.subscriptions)]
        world.arrange(names, [ANCHOR + timedelta(days=dice.randrange(7)) for _ in names])
        world.gateway.weather = self._weather
        world.gateway.answers_asks = lambda: dice.random() > 0.1
        rounds = 0
        # A shop that all customers have left grows no more.
        while len(world.books.charges()) < self.size.charges and rounds < 40 * self.size.charges:
            self._round()
            rounds += 1
        world.gateway.weather = Weather
        world.gateway.answers_asks = lambda: True
        world.gateway.declining.clear()
        world.resume_charging()
        self.counts.update(world.end())
        now = world.clock.now()
        ledger = world.gateway.ledger
        self.counts.update(
            charges=len(world.books.charges()),
            rounds=rounds,
            kills=world.stage.kills,
            **{"reconciler failures": world.reconciler_failures},
            calls=world.gateway.calls,
            payments=sum(payment.is_paid(now) for payments in ledger.values() for payment in payments),
        )
        return self.counts

    def _round(self) -> None:
        self._move_clock()
        self._people()
        self._chores()
        self._messages()
        self._parked()
        self.world.look()

    def _move_clock(self) -> None:
        world, dice = self.world, self.dice
        roll = dice.random()
        if not world.broker and roll < (0.6 if world.stage.parked else 0.9):
            later = [at for at in world.books.next_times() if at > world.clock.now()]
            if later:
                world.clock.at = min(later) + timedelta(seconds=dice.randrange(3))
                return
        roll = dice.random()
        if roll < 0.6:
            world.move(timedelta(seconds=dice.randrange(60)))
        elif roll < 0.9:
            world.move(timedelta(seconds=dice.randrange(60, 1200)))
        else:
            world.move(timedelta(seconds=dice.randrange(1200, 30000)))

    def _people(self) -> None:
        world, dice = self.world, self.dice
        roll = dice.random()
        if roll < 0.10:
            customer = f"customer-{dice.randrange(self.size.subscriptions):04d}"
            world.gateway.declining ^= {customer}
            self.counts["card changes"] += 1
        elif roll < 0.104:
            world.cancel(dice.choice(world.subscriptions))
            self.counts["cancellations"] += 1
        elif roll < 0.108:
            world.stop_charging()
            self.counts["stops"] += 1
        elif roll < 0.2:
            world.resume_charging()
        elif roll < 0.205:
            self._backups.append(world.books.backup())
            del self._backups[:-2]
        elif roll < 0.207 and self._backups and not world.books.is_on_hold() and not self.size.in_doubt:
            world.restore(dice.choice(self._backups))
            self._wakes.clear()
            self.counts["restores"] += 1

    def _chores(self) -> None:
        if self.world.books.is_on_hold():
            self.world.lift_hold()
        chores = [self.world.open_due, self.world.sweep, self.world.top_up, self.world.ask_due]
        chores.append(self.world.chase)
        if self.dice.random() < 0.1:
            chores.append(self.world.reconcile)
        for chore in chores:
            roll = self.dice.random()
            if roll < 0.1:
                continue  # a tick is missed
            choose, parks = self._fate_of_process(parked=0.02)
            chore(choose, parks=parks)
            if roll > 0.95:
                chore()  # two beats

    def _messages(self) -> None:
        world, dice = self.world, self.dice
        messages, world.broker = world.broker, []
        if dice.random() < 0.01:
            self.counts["flushes"] += 1
            return  # the broker loses everything
        dice.shuffle(messages)
        for message in messages:
            roll = dice.random()
            if roll < 0.02:
                continue
            if roll < 0.10:
                world.broker.append(message)
                if roll < 0.04:
                    continue  # it comes later; else it comes twice
            self._deliver(message)

    def _deliver(self, message: Message) -> None:
        choose, parks = self._fate_of_process()
        self.world.deliver(message, choose, parks=parks)
        self.counts["processes"] += 1

    def _parked(self) -> None:
        world, dice = self.world, self.dice
        for process in tuple(world.stage.parked):
            roll = dice.random()
            if roll < 0.02 or (roll < 0.4 and len(world.stage.parked) > MOST_PARKED):
                self._wakes.pop(process, None)
                world.stage.kill(process)
            elif roll < self._wakes.setdefault(process, dice.choice(WAKING)):
                del self._wakes[process]
                world.stage.go_on(process, self._fate_of_process()[0])
                self.counts["resumed"] += 1

    def _fate_of_process(self, parked: float = 0.10) -> tuple[Choose, bool]:
        """Straight on, or dead or parked at one of its next stops."""
        roll = self.dice.random()
        if roll > KILLED + parked:
            return straight_on, False
        left = self.dice.randrange(1, 13)
        move = Move.KILL if roll < KILLED else Move.PARK

        def choose(stop: str) -> Move:
            nonlocal left
            left -= 1
            # Nobody parks with locks held: others would wait for it, as in life.
            return move if left <= 0 and not (move is Move.PARK and stop in LOCKED) else Move.PASS

        return choose, move is Move.PARK

    def _weather(self) -> Weather:
        fate = self.dice.choices(self._fates, self._weights)[0]
        match fate:
            case Fate.SLOW | Fate.SHOWN_LATE:
                return Weather(fate, timedelta(seconds=self.dice.uniform(1, SLOWEST)))
            case Fate.SHOWN_HOURS_LATE | Fate.UNCLEAR_HOURS_LATE:
                return Weather(fate, timedelta(seconds=self.dice.uniform(SLOWEST, LATEST_SHOWN)))
            case Fate.LATE_PAID | Fate.UNCLEAR_PAID:
                return Weather(fate, timedelta(hours=self.dice.uniform(1, 100)))
            case _:
                return Weather(fate)
