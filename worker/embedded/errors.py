"""What can go wrong with embedded services."""


class EmbeddedError(Exception):
    """An embedded service cannot be used; the words say why and what to do."""


class ServerEnded(EmbeddedError):
    """A server ended before it answered; the words hold the end of its log."""
