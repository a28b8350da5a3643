"""Money is whole minor units; what is not is refused."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedules.errors import BadMoney
from schedules.money.amounts import MAX_AMOUNT, MINOR_DIGITS, Money, minor_units, parse_money

moneys = st.builds(Money, st.integers(1, MAX_AMOUNT), st.sampled_from(sorted(MINOR_DIGITS)))


@given(moneys)
def test_major_units_are_exact_both_ways(money: Money) -> None:
    assert parse_money(f"{money.major:f}", money.currency) == money
    assert minor_units(money.major, money.currency) == money.amount


def test_krw_has_no_minor_unit() -> None:
    assert parse_money("9900", "KRW") == Money(9900, "KRW")
    assert parse_money("12.34", "USD") == Money(1234, "USD")
    assert minor_units(Decimal("99.5"), "KRW") is None


@pytest.mark.parametrize("text", ["-1", "0", "9900.5", "1e3", "1,000", "", "abc", "+5", " 5", "٣", "1" * 20])
def test_what_is_no_plain_positive_won_is_refused(text: str) -> None:
    with pytest.raises(BadMoney):
        parse_money(text, "KRW")


@pytest.mark.parametrize("amount", [1.0, True, "1", None, 0, -1])
def test_only_a_positive_int_is_an_amount(amount: object) -> None:
    with pytest.raises(BadMoney):
        Money(amount, "KRW")  # type: ignore[arg-type]  # that is the point


def test_an_unknown_currency_is_refused() -> None:
    with pytest.raises(BadMoney, match="'XYZ' is not known"):
        parse_money("1", "XYZ")
