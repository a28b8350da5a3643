"""Clean, mask and shorten texts of the gateway before they are stored or shown."""

import re

from worker.logs import masked

TEXT_LIMIT = 300  # characters; the longest real refusal that we have seen has 150
ID_LIMIT = 100  # characters; the longest id of the gateway's own has 80
# Control characters and halves of surrogate pairs: PostgreSQL takes neither NUL nor these, and a record that
# cannot be written would be asked about for ever.
_UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


def masked_card(number: str) -> str:
    """A card number that the gateway has masked, masked again if it shows more than 12 digits."""
    digits = re.sub(r"\D", "", number)
    return number if len(digits) <= 12 else "*" * 8 + digits[-4:]


def writable(text: str) -> str:
    """The text without characters that a log line or a table cannot hold."""
    return _UNWRITABLE.sub(" ", text).strip()


def told(words: object, limit: int = TEXT_LIMIT) -> str | None:
    """The gateway's text as it may be stored; None for an empty one."""
    if words is None or isinstance(words, bool):
        return None
    text = masked(writable(str(words)))
    return shortened(text, limit) or None


def shortened(text: str, limit: int = TEXT_LIMIT) -> str:
    """The beginning of the text, with an ellipsis when it was shortened."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def without(text: str, secrets: tuple[str | None, ...]) -> str:
    """The text without these strings, in case the gateway repeated what we sent."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "…")
    return text
