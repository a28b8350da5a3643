"""Moving in: each goes on where the system before has stopped; no date is charged by both, and none by neither."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import text

from schedules.calendar.cadence import Every, Unit
from schedules.requests.batches import Line
from schedules.requests.imports import COLUMNS
from tests.doubles import ScriptedGateway
from tests.factories import START, charge_rows, move_to, on_sale
from tests.scenarios.living import live_until
from tests.simulator.running import RunningSimulator, running_simulator
from worker import failpoints
from worker.batches.drafts import BadLines
from worker.clock import FixedClock
from worker.customers import adjust, enrollment
from worker.customers.enrollment import CannotEnroll
from worker.failpoints import Failpoint
from worker.gateway.port import KeyAnswer
from worker.gateway.portone_v1.client import PortOneV1
from worker.gateway.portone_v1.tokens import MemoryTokens
from worker.onboarding import import_file, takeover
from worker.onboarding.import_file import CannotGoOn
from worker.onboarding.takeover import CannotTakeOver
from worker.services import Services
from worker.store.customers import customers
from worker.wiring import gateway_settings

WHY = ("kim", "moving in")


def line(number: int = 2, **columns: str) -> Line:
    """A line of a file."""
    usual = {"customer_uid": "ann", "plan": "monthly", "next_date": "2026-02-28", "anchor": "2025-12-31"}
    return Line(number, {name: (usual | columns).get(name, "") for name in COLUMNS})


def imported(services: Services, *lines: Line) -> int:
    """Checked and written, as the command does."""
    import_file.check(services, lines)
    return import_file.write(services, lines, *WHY)


def dates(services: Services) -> list[tuple[int, str]]:
    """Each charge's period and day in Seoul."""
    return [(row["period_no"], f"{row['due_at'] + timedelta(hours=9):%m-%d}") for row in charge_rows(services)]


def test_it_goes_on_by_its_own_anchor_and_charges_nothing_of_before(services: Services) -> None:
    on_sale(services)
    assert imported(services, line()) == 1
    live_until(services, START + timedelta(days=1))
    assert not charge_rows(services)
    live_until(services, datetime(2026, 5, 1, tzinfo=UTC))
    assert dates(services) == [(2, "02-28"), (3, "03-31"), (4, "04-30")]


def test_the_same_file_twice_writes_each_once(services: Services) -> None:
    """The guard: one_subscription_for_each_external_ref."""
    on_sale(services)
    lines = [line(n + 2, customer_uid=f"c{n}") for n in range(5)]
    assert imported(services, *lines[:3]) == 3
    assert import_file.check(services, lines).known == 3
    assert import_file.write(services, lines, *WHY) == 2
    assert import_file.write(services, lines, *WHY) == 0
    with services.engine.begin() as db:
        assert db.execute(text("SELECT count(*) FROM subscriptions")).scalar_one() == 5


BAD = (
    ({"customer_uid": ""}, "customer_uid"),
    ({"customer_uid": "gone"}, "customer_uid"),
    ({"customer_uid": "4111111111111111"}, "customer_uid"),
    ({"plan": "nothing"}, "plan"),
    ({"next_date": "28.02.2026"}, "next_date"),
    ({"next_date": "2026-02-27"}, "next_date"),
    ({"next_date": "2026-01-31"}, "next_date"),
    ({"next_date": "2025-12-31"}, "next_date"),
    ({"anchor": "2026-03-31"}, "anchor"),
    ({"anchor": "x"}, "anchor"),
    ({"name": "n" * 17}, "name"),
    ({"account": "other"}, "account"),
    ({"customer_uid": "twice", "external_ref": "one"}, "external_ref"),
)


def test_each_bad_line_is_named_and_nothing_is_written(services: Services, gateway: ScriptedGateway) -> None:
    on_sale(services)
    gateway.missing_keys.add("gone")
    lines = [line(2, customer_uid="first", external_ref="one")]
    lines += [line(100 + n, **({"customer_uid": f"c{n}"} | columns)) for n, (columns, _) in enumerate(BAD)]
    with pytest.raises(BadLines) as error:
        imported(services, *lines)
    assert {(bad.number, bad.column) for bad in error.value.bad} == {
        (100 + n, column) for n, (_, column) in enumerate(BAD)
    }
    assert "4111111111111111" not in str(error.value)
    with services.engine.begin() as db:
        assert db.execute(text("SELECT count(*) FROM subscriptions")).scalar_one() == 0


