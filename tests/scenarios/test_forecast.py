"""What was foreseen, held against what was charged when the clock had walked through it."""

from datetime import UTC, date, datetime, time, timedelta

import pytest
from sqlalchemy import select, update

from schedules.calendar.cadence import Cron, Every, Unit
from schedules.calendar.shifts import Shift
from schedules.calendar.zones import zone
from schedules.charging.outcomes import Declined
from schedules.dunning.policies import DunningPolicy, FinalAction
from schedules.money.amounts import Money
from schedules.subscriptions.plans import CatchUp
from tests.doubles import ScriptedGateway
from tests.factories import charge_rows, collect_due, move_to, on_sale, subscribed
from tests.scenarios.living import DAY, kst, live_until
from worker.customers import adjust, enrollment
from worker.reporting import billing_forecast
from worker.reporting.billing_forecast import Asked, Foreseen
from worker.services import Services
from worker.store.tables import attempts, charges, plans, subscriptions

FIRST, LAST = date(2026, 3, 1), date(2026, 4, 30)  # with the first Mondays of summer time in New York and Berlin
AFTER = datetime(2026, 5, 2, tzinfo=UTC)  # the last day is over in every zone of the shop
Told = dict[str, tuple[int, str, datetime, datetime]]  # key -> amount, currency, due, tried at


def open_shop(services: Services, gateway: ScriptedGateway) -> None:
    """Plans of every kind, each with customers whose dates differ, as they stand on the first of March."""
    on_sale(services)
    on_sale(services, code="weekly", cadence=Every(1, Unit.WEEK), price=Money(1900, "KRW"))
    on_sale(services, code="york", zone="America/New_York", billing_time=time(2, 30), price=Money(999, "USD"),
            cadence=Every(1, Unit.WEEK))  # fmt: skip
    on_sale(services, code="cron", cadence=Cron("0 7 1,15 * *"), billing_time=time(7))
    on_sale(services, code="trial", trial_days=14)
    on_sale(services, code="shifted", shift=Shift.NEXT, holidays="KR")
    on_sale(services, code="before", shift=Shift.PREVIOUS, holidays="KR", cadence=Every(2, Unit.WEEK))
    on_sale(services, code="daily", cadence=Every(1, Unit.DAY), shift=Shift.NEXT, holidays="KR", catch_up_cap=2)
    on_sale(services, code="latest", cadence=Every(1, Unit.DAY), shift=Shift.NEXT, holidays="KR",
            catch_up=CatchUp.LATEST)  # fmt: skip
    on_sale(services, code="fiji", zone="Pacific/Kiritimati", billing_time=time(0), cadence=Every(10, Unit.DAY))
    on_sale(services, code="resting", policy=DunningPolicy(ladder=(), final=FinalAction.PAUSE))
    for anchor in (date(2026, 1, 31), date(2026, 2, 1), date(2026, 2, 15), date(2026, 3, 20), date(2026, 5, 1)):
        for code in ("monthly", "weekly", "york", "cron", "shifted", "before", "daily", "latest", "fiji"):
            subscribed(services, f"{code}-{anchor}", code, anchor)
    on_sale(
        services, code="last", zone="America/Los_Angeles", billing_time=time(23, 30), cadence=Every(1, Unit.DAY)
    )
    subscribed(services, "evening", "last", date(2026, 4, 30))  # its last day ends when Seoul is far into the next
    subscribed(services, "twin", "weekly", date(2026, 2, 1))  # stands as another one does
    subscribed(services, "tries", "trial", date(2026, 2, 20))
    leaves = subscribed(services, "leaves", "monthly", date(2026, 2, 10))
    subscribed(services, "rests", "resting", date(2026, 2, 10))
    gateway.cards["rests"] = lambda _: Declined("분실 카드")
    own = {
        name: subscribed(services, name, "weekly", date(2026, 2, 3)) for name in ("skip", "time", "day", "plan")
    }
    paused = subscribed(services, "paused", "weekly", date(2026, 2, 3))
    live_until(services, kst(2026, 3, 1, 0))
    enrollment.unsubscribe(services, leaves, "tester", "moves away", at_period_end=True)
    on_sale(services, price=Money(12_900, "KRW"))  # who is on the plan keeps the price that he has
    subscribed(services, "pays more", "monthly")
    adjust.skip(services, own["skip"], "tester", "holidays")
    adjust.move_time(services, own["time"], time(23, 45), "tester", "after work")
    adjust.move_anchor(services, own["day"], date(2026, 3, 31), "tester", "on payday")
    adjust.change_plan(services, own["plan"], "monthly", "tester", "has enough")
    adjust.pause(services, paused, "tester", "on a journey")


