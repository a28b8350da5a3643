"""The port of event receivers: one call, whose answers are values."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Message:
    """One event as it is sent: the id and the body are the same each time."""

    id: str
    body: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """The receiver has it."""

    words: str


@dataclass(frozen=True, slots=True)
class NotTaken:
    """The receiver did not take it, or its answer is unclear: it is sent again."""

    words: str


@dataclass(frozen=True, slots=True)
class Gone:
    """The receiver says that it wants no more of it."""

    words: str


Answer = Accepted | NotTaken | Gone


class Receiver(Protocol):
    """Takes events. It never raises for what goes wrong on the way: that is an answer too."""

    def send(self, message: Message, now: datetime) -> Answer:
        """Send one event, once; its signature tells this time."""

    def close(self) -> None:
        """Let its connections go."""
