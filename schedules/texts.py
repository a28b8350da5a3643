"""Free text from outside: normalized to NFC, without control characters and card numbers.

Every text that a person, a file or a message gives comes in through `cleaned`. A text with a card number is
refused, not redacted: whoever sent it learns that it was not stored, and sends it again without the number.
"""

import unicodedata

from schedules.cards import holds_card_number
from schedules.errors import BadRequest

# Control characters, surrogates, and the two separators of lines and paragraphs.
_REFUSED = frozenset({"Cc", "Cs", "Zl", "Zp"})


def normalized(text: str) -> str:
    """The text in NFC: one Hangul syllable is one character, whatever system typed it."""
    return unicodedata.normalize("NFC", text)


def forms(text: str) -> tuple[str, ...]:
    """A text as it is, and in each normal form: all that it may have been stored as before it was normalized."""
    if text.isascii():
        return (text,)
    return tuple(dict.fromkeys((text, normalized(text), unicodedata.normalize("NFD", text))))


def cleaned(field: str, text: str) -> str:
    """The text in NFC; BadRequest names the field if it holds a control character or a card number.

    The number is not shown again: it would stand in an answer, in a terminal's history and in logs.
    """
    text = normalized(text)
    for place, character in enumerate(text, start=1):
        if unicodedata.category(character) in _REFUSED:
            raise BadRequest(
                field,
                f"character {place} of {len(text)} is U+{ord(character):04X}, a control character or line break; "
                "remove it",
            )
    if holds_card_number(text):
        raise BadRequest(field, "it looks like a card number; those belong to the gateway alone")
    return text
