"""Free text from outside: normalized to NFC, without control characters."""

import unicodedata

from schedules.errors import BadRequest

# Control characters, surrogates, and the two separators of lines and paragraphs.
_REFUSED = frozenset({"Cc", "Cs", "Zl", "Zp"})


def normalized(text: str) -> str:
    """The text in NFC: one Hangul syllable is one character, whatever system typed it."""
    return unicodedata.normalize("NFC", text)


def cleaned(field: str, text: str) -> str:
    """The text in NFC; BadRequest names the field, the character and its place if it holds a control character."""
    text = normalized(text)
    for place, character in enumerate(text, start=1):
        if unicodedata.category(character) in _REFUSED:
            raise BadRequest(
                field,
                f"character {place} of {len(text)} is U+{ord(character):04X}, a control character or line break; "
                "remove it",
            )
    return text
