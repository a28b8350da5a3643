"""What came of a population under each policy: money over days, tries, and customers lost."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from worker.synthetic.contenders import Contender
from worker.synthetic.living import End, Life, lived
from worker.synthetic.population import Customer

A_DAY = timedelta(days=1)


@dataclass(slots=True)
class Result:
    """A policy's result on a population; sums in KRW."""

    name: str
    days: int
    customers: int = 0
    failed: int = 0
    recovered_on: list[int] = field(default_factory=list)  # by days since the first decline, begun ones counted
    tries: int = 0
    most_tries: int = 0
    tries_at_dead_cards: int = 0
    collected: int = 0  # debts, by a try
    paid_otherwise: int = 0
    lost: int = 0

    def __post_init__(self) -> None:
        self.recovered_on = [0] * (self.days + 1)

    def add(self, life: Life) -> None:
        """Count one debt."""
        self.customers += 1
        self.failed += life.customer.amount
        self.tries += len(life.tries)
        self.most_tries = max(self.most_tries, len(life.tries))
        self.tries_at_dead_cards += life.tries_at_dead_cards
        self.collected += life.end is End.COLLECTED
        self.paid_otherwise += life.end is End.PAID_OTHERWISE
        self.lost += life.end in (End.GIVEN_UP, End.LEFT)
        if life.is_paid and life.ended_at is not None:
            self.recovered_on[-((life.customer.failed_at - life.ended_at) // A_DAY)] += life.customer.amount

    @property
    def curve(self) -> list[float]:
        """Percent of the failed sum that had come when 0, 1, 2 … days had passed since the first decline."""
        come, shares = 0, []
        for recovered in self.recovered_on:
            come += recovered
            shares.append(100 * come / max(1, self.failed))
        return shares

    def recovered_by(self, day: int) -> float:
        """Percent of the failed sum that had come when so many days had passed."""
        return self.curve[min(day, self.days)]

    @property
    def recovered(self) -> float:
        """Percent of the failed sum that came in the end."""
        return self.curve[-1]

    @property
    def tries_for_each_recovery(self) -> float | None:
        """Tries, those in vain too, for each debt that a try collected; None when none did."""
        return self.tries / self.collected if self.collected else None

    @property
    def lost_share(self) -> float:
        """Percent of customers who left, or whose debt was given up."""
        return 100 * self.lost / max(1, self.customers)


def compare(
    customers: Iterable[Customer],
    contenders: Sequence[Contender],
    days: int,
    told: Callable[[], object] = lambda: None,
) -> list[Result]:
    """Let each policy collect from the same customers; `told` is called after each of them."""
    results = [Result(contender.name, days) for contender in contenders]
    for customer in customers:
        for contender, result in zip(contenders, results, strict=True):
            result.add(lived(customer, contender, days))
        told()
    return results
