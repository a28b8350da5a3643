"""The made-up population: what its cards say, and when they pay."""

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from schedules.dunning.card_limits import LimitSpan, limit_span
from schedules.dunning.declines import DeclineClass, classify
from worker.rules import rulebook
from worker.synthetic.assumptions import DOUBTS, PUBLISHED
from worker.synthetic.incomes import SEOUL
from worker.synthetic.population import DEAD, Customer, Reason, answer, drawn
from worker.synthetic.wordings import PROVIDERS, WORDINGS, Saying

PAGE = (Path(__file__).resolve().parents[2] / "docs/explanation/dunning-model.md").read_text()
MEANT = {
    Saying.NO_MONEY: DeclineClass.MONEY_SHORT,
    Saying.LIMIT_DAY: DeclineClass.LIMIT,
    Saying.LIMIT_MONTH: DeclineClass.LIMIT,
    Saying.LIMIT: DeclineClass.LIMIT,
    Saying.VAGUE: DeclineClass.UNKNOWN_WORD,
    Saying.OUTDATED: DeclineClass.CUSTOMER_MUST_ACT,
    Saying.LOST: DeclineClass.NEVER_AGAIN,
    Saying.MAINTENANCE: DeclineClass.LATER,
    Saying.LINE_FAULT: DeclineClass.UNKNOWN_OUTCOME,
}
MISREAD = {  # words that the rules place elsewhere; they are in the model because they are in the world
    ("tosspayments", Saying.LIMIT): DeclineClass.MONEY_SHORT,
    ("html5_inicis", Saying.VAGUE): DeclineClass.CUSTOMER_MUST_ACT,
}


def section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def of_reason(reason: Reason, count: int = 20) -> list[Customer]:
    shares: dict[str, Any] = {other.value: float(other is reason) for other in Reason}
    return list(drawn(count, 1, 45, replace(PUBLISHED, **shares)))


@pytest.mark.parametrize("pg", PROVIDERS)
def test_the_rules_place_the_words_where_they_are_meant_or_known_to_be_misread(pg: str) -> None:
    for saying, texts in WORDINGS[pg].items():
        placed = {classify(text, pg, rulebook()).decline_class for text in texts}
        assert placed <= {MEANT[saying], MISREAD.get((pg, saying), MEANT[saying])}, (saying, placed)


@pytest.mark.parametrize("pg", PROVIDERS)
def test_a_limit_that_names_its_span_is_read_so(pg: str) -> None:
    assert {limit_span(text) for text in WORDINGS[pg][Saying.LIMIT_DAY]} == {LimitSpan.DAY}
    assert {limit_span(text) for text in WORDINGS[pg][Saying.LIMIT_MONTH]} == {LimitSpan.MONTH}


def test_the_same_seed_draws_the_same_customers() -> None:
    assert list(drawn(50, 7, 45, PUBLISHED)) == list(drawn(50, 7, 45, PUBLISHED))
    assert list(drawn(50, 7, 45, PUBLISHED)) != list(drawn(50, 8, 45, PUBLISHED))


def test_a_customer_does_not_depend_on_how_many_are_drawn() -> None:
    assert list(drawn(50, 7, 45, PUBLISHED))[:10] == list(drawn(10, 7, 45, PUBLISHED))


def test_a_charge_that_was_declined_is_declined_at_that_instant() -> None:
    assert all(answer(customer, customer.failed_at) is not None for customer in drawn(300, 1, 45, PUBLISHED))


@pytest.mark.parametrize("reason", sorted(DEAD))
def test_a_dead_card_never_pays_until_there_is_another(reason: Reason) -> None:
    for customer in of_reason(reason):
        held = replace(customer, mends_at=None)
        for hours in range(0, 45 * 24, 7):
            assert answer(held, held.failed_at + timedelta(hours=hours)) is not None


def test_what_was_put_right_pays_but_not_around_midnight() -> None:
    customer = replace(of_reason(Reason.LINE_FAULT)[0], closed_at_night=True)
    midnight = customer.failed_at.astimezone(SEOUL).replace(hour=23, minute=45) + timedelta(days=3)
    assert answer(customer, midnight) == customer.night_words
    assert answer(customer, midnight + timedelta(hours=2)) is None


def test_the_page_has_every_number_of_the_model() -> None:
    told = dict(re.findall(r"^\| `([a-z_]+)` \| ([^|]+?) \|", section("The assumptions"), flags=re.MULTILINE))
    assert told == PUBLISHED.told()


def test_the_page_tells_the_result_under_every_change_of_the_model() -> None:
    told = re.findall(
        r"^\| ([a-z0-9-]+) \| [^|]+ \| \d", section("Sensitivity to the assumptions"), flags=re.MULTILINE
    )
    assert told == list(DOUBTS)
