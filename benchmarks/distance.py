"""The calls that are sent with a distant database: a backlog at a cap, with added round-trip times."""

from dataclasses import asdict, dataclass

from benchmarks import shop
from benchmarks.charging import WORKERS, ready
from benchmarks.delay import DelayProxy
from benchmarks.place import LightGateway, placed
from worker.clock import elapsed, wait

ROUND_TRIPS = (0.0, 0.02, 0.08, 0.15)  # seconds
CAP = 50.0  # calls a second
SECONDS = 20  # seconds of work at the cap
MOST_SECONDS = 180.0  # seconds for one backlog


@dataclass(frozen=True, slots=True)
class AtDistance:
    """The figures of one round-trip time between worker and database."""

    round_trip: float
    calls: int
    per_second: float
    most_in_a_second: int
    used: float  # share of the cap that was used
    doubles: int


def distance() -> list[dict[str, float]]:
    """Measure the same backlog at each round-trip time."""
    return [asdict(_at(round_trip)) for round_trip in ROUND_TRIPS]


def _at(round_trip: float) -> AtDistance:
    many = int(CAP * SECONDS)
    with (
        LightGateway() as gateway,
        placed(gateway.url, AGAIN_RATE=str(CAP), AGAIN_CONCURRENCY="64") as place,
        DelayProxy(place.services.settings.sqlalchemy_url, round_trip) as proxy,
    ):
        shop.on_sale(place)
        shop.charges_due(place, many)
        for number in range(WORKERS):
            place.start("worker", "--name", f"w{number}@here", AGAIN_DATABASE_URL=proxy.url)
        ready(place)
        place.start("beat")
        end = elapsed() + MOST_SECONDS
        while place.ask("SELECT count(*) FROM charges WHERE status <> 'paid'") and elapsed() < end:
            wait(0.5)
        seen = gateway.seen()
    per_second = seen.per_second if len(seen.arrivals) > 1 else 0.0
    most = seen.most_in_a_second() if seen.arrivals else 0
    return AtDistance(round_trip, len(seen.arrivals), per_second, most, per_second / CAP, seen.doubles)
