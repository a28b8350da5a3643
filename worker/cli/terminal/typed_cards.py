"""Read card data at a prompt without echo, or as JSON on standard input; never from an argument."""

import getpass
import json
import sys
from typing import TYPE_CHECKING

from schedules.errors import Code, FixedCode

if TYPE_CHECKING:
    from worker.gateway.port import Card

FIELDS = ("number", "expiry", "birth", "password_2_digits")
NEEDED = ("number", "expiry")
MOST_READ = 4096  # characters of standard input
PROMPTS = {
    "number": "card number: ",
    "expiry": "expiry (YYYY-MM): ",
    "birth": "birth (YYMMDD) or business number, if the contract needs it: ",
    "password_2_digits": "first two digits of the password, if the contract needs them: ",
}


class BadCardData(FixedCode, code=Code.INVALID):
    """The input is no card data; the message does not repeat it."""


def read_card(pg: str | None) -> "Card":
    """Read a card; the gateway module checks its fields later."""
    from worker.gateway.port import Card

    fields = _prompted() if sys.stdin.isatty() else _read()
    for name in NEEDED:
        if not fields.get(name):
            raise BadCardData(f"the card's {name} is missing")
    return Card(
        fields["number"] or "", fields["expiry"] or "", fields.get("birth"), fields.get("password_2_digits"), pg
    )


def _prompted() -> dict[str, str | None]:
    return {name: getpass.getpass(PROMPTS[name]).strip() or None for name in FIELDS}


def _read() -> dict[str, str | None]:
    text = sys.stdin.read(MOST_READ + 1)
    wrong = f"standard input must be one JSON object with {', '.join(FIELDS)}, all of them texts"
    if len(text) > MOST_READ:
        raise BadCardData(f"{wrong}; it has more than {MOST_READ} characters")
    try:
        document = json.loads(text)
    except ValueError:
        raise BadCardData(wrong) from None
    if not isinstance(document, dict) or set(document) - set(FIELDS):
        raise BadCardData(wrong)
    if not all(isinstance(value, str) for value in document.values()):
        raise BadCardData(wrong)
    return {name: value.strip() or None for name, value in document.items()}
