"""What can go wrong with embedded services."""

from schedules.errors import Code, FixedCode


class EmbeddedError(FixedCode, code=Code.FAILED):
    """An embedded service cannot be used; the words say why and what to do."""


class ServerEnded(EmbeddedError, code=Code.FAILED):
    """A server ended before it answered; the words hold the end of its log."""
