"""What can go wrong with embedded services."""

from schedules.errors import ToldInWords


class EmbeddedError(ToldInWords):
    """An embedded service cannot be used; the words say why and what to do."""


class ServerEnded(EmbeddedError):
    """A server ended before it answered; the words hold the end of its log."""
