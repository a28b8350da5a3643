"""Limits of amounts, one for each currency; an amount above its limit needs a second person."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from schedules.errors import BadMoney
from schedules.money.amounts import MINOR_DIGITS, Money, amount_words, parse_money

_ENTRY = re.compile(r"([A-Z]{3})=([0-9.]+)")


@dataclass(frozen=True, slots=True)
class AmountLimits:
    """The largest amount of each currency that needs no second person, in minor units."""

    by_currency: Mapping[str, int]

    def of(self, currency: str) -> int:
        """The limit of a currency; 0 for a currency without one, so that every amount is above it."""
        return self.by_currency.get(currency, 0)

    def exceeded_by(self, money: Money) -> bool:
        """Whether the amount is above the limit of its currency."""
        return money.amount > self.of(money.currency)

    def text_of(self, currency: str) -> str:
        """The limit of a currency in major units, as messages show it."""
        return amount_words(self.of(currency), currency)


def parse_limits(text: str, defaults: str = "") -> AmountLimits:
    """Read `KRW=1000000 USD=1000`, in major units; a currency that is left out has the limit of the defaults.

    BadMoney names the entry that is wrong. A number without a currency is refused: 1000 is 1,000 won or
    1,000 dollars.
    """
    limits = dict(parse_limits(defaults).by_currency) if defaults else {}
    seen: set[str] = set()
    for entry in text.split():
        match = _ENTRY.fullmatch(entry)
        if match is None:
            raise BadMoney(f"{entry!r} is not a limit; write CURRENCY=AMOUNT in major units, such as KRW=1000000")
        currency, amount = match.groups()
        if currency in seen:
            raise BadMoney(f"currency {currency} has two limits in {text!r}; give one")
        seen.add(currency)
        limits[currency] = parse_money(amount, currency).amount
    if not limits:
        known = ", ".join(MINOR_DIGITS)
        raise BadMoney(f"{text!r} has no limit; write CURRENCY=AMOUNT for one or more of {known}")
    return AmountLimits(limits)