def foreseen(services: Services, plan: str | None = None) -> Told:
    """Everything that will be charged, by key."""
    told = [
        f for f in billing_forecast.foresee(services, Asked(FIRST, LAST, "Asia/Seoul", plan)) if f.left_out is None
    ]
    found = {f.charge: (f.money.amount, f.money.currency, f.due_at, f.at) for f in told}
    assert len(found) == len(told)
    return found


def charged(services: Services, first: date = FIRST, last: date = LAST) -> Told:
    """What was paid, by the day in each plan's own zone, at the time when it was tried."""
    a, c = attempts.c, charges.c
    query = (
        select(c.key, a.amount, a.currency, c.due_at, a.last_sent_at, c.subscription_id)
        .join_from(attempts, charges)
        .where(a.state == "paid")
    )
    with services.engine.begin() as db:
        zones = {row.id: row.zone for row in db.execute(select(subscriptions.c.id, plans.c.zone).join(plans))}
        rows = list(db.execute(query))
    return {
        row.key: (row.amount, row.currency, row.due_at, row.last_sent_at)
        for row in rows
        if first <= row.last_sent_at.astimezone(zone(zones[row.subscription_id])).date() <= last
    }


@pytest.fixture
def shop(services: Services, gateway: ScriptedGateway) -> Services:
    """The shop, on the first of March."""
    open_shop(services, gateway)
    return services


def test_two_months_bring_exactly_what_was_foreseen(shop: Services, gateway: ScriptedGateway) -> None:
    told = foreseen(shop)
    totals = billing_forecast.add_up(shop, Asked(FIRST, LAST, "Asia/Seoul"))
    assert len(told) > 250
    live_until(shop, AFTER)
    found = charged(shop)
    assert told == found
    sums: dict[str, int] = {}
    for amount, currency, _, _ in found.values():
        sums[currency] = sums.get(currency, 0) + amount
    assert {day.currency for day in totals.days} == sums.keys() == {"KRW", "USD"}
    for currency, amount in sums.items():
        assert sum(day.amount for day in totals.days if day.currency == currency) == amount
    assert sum(day.periods + day.debts for day in totals.days) == len(found)


def test_an_outage_is_caught_up_as_it_was_foreseen(services: Services, gateway: ScriptedGateway) -> None:
    """Seen in the middle of it: what the cap puts off, what is waived and what waits for an operator are told."""
    every = Every(1, Unit.DAY)
    for code, catch_up in {
        "all": CatchUp.ALL,
        "last": CatchUp.LATEST,
        "no": CatchUp.NONE,
        "ask": CatchUp.ASK,
    }.items():
        on_sale(services, code=code, cadence=every, catch_up=catch_up)
        subscribed(services, code, code)
    live_until(services, kst(2026, 2, 20, 12))
    move_to(services, kst(2026, 3, 1, 12))
    told = foreseen(services)
    everything = list(billing_forecast.foresee(services, Asked(FIRST, LAST, "Asia/Seoul")))
    totals = billing_forecast.add_up(services, Asked(FIRST, LAST, "Asia/Seoul"))
    assert {(left.why.partition(";")[2].strip(), left.charges) for left in totals.left_out} == {
        ("the plan charges the latest period only", 8),
        ("the plan charges no missed period", 8),
        ("the plan asks an operator", 8),
    }
    live_until(services, AFTER)
    assert told == charged(services)
    left_out = {f.charge: f.left_out for f in everything if f.left_out is not None}
    closed = {row["key"]: row["closed_why"] or row["held_why"] for row in charge_rows(services)}
    assert left_out == {key: closed[key] for key in left_out}
    assert len(left_out) == 24


def test_the_days_add_up_to_what_they_bring_one_by_one(shop: Services) -> None:
    each = list(billing_forecast.foresee(shop, Asked(FIRST, LAST, "Asia/Seoul")))
    days: dict[tuple[date, str], int] = {}
    for charge in each:
        if charge.left_out is None:
            at = charge.day, charge.money.currency
            days[at] = days.get(at, 0) + charge.money.amount
    totals = billing_forecast.add_up(shop, Asked(FIRST, LAST, "Asia/Seoul"))
    assert {(day.day, day.currency): day.amount for day in totals.days} == days


def test_a_month_is_its_days(shop: Services) -> None:
    """Nothing falls between two days, and nothing is told on both."""
    day, found = FIRST, []
    while day <= LAST:
        found += list(billing_forecast.foresee(shop, Asked(day, day, "Asia/Seoul")))
        day += timedelta(days=1)
    at_once = list(billing_forecast.foresee(shop, Asked(FIRST, LAST, "Asia/Seoul")))
    assert sorted(found, key=_order) == sorted(at_once, key=_order)


def _order(charge: Foreseen) -> str:
    return charge.charge


def test_one_plan_is_all_its_versions_and_nothing_else(shop: Services) -> None:
    told = foreseen(shop, "monthly")
    assert {(amount, currency) for amount, currency, _, _ in told.values()} == {(9900, "KRW"), (12_900, "KRW")}
    everything = foreseen(shop)
    assert told.items() < everything.items()