def test_who_is_on_the_plan_by_hand_is_not_imported_beside_it(services: Services) -> None:
    on_sale(services)
    imported(services, line())
    with pytest.raises(BadLines, match="is on plan 'monthly' already"):
        imported(services, line(external_ref="another"))


@pytest.mark.parametrize("are_known", [True, False], ids=["known customers", "new customers"])
def test_two_imports_whose_lines_come_in_another_order_both_end(services: Services, are_known: bool) -> None:
    """Guard: each import locks the customers of its lines in one order, so that neither blocks the other."""
    on_sale(services)
    uids = [f"c{n:03}" for n in range(80)]
    if are_known:
        with services.engine.begin() as db:
            for uid in uids:
                customers.add_key(db, customers.add(db, uid, None, None, None, START), uid, "main", {}, START)
    lines = [line(n, customer_uid=uid, external_ref=f"ref-{uid}") for n, uid in enumerate(uids, start=2)]
    begin = Barrier(2)

    def write(ordered: list[Line]) -> int:
        begin.wait(20)
        return import_file.write(services, ordered, *WHY)

    with ThreadPoolExecutor(2) as pool:
        written = list(pool.map(write, [lines, lines[::-1]]))
    assert sum(written) == len(uids)


class Watching(ScriptedGateway):
    """A gateway that looks, whenever it is asked for a card, whether a customer could be locked just then."""

    def __init__(self, services: Services) -> None:
        super().__init__()
        self.services = services
        self.free: list[bool] = []

    def read_key(self, customer_uid: str) -> KeyAnswer:
        query = "SELECT count(*) FROM (SELECT FROM customers FOR UPDATE SKIP LOCKED) unlocked"
        with self.services.engine.begin() as db:
            free = db.execute(text(query)).scalar_one()
            self.free.append(free == db.execute(text("SELECT count(*) FROM customers")).scalar_one())
        return super().read_key(customer_uid)


def test_the_check_of_a_file_locks_no_customer_while_it_asks_the_gateway(services: Services) -> None:
    """Guard: a check takes hours, and a locked customer can neither subscribe nor be signed up."""
    on_sale(services)
    enrollment.add_customer(services, "ann", None, None, None, "test")
    gateway = Watching(services)
    lines = [line(2), line(3, customer_uid="new")]
    assert import_file.check(replace(services, gateways={"main": gateway}), lines).new == 2
    assert gateway.free == [True]


@pytest.fixture
def simulator() -> Iterator[RunningSimulator]:
    """PortOne, with its own timer and ledger."""
    with running_simulator() as running:
        yield running


@pytest.fixture
def shop(services: Services, simulator: RunningSimulator) -> Iterator[Services]:
    """A shop at the simulator, whose clock goes with ours."""
    settings = services.settings.model_copy(update={"portone_url": simulator.url})
    account = replace(settings.main_account, portone_url=simulator.url)
    credentials = gateway_settings(settings, account)
    gateway = PortOneV1(replace(credentials, imp_key="sim_key", imp_secret="sim_secret"), MemoryTokens())
    made = replace(services, settings=settings, gateways={"main": gateway})
    simulator.tell("clock", {"now": START.timestamp()})
    simulator.card("ann")
    on_sale(made)
    yield made
    gateway.close()


def booked(simulator: RunningSimulator, *ats: datetime, amount: int = 9900) -> None:
    """PortOne's timer charges ann at these instants."""
    wishes = [
        {
            "merchant_uid": f"old{at:%Y%m%d%H%M}",
            "schedule_at": int(at.timestamp()),
            "amount": amount,
            "name": "old",
        }
        for at in ats
    ]
    body = {"customer_uid": "ann", "schedules": wishes}
    assert simulator.call("POST", "/subscribe/payments/schedule", json=body).json()["code"] == 0


def month(number: int, day: int = 15, hour: int = 12) -> datetime:
    """A day of a month of 2026, at an hour in Seoul."""
    return datetime(2026, number, day, hour, tzinfo=UTC) - timedelta(hours=9)


