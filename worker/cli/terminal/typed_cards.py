"""Card data, typed in: at a prompt that shows nothing, or as JSON on standard input; never an argument."""

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
    """What was typed is no card data; none of it is repeated."""


def read_card(pg: str | None) -> "Card":
    """The card that is typed in; its fields are checked by the gateway's own rules, later."""
    from worker.gateway.port import Card

    said = _asked() if sys.stdin.isatty() else _read()
    for name in NEEDED:
        if not said.get(name):
            raise BadCardData(f"the card's {name} is missing")
    return Card(said["number"] or "", said["expiry"] or "", said.get("birth"), said.get("password_2_digits"), pg)


def _asked() -> dict[str, str | None]:
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
