"""Logs on standard error, one line each, as text or JSON; what looks like a card number is masked."""

import json
import logging
import re
import sys
from collections.abc import Callable, Iterable
from textwrap import indent
from typing import Any

from schedules.charging.cards import card_numbers
from schedules.texts import escaped, escaped_in_json
from worker.clock import elapsed
from worker.runtime.outages import REMINDED_AFTER

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

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 # the base class's name
        """The message in one line, with line breaks escaped, so that no message can forge a line."""
        record.message = escaped(record.message, lines=False)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 # the base class's name
        """The traceback, indented: a line of what was raised does not look like a log line."""
        return indent(super().formatException(ei), "  ")

    def format(self, record: logging.LogRecord) -> str:
        """The line, masked."""
        return masked(escaped(super().format(record)))


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
        return masked(escaped_in_json(json.dumps(line, ensure_ascii=False)))


CANNOT_CONNECT = "Cannot connect to"
REPEATED = (CANNOT_CONNECT, "Connection to broker lost", "Frequent restarts detected")


class LostBroker(logging.Filter):
    """Of a broker that is away or refuses writes: the first line of each kind, and one each minute.

    Celery tries for ever, at first every two seconds, and logs each try. After it has connected, the next failure
    to connect is logged at once.
    """

    def __init__(self, now: Callable[[], float] = elapsed) -> None:
        super().__init__()
        self._now = now
        self._logged_at: dict[str, float] = {}

    def connected(self) -> None:
        """Note that Celery has connected: its line about that is not logged at each level."""
        self._logged_at.pop(CANNOT_CONNECT, None)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is logged."""
        kind = next((kind for kind in REPEATED if kind in str(record.msg)), None)
        if kind is not None:
            if self._now() - self._logged_at.get(kind, -REMINDED_AFTER) < REMINDED_AFTER:
                return False
            self._logged_at[kind] = self._now()
        # That calls under way outlive a lost connection is set on purpose: see worker.app.
        return "worker_cancel_long_running_tasks_on_connection_loss" not in record.getMessage()


lost_broker = LostBroker()


def log_to_stderr(level: str, form: str) -> None:
    """Send every logger's lines to standard error; libraries that tell of each request are kept quiet."""
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(JsonLines() if form == "json" else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [stream]
    # What libraries say at DEBUG holds whole messages and requests, with names, e-mails and telephones.
    root.setLevel(max(logging.INFO, logging.getLevelName(level)))
    logging.getLogger("again").setLevel(level)
    for name in ("asyncio", "kombu", "amqp", "redis", "httpx", "httpcore", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # At each start it warns that a queue cannot delay messages; none of ours is ever delayed.
    logging.getLogger("kombu.transport.native_delayed_delivery").setLevel(logging.ERROR)
    for name in ("celery.worker.consumer.consumer", "py.warnings"):
        logging.getLogger(name).addFilter(lost_broker)
    # Celery tells of every message that comes and goes; our own lines say what came of it.
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))
