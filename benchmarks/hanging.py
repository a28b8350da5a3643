"""An account whose look-ups hang, beside another one's charges: how long these take with it and without it."""

from collections import deque
from dataclasses import asdict, dataclass, replace

from benchmarks import shop
from benchmarks.charging import ready
from benchmarks.place import LightGateway, Place, placed
from schedules.charging.outcomes import Unknown
from tests.doubles import ScriptedGateway
from worker.charging import attempt_charge
from worker.clock import elapsed

IN_DOUBT = 60  # attempts of the account whose look-ups hang
CHARGES = 500  # of the other account
THREADS = 4  # of the only worker
HANGS = 30.0  # seconds until a look-up is answered
MOST_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Hanging:
    """The seconds that the charges of an account take, and how many of them were sent."""

    in_doubt: int
    hangs: float  # seconds of each look-up
    charges: int
    without_s: float
    beside_s: float
    look_ups_begun: int


def hanging(charges: int = CHARGES) -> dict[str, float]:
    """Measure the same charges twice, without and with the other account."""
    without, _ = _seconds(charges, 0)
    beside, begun = _seconds(charges, IN_DOUBT)
    return asdict(Hanging(IN_DOUBT, HANGS, charges, without, beside, begun))


def _seconds(charges: int, in_doubt: int) -> tuple[float, int]:
    with (
        LightGateway() as gateway,
        LightGateway(look_up=HANGS) as slow,
        placed(gateway.url, AGAIN_CONCURRENCY=str(THREADS)) as place,
    ):
        file = place.logs / "accounts.toml"
        file.write_text(f"[accounts.second]\nportone_url = {slow.url!r}\nkey = 'k'\nsecret = 's'\n")
        file.chmod(0o600)
        place.environment["AGAIN_ACCOUNTS_FILE"] = str(file)
        shop.on_sale(place)
        shop.charges_due(place, charges)
        _in_doubt(place, in_doubt, charges + 1)
        place.start("worker")
        ready(place, 1)
        began = elapsed()
        place.start("beat")
        left = "SELECT count(*) FROM charges WHERE account = 'main' AND status <> 'paid'"
        place.wait_for(left, 0, MOST_SECONDS)
        seconds = elapsed() - began
        begun = place.ask("SELECT count(*) FROM attempts WHERE asks > 0")
        doubles = gateway.seen().doubles
    if doubles:
        raise SystemExit(f"{doubles} charges were sent twice")
    return seconds, begun


def _in_doubt(place: Place, many: int, first: int) -> None:
    """Write so many charges of the second account whose attempts have an unknown outcome."""
    if not many:
        return
    shop.charges_due(place, many, "second", first)
    calls = ScriptedGateway()
    calls.answers = deque([Unknown("ReadTimeout")] * many)
    account = replace(place.services.settings.main_account, name="second", rate=0)
    offline = replace(place.services, gateways={"second": calls}, accounts={"second": account})
    for number in range(first, first + many):
        attempt_charge.attempt(offline, number)
    place.execute("UPDATE attempts SET next_ask_at = now()")
