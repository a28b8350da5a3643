"""Free text from outside: normalized to NFC, without control characters and card numbers.

Every text that a person, a file or a message gives comes in through `cleaned`. A text with a card number is
refused, not redacted: whoever sent it learns that it was not stored, and sends it again without the number.
"""

import re
import unicodedata

from schedules.charging.cards import holds_card_number, id_holds_card_number
from schedules.errors import BadRequest, Code

# The fields that a person writes freely; each other field is an id, a code or a number.
FREE_TEXTS = frozenset({"reason", "why", "actor", "name", "email", "tel", "text"})
# Control characters, surrogates, and the two separators of lines and paragraphs.
_REFUSED = frozenset({"Cc", "Cs", "Zl", "Zp"})
# Control characters but line breaks and tabs, signs that turn the direction of writing, breaks of Unicode's own,
# and surrogates, which no terminal's encoding can write.
_SIGNS = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_COMMANDS = re.compile(f"[{_SIGNS}]|\r(?!\n)")
_COMMANDS_AND_BREAKS = re.compile(f"[{_SIGNS}\r\n\t]")
_SHORT = {"\r": "\\r", "\n": "\\n", "\t": "\\t"}


def normalized(text: str) -> str:
    """The text in NFC: one Hangul syllable is one character, from every system."""
    return unicodedata.normalize("NFC", text)


def forms(text: str) -> tuple[str, ...]:
    """A text as it is, and in each normal form: all that it may have been stored as before it was normalized."""
    if text.isascii():
        return (text,)
    return tuple(dict.fromkeys((text, normalized(text), unicodedata.normalize("NFD", text))))


def escaped(text: str, *, lines: bool = True) -> str:
    """The text with what a terminal or a reader of lines could take for a command written as \\x1b or \\u202e.

    Line breaks and tabs stay, unless the text belongs into one line.
    """
    return (_COMMANDS if lines else _COMMANDS_AND_BREAKS).sub(_written, text)


def escaped_in_json(document: str) -> str:
    """A JSON document with the same characters written as \\u009b, as JSON has it; it says the same."""
    return _COMMANDS.sub(lambda found: f"\\u{ord(found.group()):04x}", document)


def _written(found: re.Match[str]) -> str:
    code = ord(found.group())
    return _SHORT.get(found.group()) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def cleaned(field: str, text: str) -> str:
    """The text in NFC; BadRequest names the field if it holds a control character or a card number.

    The number is not shown again: it would stand in an answer, in a terminal's history and in logs.
    """
    text = normalized(text)
    for place, character in enumerate(text, start=1):
        if unicodedata.category(character) in _REFUSED:
            raise BadRequest(
                Code.INVALID,
                field,
                f"character {place} of {len(text)} is U+{ord(character):04X}, a control character or line break; "
                "remove it",
            )
    if (holds_card_number if field in FREE_TEXTS else id_holds_card_number)(text):
        raise BadRequest(Code.INVALID, field, "it looks like a card number; those belong to the gateway alone")
    return text
