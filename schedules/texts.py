"""Free text from outside: normalized to NFC, without control characters and card numbers.

`cleaned` checks every text of a person, a file or a message. A text with a card number is refused, not redacted,
so that its sender knows that it was not stored and sends it again without the number.
"""

import re
import unicodedata

from schedules.charging.cards import holds_card_number, id_holds_card_number
from schedules.errors import BadRequest, Code

# The free-text fields; every other field is an id, a code or a number.
FREE_TEXTS = frozenset({"reason", "why", "actor", "name", "email", "tel", "text"})
# Control characters, surrogates, and the two separators of lines and paragraphs.
_REFUSED = frozenset({"Cc", "Cs", "Zl", "Zp"})
# Control characters except line breaks and tabs, marks that change the direction of writing, Unicode line breaks,
# and surrogates, which no terminal's encoding can write.
_SIGNS = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_COMMANDS = re.compile(f"[{_SIGNS}]|\r(?!\n)")
_COMMANDS_AND_BREAKS = re.compile(f"[{_SIGNS}\r\n\t]")
_SHORT = {"\r": "\\r", "\n": "\\n", "\t": "\\t"}


def normalized(text: str) -> str:
    """The text in NFC: one Hangul syllable is one character, from every system."""
    return unicodedata.normalize("NFC", text)


def forms(text: str) -> tuple[str, ...]:
    """Return a text unchanged and in each normal form: how it may be stored from before normalization."""
    if text.isascii():
        return (text,)
    return tuple(dict.fromkeys((text, normalized(text), unicodedata.normalize("NFD", text))))


def escaped(text: str, *, lines: bool = True) -> str:
    """Return the text with characters that control a terminal escaped, as \\x1b or \\u202e.

    Line breaks and tabs stay, unless the text must fit one line.
    """
    return (_COMMANDS if lines else _COMMANDS_AND_BREAKS).sub(_written, text)


def escaped_in_json(document: str) -> str:
    """Return an equal JSON document in which these characters are escaped as \\u009b."""
    return _COMMANDS.sub(lambda found: f"\\u{ord(found.group()):04x}", document)


def _written(found: re.Match[str]) -> str:
    code = ord(found.group())
    return _SHORT.get(found.group()) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def cleaned(field: str, text: str) -> str:
    """Return the text in NFC; BadRequest names the field if it contains a control character or a card number.

    The error does not repeat the number, which would appear in answers, a terminal's history and logs.
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
        raise BadRequest(Code.INVALID, field, "it looks like a card number; only the gateway may have those")
    return text
