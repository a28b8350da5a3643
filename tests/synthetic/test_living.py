"""Debts lived through: what policies try, what comes of it, and that the default beats the plain ladders."""

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest

from schedules.dunning.policies import STANDARD, CardCap
from worker.synthetic.assumptions import PUBLISHED
from worker.synthetic.contenders import (
    BASELINES,
    DEFAULT,
    FIXED_8_8_8,
    WOOCOMMERCE,
    Contender,
    beside_baselines,
)
from worker.synthetic.incomes import SEOUL
from worker.synthetic.living import AT_ONCE, End, lived
from worker.synthetic.outcomes import compare
from worker.synthetic.population import FOREVER, Customer, Reason, drawn

FAILED_AT = datetime(2027, 3, 17, 0, 5, tzinfo=UTC)  # 09:05 in Seoul, a Wednesday
EVERYONE = beside_baselines([DEFAULT])


def customer(words: str, reason: Reason, **changes: Any) -> Customer:
    plain = Customer(
        number=1,
        amount=9900,
        pg="kcp",
        reason=reason,
        failed_at=FAILED_AT,
        words=words,
        night_words="[CCC0]카드사 시스템 점검 중입니다.",
        pays=(),
        closed_at_night=True,
    )
    return replace(plain, **changes)


def lost(**changes: Any) -> Customer:
    return customer("[CC43]도난카드", Reason.LOST, **changes)


def short_of_money(**changes: Any) -> Customer:
    return customer("[CC10]통장 잔액부족", Reason.NO_MONEY, **changes)


def test_a_lost_card_is_tried_no_more_after_its_first_decline() -> None:
    life = lived(lost(), DEFAULT, 60)
    assert life.tries == []
    assert (life.end, life.ended_at) == (End.GIVEN_UP, FAILED_AT + STANDARD.patience)


@pytest.mark.parametrize("ladder", BASELINES)
def test_a_ladder_that_does_not_read_the_words_goes_on_with_a_lost_card(ladder: Contender) -> None:
    life = lived(lost(), ladder, 60)
    assert [at - FAILED_AT for at in life.tries] == list(ladder.policy.ladder)
    assert life.tries_at_dead_cards == len(life.tries)
    assert life.end is End.GIVEN_UP


def test_the_ladders_are_those_that_they_are_named_for() -> None:
    assert [rung / timedelta(days=1) for rung in FIXED_8_8_8.policy.ladder] == [8, 16, 24]
    assert [rung / timedelta(days=1) for rung in WOOCOMMERCE.policy.ladder] == [0.5, 1, 2, 4, 7]


def test_a_customer_is_collected_on_his_payday() -> None:
    payday = datetime.combine(date(2027, 3, 25), time(10), SEOUL)
    life = lived(short_of_money(pays=((payday, payday + timedelta(hours=20)),)), DEFAULT, 45)
    assert life.end is End.COLLECTED
    assert life.tries[-1].astimezone(SEOUL).date() == date(2027, 3, 25)


def test_a_new_card_is_charged_within_a_minute_where_the_worker_does_it() -> None:
    mends_at = FAILED_AT + timedelta(days=3, hours=5)
    assert lived(lost(mends_at=mends_at), DEFAULT, 45).tries == [mends_at + AT_ONCE]


def test_a_new_card_is_found_by_the_next_rung_of_a_plain_ladder_if_there_is_one() -> None:
    early, late = (lost(mends_at=FAILED_AT + timedelta(days=days)) for days in (9, 25))
    assert lived(early, FIXED_8_8_8, 45).tries[-1] == FAILED_AT + timedelta(days=16)
    assert lived(late, FIXED_8_8_8, 45).end is End.GIVEN_UP


def test_nothing_is_tried_after_a_customer_has_left_or_paid_otherwise() -> None:
    for name, end in (("leaves_at", End.LEFT), ("pays_otherwise_at", End.PAID_OTHERWISE)):
        when = FAILED_AT + timedelta(days=1.5)
        life = lived(short_of_money(**{name: when}), WOOCOMMERCE, 45)
        assert (life.end, life.ended_at, len(life.tries)) == (end, when, 2)


def test_a_cards_cap_holds_its_next_try_back() -> None:
    capped = replace(WOOCOMMERCE.policy, cap=CardCap(declines=3, within=timedelta(days=6)))
    life = lived(short_of_money(), replace(WOOCOMMERCE, policy=capped), 45)
    assert life.tries[2] - FAILED_AT == timedelta(days=6)


def test_every_debt_comes_to_an_end_and_no_more_is_recovered_than_failed() -> None:
    population = list(drawn(400, 5, 150, PUBLISHED))
    assert {lived(one, contender, 150).end for one in population for contender in EVERYONE} <= set(End) - {
        End.OPEN
    }
    for result in compare(population, EVERYONE, 150):
        assert 0 < sum(result.recovered_on) <= result.failed
        assert result.collected + result.paid_otherwise + result.lost == result.customers == 400


def test_who_can_pay_whenever_he_is_asked_is_collected_by_all() -> None:
    payer = short_of_money(pays=((FAILED_AT + timedelta(minutes=1), FOREVER),))
    assert {lived(payer, contender, 45).end for contender in EVERYONE} == {End.COLLECTED}


def test_the_default_tries_at_most_eight_times_and_never_at_night() -> None:
    for one in drawn(400, 6, 45, replace(PUBLISHED, mends_no_money=0, mends_limit=0, mends_vague=0)):
        life = lived(replace(one, mends_at=None), DEFAULT, 45)
        assert len(life.tries) <= 8
        assert all(8 <= at.astimezone(SEOUL).hour < 22 for at in life.tries)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_default_beats_both_ladders_by_fifteen_points_with_fewer_tries_for_each_recovery(seed: int) -> None:
    default, *ladders = compare(drawn(6000, seed, 45, PUBLISHED), EVERYONE, 45)
    for ladder in ladders:
        assert default.recovered >= ladder.recovered + 15
        assert (default.tries_for_each_recovery or 0) < (ladder.tries_for_each_recovery or 0)
        assert default.lost < ladder.lost