def lived(shop: Services, simulator: RunningSimulator, until: datetime) -> list[str]:
    """Both clocks go on for some months; the days on which ann was charged, by anybody."""
    clock = shop.clock
    assert isinstance(clock, FixedClock)
    while clock.at < until:
        # Noon in Seoul of each day: both timers have charged by then what is that day's.
        noon = clock.at.replace(hour=3, minute=0)
        live_until(shop, min(until, noon if noon > clock.at else noon + timedelta(days=1)))
        simulator.tell("clock", {"now": clock.at.timestamp()})
        simulator.call("GET", "/subscribe/payments/schedule/customers/ann")
    return [f"{datetime.fromtimestamp(m['at'], UTC) + timedelta(hours=9):%m-%d}" for m in simulator.movements()]


def test_the_timer_stops_and_we_go_on_at_its_dates_and_time(shop: Services, simulator: RunningSimulator) -> None:
    booked(simulator, month(2), month(3), month(4))
    cursor = takeover.take_over(shop, "ann", "monthly", *WHY)
    assert cursor.due_at == month(2)
    assert lived(shop, simulator, month(6)) == ["02-15", "03-15", "04-15", "05-15"]
    with pytest.raises(CannotTakeOver, match="already"):
        takeover.take_over(shop, "ann", "monthly", *WHY)


def test_a_timer_on_the_31st_is_taken_over_in_february(shop: Services, simulator: RunningSimulator) -> None:
    booked(simulator, month(2, 28), month(3, 31))
    takeover.take_over(shop, "ann", "monthly", *WHY)
    assert lived(shop, simulator, month(6)) == ["02-28", "03-31", "04-30", "05-31"]


def test_what_is_due_within_the_hour_is_left_to_the_timer(shop: Services, simulator: RunningSimulator) -> None:
    soon = START + timedelta(minutes=30)
    booked(simulator, soon, month(2, 28), month(3, 28))
    assert takeover.take_over(shop, "ann", "monthly", *WHY).due_at == month(2, 28)
    assert lived(shop, simulator, month(4, 20)) == ["01-31", "02-28", "03-28"]


@pytest.mark.parametrize(
    ("ats", "amount", "words"),
    [
        ((), 9900, "nothing is scheduled"),
        ((month(2), month(3)), 9800, "the plan 9,900 KRW"),
        ((month(2), month(4)), 9900, "the plan's next is 2026-03-15"),
        ((month(2), month(3, hour=13)), 9900, "different times of day"),
    ],
)
def test_what_does_not_fit_the_plan_stays_where_it_is(
    shop: Services, simulator: RunningSimulator, ats: tuple[datetime, ...], amount: int, words: str
) -> None:
    if ats:
        booked(simulator, *ats, amount=amount)
    with pytest.raises(CannotTakeOver, match=words):
        takeover.take_over(shop, "ann", "monthly", *WHY)
    with shop.engine.begin() as db:
        assert db.execute(text("SELECT count(*) FROM takeovers")).scalar_one() == 0


class Killed(BaseException):
    """The process is gone."""


def killed_at(point: Failpoint) -> Callable[[Failpoint, str], None]:
    """Somebody who kills the process at this point."""

    def visit(reached: Failpoint, subject: str) -> None:
        if reached is point:
            raise Killed

    return visit


@pytest.mark.parametrize("point", [Failpoint.TAKING_OVER_MEANT, Failpoint.TAKING_OVER_REVOKED])
@pytest.mark.parametrize("waits", [timedelta(minutes=1), timedelta(days=20)])
def test_killed_at_any_point_it_goes_on_and_each_date_is_charged_once(
    shop: Services,
    simulator: RunningSimulator,
    monkeypatch: pytest.MonkeyPatch,
    point: Failpoint,
    waits: timedelta,
) -> None:
    """The guard: the intent before the call. The ledger of the gateway is the witness."""
    booked(simulator, month(2), month(3), month(4))
    with monkeypatch.context() as patched:
        patched.setattr(failpoints, "_action", killed_at(point))
        with pytest.raises(Killed):
            takeover.take_over(shop, "ann", "monthly", *WHY)
    lived(shop, simulator, START + waits)
    assert takeover.go_on(shop, "main") == 1
    assert takeover.go_on(shop, "main") == 0
    charged = lived(shop, simulator, month(5, 20))
    assert charged[1:] == ["03-15", "04-15", "05-15"]
    assert charged[0] == ("02-20" if point is Failpoint.TAKING_OVER_REVOKED and waits.days else "02-15")


