"""What tests arrange: plans, customers and subscriptions, with everything unsaid chosen."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import select

from schedules.cadence import Every, Unit
from schedules.money import Money
from schedules.plans import Plan
from schedules.policies import DunningPolicy
from worker.clock import FixedClock
from worker.store.schema import attempts, charges
from worker.workflows import charging, enrolling, opening
from worker.workflows.services import Services

START = datetime(2026, 1, 31, 0, 0, tzinfo=UTC)  # 09:00 in Seoul, the billing time
LADDER = DunningPolicy(ladder=(timedelta(days=1), timedelta(days=3)))
MONTHLY = Plan(
    code="monthly", version=1, price=Money(9900, "KRW"), cadence=Every(1, Unit.MONTH), statement_name="월간 구독"
)


def on_sale(services: Services, plan: Plan = MONTHLY, policy: DunningPolicy = LADDER, **changes: Any) -> Plan:
    """A plan that is on sale."""
    return enrolling.add_plan(services, replace(plan, **changes), policy, "test").plan


def subscribed(
    services: Services, customer_uid: str = "ann", code: str = "monthly", anchor: date | None = None
) -> str:
    """A customer on a plan; answers the subscription's key."""
    enrolling.add_customer(services, customer_uid, None, None, None, "test")
    return enrolling.subscribe(services, customer_uid, code, "test", anchor).key


def opened(services: Services, customer_uid: str = "ann", **changes: Any) -> int:
    """A customer's first charge, due now; answers its row id."""
    on_sale(services, **changes)
    subscribed(services, customer_uid)
    opening.open_due(services)
    return charge_rows(services)[0]["id"]  # type: ignore[no-any-return]  # a row's values are untyped


def collect_due(services: Services) -> None:
    """Open what is due, and try every charge that is due once, as the workers would."""
    opening.open_due(services)
    now = services.clock.now()
    for row in charge_rows(services):
        if row["next_attempt_at"] is not None and row["next_attempt_at"] <= now:
            charging.attempt(services, row["id"])


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


def attempt_rows(services: Services) -> Sequence[dict[str, Any]]:
    """All attempts, oldest first."""
    with services.engine.begin() as db:
        return [dict(row) for row in db.execute(select(attempts).order_by(attempts.c.id)).mappings()]
