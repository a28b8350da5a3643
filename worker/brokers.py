"""kombu's way to Redis, with a client that is kept: kombu makes one for each message taken, and acknowledged."""

from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis


class Channel(redis.Channel):
    """A channel that keeps its client while its connections are the same: one costs a third of a message."""

    _kept: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        make = super()._create_client  # type: ignore[misc]  # the types of kombu leave it out
        if asynchronous:  # the one that waits for messages has a connection of its own, and kombu keeps it
            return make(asynchronous=True)
        if self._kept is None or self._kept.connection_pool is not self.pool:
            self._kept = make()
        return self._kept


class Transport(redis.Transport):
    """Redis and Valkey, with and without TLS."""

    Channel = Channel


def use() -> None:
    """Let redis:// and rediss:// mean this transport in this process.

    Named in the settings, it would stand in the place of redis in each address that is shown.
    """
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{Transport.__name__}"