def test_nobody_subscribes_between_the_two_halves_of_a_takeover(
    shop: Services, simulator: RunningSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard: a takeover that is begun counts as a subscription. The gateway's ledger is the witness."""
    booked(simulator, month(2), month(3))
    with monkeypatch.context() as patched:
        patched.setattr(failpoints, "_action", killed_at(Failpoint.TAKING_OVER_REVOKED))
        with pytest.raises(Killed):
            takeover.take_over(shop, "ann", "monthly", *WHY)
    with pytest.raises(CannotEnroll, match="has a takeover to plan 'monthly' under way"):
        enrollment.subscribe(shop, "ann", "monthly", "kim")
    assert takeover.go_on(shop, "main") == 1
    assert lived(shop, simulator, month(4)) == ["02-15", "03-15"]


def test_who_is_on_the_plan_by_another_card_is_taken_over_only_if_asked_for(
    shop: Services, simulator: RunningSimulator
) -> None:
    simulator.tell("cards", {"customer_uid": "ann-2"})
    enrollment.add_customer(shop, "ann", None, None, None, "kim")
    enrollment.add_customer(shop, "ann-2", None, None, None, "kim", of="ann")
    key = enrollment.subscribe(shop, "ann-2", "monthly", "kim", date(2026, 3, 1)).key
    booked(simulator, month(2), month(3))
    with pytest.raises(CannotTakeOver, match=f"by subscription {key}; say --another"):
        takeover.take_over(shop, "ann", "monthly", *WHY)
    assert takeover.take_over(shop, "ann", "monthly", *WHY, another=True).due_at == month(2)
    with shop.engine.begin() as db:
        assert db.execute(text("SELECT count(*) FROM subscriptions WHERE held_why IS NULL")).scalar_one() == 2


def test_one_that_is_not_surely_revoked_is_not_begun(
    shop: Services, simulator: RunningSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard: it is read back. An answer that says it is done is not enough."""
    booked(simulator, month(2), month(3))
    deaf: Any = type("Deaf", (), {"unschedule": lambda *_: None})()
    gateway = shop.gateways["main"]
    monkeypatch.setattr(gateway, "unschedule", deaf.unschedule)
    with pytest.raises(CannotTakeOver, match="not surely revoked"):
        takeover.take_over(shop, "ann", "monthly", *WHY)
    monkeypatch.undo()
    assert takeover.go_on(shop, "main") == 1
    assert lived(shop, simulator, month(4)) == ["02-15", "03-15"]


def test_a_copy_of_the_database_takes_nothing_over(shop: Services, simulator: RunningSimulator) -> None:
    booked(simulator, month(2))
    with pytest.raises(CannotTakeOver, match="copy"):
        takeover.take_over(replace(shop, fingerprint_in=lambda _: "of a copy"), "ann", "monthly", *WHY)


def test_what_was_taken_over_can_be_changed_like_any_other(shop: Services, simulator: RunningSimulator) -> None:
    booked(simulator, month(2), month(3))
    takeover.take_over(shop, "ann", "monthly", *WHY)
    on_sale(shop, code="yearly", cadence=Every(1, Unit.YEAR))
    with shop.engine.begin() as db:
        key = db.execute(text("SELECT key FROM subscriptions")).scalar_one()
    assert adjust.change_plan(shop, key, "yearly", *WHY).next.due_at == month(2)


def test_a_line_that_is_too_late_when_it_is_written_is_named_and_the_file_goes_on(services: Services) -> None:
    on_sale(services)
    lines = [line(2, customer_uid="c1"), line(3, customer_uid="c2", next_date="2026-03-31")]
    import_file.check(services, lines)
    move_to(services, datetime(2026, 2, 28, tzinfo=UTC))
    with pytest.raises(CannotGoOn, match="line 2, next_date"):
        import_file.write(services, lines, *WHY)
    mended = line(2, customer_uid="c1", next_date="2026-03-31")
    assert import_file.write(services, [mended, lines[1]], *WHY) == 2
