"""Money is a whole number of minor units and a currency; a float is refused."""

import re
from dataclasses import dataclass
from decimal import Decimal

from schedules.errors import BadMoney

# Decimal places by ISO 4217. KRW and JPY have no minor unit: 1 is one won, one yen.
MINOR_DIGITS = {"KRW": 0, "JPY": 0, "USD": 2, "EUR": 2}
MAX_AMOUNT = 10**12  # above every card's limit in these currencies; a larger amount is taken as a typing error
_PLAIN_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Money:
    """An amount to charge: 1 or more minor units of a known currency."""

    amount: int
    currency: str

    def __post_init__(self) -> None:
        if self.currency not in MINOR_DIGITS:
            raise BadMoney(f"currency {self.currency!r} is not known; take one of {', '.join(MINOR_DIGITS)}")
        if type(self.amount) is not int:
            raise BadMoney(f"amount {self.amount!r} is not a whole number of minor units; give an int")
        if not 1 <= self.amount <= MAX_AMOUNT:
            raise BadMoney(f"amount {self.amount} {self.currency} is not between 1 and {MAX_AMOUNT} minor units")

    @property
    def major(self) -> Decimal:
        """The exact amount in major units, as gateways expect it: 12.34 for 1234 US cents."""
        return Decimal(self.amount).scaleb(-MINOR_DIGITS[self.currency])

    def __str__(self) -> str:
        return amount_words(self.amount, self.currency)


def amount_words(amount: int, currency: str) -> str:
    """Format minor units in major units with their currency; 0 and negative amounts are allowed."""
    return f"{Decimal(amount).scaleb(-MINOR_DIGITS.get(currency, 0)):,} {currency}"


def parse_money(text: str, currency: str) -> Money:
    """Parse an amount in major units ("9900", "12.34"); too many decimals are refused."""
    digits = MINOR_DIGITS.get(currency)
    if digits is None:
        raise BadMoney(f"currency {currency!r} is not known; take one of {', '.join(MINOR_DIGITS)}")
    if not _PLAIN_NUMBER.fullmatch(text):
        raise BadMoney(
            f"amount {text!r} is not a plain positive number; write it like 9900, without sign or commas"
        )
    minor = Decimal(text).scaleb(digits)
    if minor != minor.to_integral_value():
        raise BadMoney(f"amount {text} has more decimals than {currency} has ({digits})")
    return Money(int(minor), currency)


def minor_units(major: Decimal, currency: str) -> int | None:
    """Convert a gateway's amount in major units to minor units; None when it is not a whole number of them."""
    minor = major.scaleb(MINOR_DIGITS.get(currency, 2))
    return int(minor) if minor == minor.to_integral_value() else None
