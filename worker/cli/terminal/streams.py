"""Output to streams that cannot encode every character: other characters are replaced instead of raising."""

import codecs
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

REPLACING = "again.replacing"  # codec error handler for characters that an encoding lacks
SIGNS = {
    "…": "...", "→": "->", "█": "#", "●": "o", "○": "O", "△": "^", "–": "-", "—": "-", "·": "*",
    "‘": "'", "’": "'", "“": '"', "”": '"', "─": "-", "━": "-", "│": "|", "┃": "|",
}  # fmt: skip


def _replace(error: UnicodeError) -> tuple[str, int]:
    """Replace a character by a similar one in ASCII, or by its code such as \\uc6d4."""
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
    """Replace what a stream cannot encode; UTF-8 streams are not changed."""
    changed = [stream for stream in streams if not takes_all(stream) and hasattr(stream, "reconfigure")]
    before = [stream.errors for stream in changed]
    for stream in changed:
        stream.reconfigure(errors=REPLACING)
    try:
        yield
    finally:
        for stream, errors in zip(changed, before, strict=True):
            stream.reconfigure(errors=errors)
