"""Foreseeing: who will be charged on a day, how much and why; nothing is written."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from schedules.charges import ChargeKind
from schedules.identity import charge_key
from schedules.money import Money
from schedules.plans import at_own_time
from schedules.subscriptions import Cursor, advance
from schedules.zones import day_bounds, local_date, zone
from worker.store import charges, subscriptions
from worker.store.plans import StoredPlan
from worker.workflows.services import Services

PAGE = 1000  # subscriptions read at once, so that memory stays flat
EARLIEST_OFFSET = timedelta(hours=14)  # no zone is further ahead of UTC, and none 14 hours behind


@dataclass(frozen=True, slots=True)
class Foreseen:
    """A charge that the day will bring, if nothing changes until then."""

    charge: str
    customer_uid: str
    subscription: str | None
    money: Money
    at: datetime
    why: str


def due_on(services: Services, day: date, zone_name: str) -> Iterator[Foreseen]:
    """All that is to be collected on a local day: new periods in their plans' zones, and tries at older debts."""
    with services.engine.begin() as db:
        yield from _tries(db, day, zone_name)
        until = datetime.combine(day, datetime.max.time(), zone("UTC")) + EARLIEST_OFFSET
        after: tuple[datetime, int] | None = None
        while page := subscriptions.looked_at_before(db, until, after, PAGE):
            plans, _ = subscriptions.plans_of(db, {row["plan_id"] for row in page})
            for row in page:
                if (plan := plans.get(row["plan_id"])) is not None:
                    yield from _periods(row, plan, day, services.clock.now())
            after = (page[-1]["open_at"], page[-1]["id"])


def _tries(db: Connection, day: date, zone_name: str) -> Iterator[Foreseen]:
    since, until = day_bounds(day, day, zone(zone_name))
    for row in charges.tried_between(db, since, until):
        tries = row["attempts"]
        why = f"try {tries + 1}, after {row['declines']} declines" if tries else "opened, not tried yet"
        money = Money(row["amount"], row["currency"])
        yield Foreseen(row["key"], row["customer_uid"], row["subscription"], money, row["next_attempt_at"], why)


def _periods(row: dict[str, Any], plan: StoredPlan, day: date, now: datetime) -> Iterator[Foreseen]:
    tz = zone(plan.plan.zone)
    cursor = Cursor(row["next_period_no"], row["next_period_date"], row["next_due_at"])
    while local_date(_collected_at(cursor, now), tz) <= day:
        if row["ends_at"] is not None and cursor.due_at >= row["ends_at"]:
            return
        skipped = cursor.period_no < (row["skip_to"] or 0)
        if local_date(_collected_at(cursor, now), tz) == day and not skipped:
            yield _foreseen(row, plan, cursor, now)
        cursor = advance(at_own_time(plan.plan, row["billing_time"]), row["anchor"], cursor, row["anchor_no"])


def _collected_at(cursor: Cursor, now: datetime) -> datetime:
    return max(cursor.due_at, now)


def _foreseen(row: dict[str, Any], plan: StoredPlan, cursor: Cursor, now: datetime) -> Foreseen:
    why = f"period {cursor.period_no} of plan {plan.plan.code} version {plan.plan.version}"
    if cursor.due_at < now:
        why += f", due since {cursor.due_at:%Y-%m-%d %H:%M}Z; catch-up is {plan.plan.catch_up}"
    key = charge_key(ChargeKind.RENEWAL, row["key"], cursor.period_no)
    return Foreseen(key, row["customer_uid"], row["key"], plan.plan.price, _collected_at(cursor, now), why)


def totals(foreseen: Sequence[Foreseen]) -> dict[str, int]:
    """What is foreseen in all, in minor units by currency."""
    sums: dict[str, int] = {}
    for charge in foreseen:
        sums[charge.money.currency] = sums.get(charge.money.currency, 0) + charge.money.amount
    return sums
