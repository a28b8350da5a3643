"""Money is a whole number of minor units and a currency; a float is refused."""

import re
from dataclasses import dataclass
from decimal import Decimal

from schedules.errors import BadMoney

# Decimal places by ISO 4217. KRW and JPY have no minor unit: 1 is one won, one yen.
MINOR_DIGITS = {"KRW": 0, "JPY": 0, "USD": 2, "EUR": 2}
MAX_AMOUNT = 10**12  # above any card's limit in any of these currencies; a slip of the finger, not a price
_PLAIN_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Money:
    """An amount to charge: 1 or more minor units of a currency that we know."""

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
        """The amount in major units, exactly, as a gateway wants it: 12.34 for 1234 US cents."""
        return Decimal(self.amount).scaleb(-MINOR_DIGITS[self.currency])

    def __str__(self) -> str:
        return amount_words(self.amount, self.currency)


def amount_words(amount: int, currency: str) -> str:
    """Minor units as a person reads them, with their currency; an amount that is no charge, such as 0, too."""
    return f"{Decimal(amount).scaleb(-MINOR_DIGITS.get(currency, 0)):,} {currency}"


def parse_money(text: str, currency: str) -> Money:
    """Read what a person typed in major units ("9900", "12.34"); too many decimals are refused."""
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
    """A gateway's amount in major units as minor units; None when it is no whole number of them."""
    minor = major.scaleb(MINOR_DIGITS.get(currency, 2))
    return int(minor) if minor == minor.to_integral_value() else None
