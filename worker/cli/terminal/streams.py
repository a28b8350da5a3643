"""What a stream takes that does not know every character: others are replaced, and none ends a command."""

import codecs
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

REPLACING = "again.replacing"  # our handler of characters that an encoding does not have
SIGNS = {
    "…": "...", "→": "->", "█": "#", "●": "o", "○": "O", "△": "^", "–": "-", "—": "-", "·": "*",
    "‘": "'", "’": "'", "“": '"', "”": '"', "─": "-", "━": "-", "│": "|", "┃": "|",
}  # fmt: skip


def _replace(error: UnicodeError) -> tuple[str, int]:
    """A character in signs that every encoding has: its look-alike, or its code such as \\uc6d4."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _plain(character: str) -> str:
    if character in SIGNS:
        return SIGNS[character]
    if unicodedata.name(character, "").startswith("BOX DRAWINGS"):
        return "+"
    return character.encode("ascii", "backslashreplace").decode()


codecs.register_error(REPLACING, _replace)


def takes_all(stream: Any) -> bool:
    """Whether every character can be written to the stream."""
    encoding = getattr(getattr(stream, "unescaped", stream), "encoding", None) or "utf-8"
    return codecs.lookup(encoding).name.startswith("utf")


@contextmanager
def replacing(*streams: TextIO) -> Iterator[None]:
    """Replace what a stream cannot take; a stream of UTF-8 is left as it is."""
    changed = [stream for stream in streams if not takes_all(stream) and hasattr(stream, "reconfigure")]
    before = [stream.errors for stream in changed]
    for stream in changed:
        stream.reconfigure(errors=REPLACING)
    try:
        yield
    finally:
        for stream, errors in zip(changed, before, strict=True):
            stream.reconfigure(errors=errors)