def test_what_is_owed_is_foreseen_by_its_next_try_and_paid_then(
    services: Services, gateway: ScriptedGateway
) -> None:
    on_sale(services)
    subscribed(services)
    gateway.answers.append(Declined("[CC10]통장 잔액부족"))
    live_until(services, kst(2026, 1, 31, 12))
    asked = Asked(date(2026, 2, 1), date(2026, 2, 27), "Asia/Seoul")
    (debt,) = billing_forecast.foresee(services, asked)
    assert (debt.due_at, debt.at) == (kst(2026, 1, 31), kst(2026, 1, 31) + DAY)
    assert debt.why == "try 2, after 1 declines"
    (day,) = billing_forecast.add_up(services, asked).days
    assert (day.periods, day.debts, day.amount) == (0, 1, 9900)
    live_until(services, kst(2026, 2, 27))
    assert charged(services, asked.first, asked.last) == {debt.charge: (9900, "KRW", debt.due_at, debt.at)}


def test_a_debt_whose_time_is_past_is_foreseen_for_now(services: Services, gateway: ScriptedGateway) -> None:
    on_sale(services)
    subscribed(services)
    gateway.answers.append(Declined("[CC10]통장 잔액부족"))
    live_until(services, kst(2026, 1, 31, 12))
    move_to(services, kst(2026, 2, 5))
    (debt,) = billing_forecast.foresee(services, Asked(date(2026, 2, 5), date(2026, 2, 5), "Asia/Seoul"))
    assert debt.at == kst(2026, 2, 5)
    assert list(billing_forecast.foresee(services, Asked(date(2026, 2, 1), date(2026, 2, 4), "Asia/Seoul"))) == []


def test_a_card_that_can_never_pay_is_left_out_until_it_changes(
    services: Services, gateway: ScriptedGateway
) -> None:
    on_sale(services)
    subscribed(services)
    gateway.cards["ann"] = lambda _: Declined("분실 카드")
    live_until(services, kst(2026, 2, 2))
    asked = Asked(date(2026, 2, 2), date(2026, 3, 31), "Asia/Seoul")
    february, march = billing_forecast.foresee(services, asked)
    assert february.left_out == march.left_out == "its card can never pay; it waits for another one"
    totals = billing_forecast.add_up(services, asked)
    assert ([left.charges for left in totals.left_out], totals.days) == ([2], [])
    sent = len(gateway.sent)
    live_until(services, kst(2026, 4, 1))
    assert len(gateway.sent) == sent


def test_what_is_opened_while_a_forecast_is_read_is_told_once(
    services: Services, gateway: ScriptedGateway
) -> None:
    """The look is one look: with one for debts and one for periods, what is opened between them is lost."""
    on_sale(services)
    subscribed(services)
    gateway.answers.append(Declined("[CC10]통장 잔액부족"))
    collect_due(services)
    keys = {subscribed(services, f"c{n}", anchor=date(2026, 2, 1)) for n in range(3)}
    reading = billing_forecast.foresee(services, Asked(date(2026, 1, 31), date(2026, 2, 20), "Asia/Seoul"))
    debt = next(reading)
    live_until(services, kst(2026, 2, 1, 12))
    told = list(reading)
    assert debt.customer_uid == "ann"
    assert sorted(str(f.subscription) for f in told) == sorted(keys)
    assert {f.at for f in told} == {kst(2026, 2, 1)}


def test_a_subscription_that_breaks_a_rule_is_counted_and_the_others_are_foreseen(services: Services) -> None:
    on_sale(services)
    subscribed(services)
    broken = subscribed(services, "bob")
    with services.engine.begin() as db:
        statement = update(subscriptions).where(subscriptions.c.key == broken)
        db.execute(statement.values(next_period_date=date(9999, 12, 31), next_period_no=200_000))
    asked = Asked(date(2026, 1, 31), date(2026, 1, 31), "Asia/Seoul")
    assert billing_forecast.add_up(services, asked).broken == 1
    assert len(list(billing_forecast.foresee(services, asked))) == 1


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("2026-02-01", "2026-01-31", None), "give the earlier day first"),
        (("2026-02-01", "2036-02-01", None), "longer than five years"),
        (("2026-02-01", "2026-02-01", "tea"), "plan 'tea' is not known; there are: monthly"),
    ],
)
def test_what_cannot_be_foreseen_is_said(
    services: Services, asked: tuple[str, str, str | None], words: str
) -> None:
    on_sale(services)
    first, last, plan = asked
    days = date.fromisoformat(first), date.fromisoformat(last)
    with pytest.raises(billing_forecast.CannotForesee, match=words):
        next(billing_forecast.foresee(services, Asked(*days, "Asia/Seoul", plan)))
