"""A plan whose parts do not fit together is refused, in words that help."""

from datetime import UTC, date, datetime, time

import pytest

from schedules.calendar.cadence import Cadence, Cron, Every, Unit
from schedules.calendar.shifts import Shift
from schedules.errors import BadPlan, BadZone
from schedules.money.amounts import Money
from schedules.subscriptions.plans import Plan, due_at


def plan(cadence: Cadence = Every(1, Unit.MONTH), **changes: object) -> Plan:
    """A plan with everything unsaid chosen."""
    terms: dict[str, object] = {
        "code": "p", "version": 1, "price": Money(1000, "KRW"), "cadence": cadence, "statement_name": "p",
    }  # fmt: skip
    return Plan(**(terms | changes))  # type: ignore[arg-type]  # chosen by name


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"statement_name": "x" * 41}, "has 41 characters"),
        ({"statement_name": ""}, "has 0 characters"),
        ({"statement_name": "a\nb"}, "all printable"),
        ({"code": "no spaces"}, "'no spaces' is not made of"),
        ({"code": ""}, "'' is not made of"),
        ({"code": "x" * 41}, "is not made of 1 to 40"),
        ({"code": "월간"}, "'월간' is not made of"),
        ({"code": "a\n"}, "is not made of"),
        ({"trial_days": -1}, "a trial of -1 days"),
        ({"trial_days": 731}, "a trial of 731 days"),
        ({"catch_up_cap": 0}, "cap of 0"),
        ({"catch_up_cap": 101}, "cap of 101"),
        ({"shift": Shift.NEXT}, "needs the country"),
        ({"holidays": "XX"}, "country 'XX'"),
        ({"billing_time": time(9, 0, 1)}, "to the minute"),
        ({"billing_time": time(9, 0, 0, 1)}, "to the minute"),
        ({"billing_time": time(9, tzinfo=UTC)}, "plain wall time"),
        ({"cadence": Cron("0 9 31 * *")}, "skips every month that has none; take --every 1 --unit month"),
        ({"cadence": Cron("0 9 29 2 *")}, "--allow-short-months"),
    ],
)
def test_a_plan_whose_parts_do_not_fit_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(BadPlan, match=words):
        plan(**changes)  # type: ignore[arg-type]  # chosen by name


def test_a_plan_in_a_zone_that_does_not_exist_is_refused() -> None:
    with pytest.raises(BadZone, match="did you mean 'Asia/Seoul'"):
        plan(zone="asia/seoul")


@pytest.mark.parametrize(
    "changes",
    [
        {"statement_name": "월" * 40}, {"code": "a" * 40}, {"code": "Tea_2-b"}, {"trial_days": 730},
        {"catch_up_cap": 100}, {"shift": Shift.PREVIOUS, "holidays": "KR"}, {"cadence": Cron("0 9 31 12 *")},
        {"cadence": Cron("0 9 31 * *"), "allow_short_months": True},
    ],
)  # fmt: skip
def test_a_plan_at_the_edge_of_what_fits_is_taken(changes: dict[str, object]) -> None:
    plan(**changes)  # type: ignore[arg-type]  # chosen by name


def test_a_period_is_due_at_the_billing_time_of_its_shifted_date() -> None:
    sold = plan(zone="America/New_York", billing_time=time(2, 30), shift=Shift.NEXT, holidays="US")
    # Saturday 7 March moves to Monday; Sunday 8 March, when 02:30 does not exist, moves too and is not asked for.
    assert due_at(sold, date(2026, 3, 7)) == datetime(2026, 3, 9, 6, 30, tzinfo=UTC)
    assert due_at(sold, date(2026, 3, 6)) == datetime(2026, 3, 6, 7, 30, tzinfo=UTC)
