"""Logs on standard error, one line each, as text or JSON; what looks like a card number is masked."""

import json
import logging
import re
import sys
from collections.abc import Iterable

from schedules.cards import card_numbers

_SEPARATED = r"[\s.\-‐-―]{0,3}"  # blanks, dots and dashes of any kind, as people and banks write them
# 13 digits or more: card numbers have 13 to 19, and one run together with an expiry date has more. No \b:
# a Korean letter is a word character, so there is no boundary in "카드4111…".
# Our own merchant_uids stay whole, for everybody looks for them: one key in a hundred ends in so many digits.
_OURS = r"(?P<ours>\bag1[a-z][a-z0-9]{3}[ra][0-9a-hj-km-np-tv-z]{29}[0-9a-z]\b)"
_CARD = re.compile(rf"{_OURS}|(?<!\d)\d(?:{_SEPARATED}\d){{12,}}")


def masked(text: str) -> str:
    """The text with every run of digits that could be a card number reduced to its last four."""
    kept, at = "", 0
    for begin, end in _apart(card_numbers(text)):
        kept, at = kept + text[at:begin] + _stars(text[begin:end]), end
    return _CARD.sub(_masked, kept + text[at:])


def _apart(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans in order, those that overlap as one."""
    joined: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if joined and begin < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return joined


def _masked(run: re.Match[str]) -> str:
    return run.group() if run["ours"] else _stars(run.group())


def _stars(run: str) -> str:
    return "*" * 8 + re.sub(r"\D", "", run)[-4:]


class TextLines(logging.Formatter):
    """Time, level, logger and words, for people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The line, masked."""
        return masked(super().format(record))


class JsonLines(logging.Formatter):
    """One JSON object for each line, for machines."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, masked."""
        line: dict[str, object] = {
            "at": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return masked(json.dumps(line, ensure_ascii=False))


def log_to_stderr(level: str, form: str) -> None:
    """Send every logger's lines to standard error; libraries that tell of each request are kept quiet."""
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(JsonLines() if form == "json" else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [stream]
    root.setLevel(level)
    for name in ("asyncio", "kombu", "amqp", "redis"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # At each start it warns that a queue cannot delay messages; none of ours is ever delayed.
    logging.getLogger("kombu.transport.native_delayed_delivery").setLevel(logging.ERROR)
    # Celery tells of every message that comes and goes; our own lines say what came of it.
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))
