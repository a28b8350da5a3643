"""What tests arrange: plans, customers and subscriptions, with everything unsaid chosen."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Engine, select, text

from schedules.calendar.cadence import Every, Unit
from schedules.calendar.zones import zone
from schedules.charging.charges import AttemptState
from schedules.dunning.policies import DunningPolicy
from schedules.money.amounts import Money
from schedules.subscriptions.plans import Plan
from worker.charging import attempt_charge
from worker.charging.executor import Executor
from worker.clock import FixedClock, wait_until
from worker.customers import enrollment
from worker.reconciliation import payment_webhooks
from worker.renewals import open_charges
from worker.services import Services
from worker.store.tables import attempts, charges

START = datetime(2026, 1, 31, 0, 0, tzinfo=UTC)  # 09:00 in Seoul, the billing time
# Gives all debts the card of one of them.
OTHER_DEBT = "UPDATE charges SET billing_key_id = (SELECT billing_key_id FROM charges WHERE id = :charge)"
LADDER = DunningPolicy(ladder=(timedelta(days=1), timedelta(days=3)))
MONTHLY = Plan(
    code="monthly", version=1, price=Money(9900, "KRW"), cadence=Every(1, Unit.MONTH), statement_name="월간 구독"
)


def on_sale(services: Services, plan: Plan = MONTHLY, policy: DunningPolicy = LADDER, **changes: Any) -> Plan:
    """A plan on sale. Under a real clock `MONTHLY` bills at the present minute, so that what begins is due."""
    if plan is MONTHLY and not isinstance(services.clock, FixedClock):
        local = services.clock.now().astimezone(zone(MONTHLY.zone))
        changes.setdefault("billing_time", local.time().replace(second=0, microsecond=0))
    return enrollment.add_plan(services, replace(plan, **changes), policy, "test").plan


def subscribed(
    services: Services, customer_uid: str = "ann", code: str = "monthly", anchor: date | None = None
) -> str:
    """A customer on a plan; answers the subscription's key."""
    enrollment.add_customer(services, customer_uid, None, None, None, "test")
    return enrollment.subscribe(services, customer_uid, code, "test", anchor).key


def opened(services: Services, customer_uid: str = "ann", **changes: Any) -> int:
    """A customer's first charge, due now; answers its row id."""
    on_sale(services, **changes)
    subscribed(services, customer_uid)
    open_charges.open_due(services)
    return charge_rows(services)[0]["id"]  # type: ignore[no-any-return]  # a row's values are untyped


def many_opened(services: Services, many: int) -> list[int]:
    """So many customers, each with a charge that is due; the charges' row ids."""
    on_sale(services)
    for number in range(many):
        subscribed(services, f"customer-{number}")
    open_charges.open_due(services)
    return [row["id"] for row in charge_rows(services)]


def write(services: Services, statement: str, charge_id: int) -> None:
    """Run a statement about one charge."""
    with services.engine.begin() as db:
        db.execute(text(statement), {"charge": charge_id})


def with_settings(services: Services, **changes: Any) -> Services:
    """The same services under other settings."""
    return replace(services, settings=services.settings.model_copy(update=changes))


_executors: WeakKeyDictionary[Engine, Executor] = WeakKeyDictionary()


def in_an_executor(services: Services) -> Services:
    """The same services; from now on `collect` tries their charges in an executor, as a worker does."""
    _executors[services.engine] = Executor(services)
    return services


def collect(services: Services, charge_id: int) -> AttemptState | None:
    """Try once to collect a charge: in the executor of these services where they have one, else by itself.

    An executor that has the gateway asked first tries it after a clear answer; the state is that of this try.
    """
    executor = _executors.get(services.engine)
    if executor is None:
        return attempt_charge.attempt(services, charge_id)
    executor.use(services)
    before = _asked_at(services, charge_id)
    state = executor.attempt(charge_id)
    assert wait_until(executor.look_ups.is_idle, 20)
    if state is not None or _asked_at(services, charge_id) == before:
        return state
    states = [row["state"] for row in attempt_rows(services) if row["charge_id"] == charge_id]
    return AttemptState(states[-1]) if states else None


def blocked_or_over(services: Services, is_over: Callable[[], bool]) -> bool:
    """Wait until a transaction waits for a lock of another one, or what waits is over; False if neither comes."""
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"

    def is_blocked_or_over() -> bool:
        with services.engine.begin() as db:
            return is_over() or db.execute(text(waiting)).first() is not None

    return wait_until(is_blocked_or_over, 20)


def collect_due(services: Services) -> None:
    """Open what is due, and try every charge that is due once, as the workers would."""
    open_charges.open_due(services)
    now = services.clock.now()
    for row in charge_rows(services):
        if row["next_attempt_at"] is not None and row["next_attempt_at"] <= now:
            collect(services, row["id"])


def _asked_at(services: Services, charge_id: int) -> datetime | None:
    (at,) = (row["asked_at"] for row in charge_rows(services) if row["id"] == charge_id)
    return at  # type: ignore[no-any-return]  # a row's values are untyped


def heard(services: Services, merchant_uid: str) -> None:
    """Hear a webhook, and look up at once what it was about."""
    payment_webhooks.hear(services, merchant_uid, at_once)


def at_once(
    account: str, name: str, look_up: Callable[[], object], if_stopped: Callable[[], object] = lambda: None
) -> bool:
    """Carry a look-up out here and now."""
    look_up()
    return True


def move(services: Services, **by: float) -> datetime:
    """Let time pass; answers what time it is then."""
    clock = services.clock
    assert isinstance(clock, FixedClock)
    clock.at += timedelta(**by)
    return clock.at


def move_to(services: Services, at: datetime) -> None:
    """Make it this time."""
    clock = services.clock
    assert isinstance(clock, FixedClock)
    clock.at = at


def charge_rows(services: Services) -> Sequence[dict[str, Any]]:
    """All charges, by due time."""
    with services.engine.begin() as db:
        return [
            dict(row) for row in db.execute(select(charges).order_by(charges.c.due_at, charges.c.id)).mappings()
        ]


def held_events(services: Services) -> list[str]:
    """The charges that an event was sent about because they are held, one for each event."""
    with services.engine.begin() as db:
        query = "SELECT payload ->> 'charge' FROM outbox WHERE kind = 'charge.held' ORDER BY id"
        return list(db.execute(text(query)).scalars())


def attempt_rows(services: Services) -> Sequence[dict[str, Any]]:
    """All attempts, oldest first."""
    with services.engine.begin() as db:
        return [dict(row) for row in db.execute(select(attempts).order_by(attempts.c.id)).mappings()]
