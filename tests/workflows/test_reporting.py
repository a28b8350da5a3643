"""Reports: cohorts by the day of the first decline, failures by class and PG, and what they cost to make."""

import csv
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event

from schedules.charging.outcomes import Declined
from schedules.dunning.policies import DunningPolicy, FinalAction
from tests.acceptance.again import refused, told, told_json
from tests.doubles import ScriptedGateway
from tests.factories import on_sale, subscribed
from tests.scenarios.living import DAY, kst, live_until
from worker.customers import cards
from worker.reporting import reports
from worker.reporting.reports import By, CannotReport, Span
from worker.services import Services

JANUARY = Span(date(2026, 1, 31), date(2026, 2, 28), "Asia/Seoul")


@pytest.fixture
def failed(services: Services, gateway: ScriptedGateway) -> None:
    """Of four customers of the 31st two are short, one has lost the card; one of the 3rd is at a limit."""
    on_sale(services, policy=DunningPolicy(ladder=(DAY, 3 * DAY), final=FinalAction.CANCEL))
    for name in ("ann", "bob", "cid", "dan"):
        subscribed(services, name, anchor=date(2026, 1, 31))
    subscribed(services, "eve", anchor=date(2026, 2, 3))
    answers: dict[str, list[str]] = {
        "ann": ["[CC10]통장 잔액부족"],
        "bob": ["[CC10]통장 잔액부족"] * 2,
        "eve": ["한도초과"],
    }

    def behave(order: Any) -> Any:
        left = answers.get(order.customer_uid, [])
        if order.customer_uid == "cid":
            return Declined("분실 카드", None, None, "nice")
        return Declined(left.pop(), None, None, "kcp") if left else gateway.approve(order)

    gateway.cards = dict.fromkeys(("ann", "bob", "cid", "eve"), behave)
    live_until(services, kst(2026, 2, 20))


@pytest.mark.usefixtures("failed")
def test_the_recovery_rate_is_by_money_and_by_the_day_of_the_first_decline(services: Services) -> None:
    each, sums = reports.recovery(services, JANUARY, By.DAY)
    assert [(c.begins, c.failed, c.recovered, c.failed_money, c.recovered_money) for c in each] == [
        (date(2026, 1, 31), 3, 2, 29_700, 19_800),
        (date(2026, 2, 3), 1, 1, 9_900, 9_900),
    ]
    (whole,) = sums
    assert (whole.begins, whole.failed, whole.recovered, whole.owed) == (None, 4, 3, 0)
    assert (whole.attempts, whole.median_days) == (2 + 3 + 2, 1.0)


@pytest.mark.usefixtures("failed")
def test_cohorts_may_be_months_and_a_span_ends_with_its_last_day(services: Services) -> None:
    each, _ = reports.recovery(services, JANUARY, By.MONTH)
    assert [(c.begins, c.failed) for c in each] == [(date(2026, 1, 1), 3), (date(2026, 2, 1), 1)]
    each, _ = reports.recovery(services, Span(date(2026, 2, 1), date(2026, 2, 2), "Asia/Seoul"), By.DAY)
    assert each == []


@pytest.mark.usefixtures("failed")
def test_failures_are_counted_by_class_and_pg_each_charge_s_money_once(services: Services) -> None:
    found = reports.failures(services, JANUARY)
    assert [(f.decline_class, f.pg_provider, f.declines, f.charges, f.money) for f in found] == [
        ("money_short", "kcp", 3, 2, 19_800),
        ("limit", "kcp", 1, 1, 9_900),
        ("never_again", "nice", 1, 1, 9_900),
    ]


@pytest.mark.usefixtures("failed")
def test_what_came_by_another_card_counts_as_recovered(services: Services, gateway: ScriptedGateway) -> None:
    subscribed(services, "fay", anchor=date(2026, 2, 21))
    gateway.cards["fay"] = lambda order: Declined("분실 카드", None, None, "nice")
    live_until(services, kst(2026, 2, 22))
    del gateway.cards["fay"]
    cards.changed(services, "fay", "shop", "a new card")
    live_until(services, kst(2026, 2, 23))
    each, _ = reports.recovery(services, Span(date(2026, 2, 21), date(2026, 2, 21), "Asia/Seoul"), By.DAY)
    assert [(c.failed, c.recovered) for c in each] == [(1, 1)]


@pytest.mark.parametrize("days", [-1, 401])
def test_a_span_that_is_none_is_refused_in_words(services: Services, days: int) -> None:
    span = Span(date(2026, 2, 1), date(2026, 2, 1) + timedelta(days=days), "Asia/Seoul")
    with pytest.raises(CannotReport, match=r"in order|more than 400 days"):
        reports.failures(services, span)


@pytest.mark.usefixtures("failed")
def test_reports_are_printed_as_tables_json_and_csv(services: Services, database: str) -> None:
    settings = {
        "AGAIN_DATABASE_URL": database, "AGAIN_ENVIRONMENT": "test", "AGAIN_PORTONE_KEY": "key",
        "AGAIN_PORTONE_URL": "http://127.0.0.1:1", "AGAIN_PORTONE_SECRET": "secret",
        "AGAIN_BROKER_URL": "redis://127.0.0.1:1/0",
    }  # fmt: skip
    span = ("--from", "2026-01-31", "--to", "2026-02-28")
    table = told("report", "recovery", *span, settings=settings)
    assert "2026-01-31" in table
    assert "66.7%" in table
    answer = told_json("report", "recovery", *span, settings=settings)
    assert [cohort["rate_by_volume"] for cohort in answer["cohorts"]] == [0.6667, 1.0]
    assert answer["all"][0]["attempts_per_recovery"] == 2.33
    line, *_ = csv.DictReader(io.StringIO(told("report", "failures", *span, "--csv", settings=settings)))
    assert (line["decline_class"], line["declines"], line["money"]) == ("money_short", "3", "19800")
    assert "not both" in refused("report", "failures", "--json", "--csv", settings=settings)
    backwards = ("--from", "2026-02-02", "--to", "2026-02-01")
    assert "in order" in refused("report", "failures", *backwards, settings=settings)


@pytest.mark.usefixtures("failed")
@pytest.mark.parametrize(
    ("report", "index"),
    [
        (lambda made: reports.recovery(made, JANUARY, By.DAY), "ix_charges_first_declined"),
        (lambda made: reports.failures(made, JANUARY), "ix_attempts_declined"),
    ],
)
def test_a_report_reads_its_span_and_no_history(
    services: Services, report: Callable[[Services], object], index: str
) -> None:
    ran: list[tuple[str, Any]] = []
    with listening(services.engine, lambda *seen: ran.append((seen[2], seen[3]))):
        report(services)
    with services.engine.begin() as db:
        db.exec_driver_sql("SET LOCAL enable_seqscan = off")  # the tables of a test are smaller than any index
        plans = [
            "\n".join(row[0] for row in db.exec_driver_sql(f"EXPLAIN {statement}", parameters))
            for statement, parameters in ran
        ]
    assert plans
    assert all(index in plan for plan in plans)


@contextmanager
def listening(engine: Engine, hear: Callable[..., object]) -> Iterator[None]:
    """Hear every statement that is run meanwhile."""
    event.listen(engine, "before_cursor_execute", hear)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", hear)
