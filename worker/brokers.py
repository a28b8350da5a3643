"""kombu's way to Redis, with fewer ways to the server and back for each message.

kombu makes a client for each message taken and acknowledged, and acknowledges each by itself.
"""

from contextlib import suppress
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis, virtual
from redis.exceptions import RedisError


class QoS(redis.QoS):
    """What is taken and not acknowledged; what was done in one turn of a worker's loop is acknowledged together.

    A worker that dies before that gets those messages again, which a claim mends.
    """

    channel: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._done: list[str] = []

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge one at the end of this turn; at once where there is no loop."""
        if not self.channel.connection.has_turns:
            super().ack(delivery_tag)
            return
        self._done.append(delivery_tag)
        virtual.QoS.ack(self, delivery_tag)

    def tell(self) -> None:
        """Tell the server what was done since the last turn."""
        if self._done:
            done, self._done = self._done, []
            with self.pipe_or_acquire() as pipe:
                pipe.zrem(self.unacked_index_key, *done).hdel(self.unacked_key, *done).execute()

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Give back what is not acknowledged, when the channel closes."""
        with suppress(RedisError, OSError):  # a server that is away gives them out again
            self.tell()
        super().restore_unacked_once(stderr)


class Channel(redis.Channel):
    """A channel that keeps its client while its connections are the same: one costs a third of a message."""

    QoS = QoS
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
    has_turns = False  # whether a loop drives it, and each of its turns ends with `_end_turn`

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Be driven by a worker's loop."""
        super().register_with_event_loop(connection, loop)
        self.has_turns = True
        loop.on_tick.add(self._end_turn)

    def _end_turn(self) -> None:
        channels: Any = self.channels
        for channel in channels:
            channel.qos.tell()


def use() -> None:
    """Let redis:// and rediss:// mean this transport in this process.

    Named in the settings, it would stand in the place of redis in each address that is shown.
    """
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{Transport.__name__}"
