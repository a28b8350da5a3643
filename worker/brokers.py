"""kombu's transports for Redis and RabbitMQ: fewer round trips, and no message can break the consumer.

kombu makes a client for each message taken and acknowledged, and acknowledges each by itself. It decodes what a
broker holds without checks: an envelope that is not JSON, a compressed body and a header that cannot be read each
raise inside the worker's loop, or take all of its memory.
"""

import logging
import struct
from collections.abc import Callable
from contextlib import suppress
from queue import Empty
from typing import Any

from amqp.exceptions import FrameSyntaxError, IrrecoverableConnectionError, RecoverableConnectionError
from amqp.method_framing import frame_handler
from kombu.transport import TRANSPORT_ALIASES, pyamqp, redis, virtual
from redis.exceptions import RedisError, ResponseError

from worker.broker import messages
from worker.runtime.outages import Outage

log = logging.getLogger("again.brokers")
outage = Outage(log, "the broker")  # of this process
REFUSED = "again-refused"  # the key of an envelope that says why its message is refused; no sender's key is kept
BLOCKED = "the RabbitMQ node takes no messages: it has a memory or disk alarm, which its log names"
HEADER_FRAME = 2
PROPERTIES_AT = 12  # bytes of an AMQP header frame before the properties: class, weight and body size


class QoS(redis.QoS):
    """What is taken and not acknowledged; what was done in one turn of a worker's loop is acknowledged together.

    A worker that dies before that gets those messages again, which a claim mends.
    """

    channel: Any
    _remove_from_indices: Any

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

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:
        """Give a message back. An entry that cannot be read is removed: it would stop the return of all others."""
        try:
            super().restore_by_tag(tag, client, leftmost)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            log.error("an unacknowledged message cannot be read, and is removed: %.80r", tag)
            self._remove_from_indices(tag).execute()

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Give back what is not acknowledged, when the channel closes."""
        with suppress(RedisError, OSError):  # a server that is away gives them out again
            self.tell()
        super().restore_unacked_once(stderr)


class RedisMessage(virtual.Message):
    """A message from Redis, with the reason for which it is refused and its raw bytes if its envelope is bad."""

    def __init__(self, payload: dict[str, Any], channel: Any = None, **kwargs: Any) -> None:
        self.refused: tuple[messages.Reason, bytes] | None = payload.pop(REFUSED, None)
        super().__init__(payload, channel, **kwargs)


class Channel(redis.Channel):
    """A channel that keeps its client while its connections are the same: one costs a third of a message."""

    QoS = QoS
    Message = RedisMessage
    connection_errors: Any
    _queue_cycle: Any
    _flush_brpop_reauth: Any
    _kept: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        make = super()._create_client  # type: ignore[misc]  # the types of kombu leave it out
        if asynchronous:  # the one that waits for messages has a connection of its own, and kombu keeps it
            return make(asynchronous=True)
        if self._kept is None or self._kept.connection_pool is not self.pool:
            self._kept = make()
        return self._kept

    def _brpop_read(self, **options: Any) -> bool:
        """Deliver what BRPOP answers: kombu's own method, with the envelope checked where kombu decodes it."""
        try:
            try:
                reply = self.client.parse_response(self.client.connection, "BRPOP", **options)
            except self.connection_errors:
                self.client.connection.disconnect()
                raise
            except ResponseError as error:
                if not str(error).startswith("WRONGTYPE"):
                    raise
                self._move_foreign_keys()
                reply = None
            if not reply:
                raise Empty
            queue = reply[0].decode().rsplit(self.sep, 1)[0]
            self._queue_cycle.rotate(queue)
            self.connection._deliver(_checked_envelope(reply[1], queue), queue)
            return True
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()

    def _move_foreign_keys(self) -> None:
        """Rename what has a queue's name and is not a list: no queue could be read as long as it is there."""
        with self.conn_or_acquire() as client:
            for queue in self._active_queues:
                if client.type(queue) not in (b"list", b"none"):
                    client.rename(queue, f"{queue}.refused")
                    log.error("key %r of the broker is not a list; it is renamed to %s.refused", queue, queue)


def _checked_envelope(raw: bytes, queue: str) -> dict[str, Any]:
    try:
        return messages.read_envelope(raw, queue)
    except messages.MessageRefused as refused:
        return messages.empty_envelope(queue) | {REFUSED: (refused.reason, raw)}


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


class RabbitMessage(pyamqp.Message):
    """A message from RabbitMQ whose body is never decompressed."""

    def __init__(self, msg: Any, channel: Any = None, **kwargs: Any) -> None:
        self.refused: tuple[messages.Reason, bytes] | None = None
        if (msg.properties.get("application_headers") or {}).pop("compression", None):
            self.refused = messages.Reason.COMPRESSED, messages.body_bytes(msg.body)
        super().__init__(msg, channel, **kwargs)


def read_frames(connection: Any, callback: Callable[..., Any]) -> Callable[[tuple[int, int, Any]], bool]:
    """py-amqp's reader of frames; properties that it cannot read, such as a date of the year 300,000, are dropped.

    The message is refused afterwards for the lack of them. An error here would end the connection, and RabbitMQ
    would deliver the message to the next one.
    """
    read = frame_handler(connection, callback)

    def on_frame(frame: tuple[int, int, Any]) -> bool:
        kind, channel, buffer = frame
        try:
            return bool(read(frame))
        except (FrameSyntaxError, struct.error, ValueError, ArithmeticError, LookupError, RecursionError):
            if kind != HEADER_FRAME:
                raise
            return bool(read((kind, channel, bytes(buffer[:PROPERTIES_AT]) + b"\0\0")))

    return on_frame


class Blocked(IrrecoverableConnectionError):
    """A RabbitMQ node with a memory or disk alarm takes no message; a new connection is no better."""


class RabbitChannel(pyamqp.Channel):
    """A channel to RabbitMQ."""

    Message = RabbitMessage

    def basic_publish_confirm(self, *args: Any, **kwargs: Any) -> Any:
        """Publish and wait for the confirmation; raise Blocked at once while the node takes no message."""
        if self.connection is not None:  # py-amqp has an error for a connection that was lost
            self.connection.check_blocked()
        return super().basic_publish_confirm(*args, **kwargs)

    def close(self, *args: Any, **kwargs: Any) -> Any:
        """Close it, and wait for the node's answer where one will come."""
        if self.connection is not None and self.connection.is_blocked:
            self.collect()
            return None
        return super().close(*args, **kwargs)


class RabbitConnection(pyamqp.Connection):
    """A connection to RabbitMQ that does not wait for a node that blocks it.

    During a memory or disk alarm a node reads nothing more from a connection on which a message came: no
    confirmation comes, and no answer to a request to close. The node does not even see that it was closed: it
    keeps each such connection until the alarm ends. Such a connection is not used until then; to close it, only
    the socket is closed.
    """

    Channel = RabbitChannel
    is_blocked = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            **kwargs, frame_handler=read_frames, on_blocked=self._begin_block, on_unblocked=self._end_block
        )

    def check_blocked(self) -> None:
        """Raise Blocked while the node takes no message."""
        if self.is_blocked:
            with suppress(TimeoutError):
                self.drain_events(timeout=0)  # the end of the alarm, if it came
            raise Blocked(BLOCKED)

    def collect(self) -> None:
        """Close the socket; a node blocks nothing that is closed."""
        self.is_blocked = False
        super().collect()

    def close(self, *args: Any, **kwargs: Any) -> Any:
        """Close it. A node that blocks it would not answer, so then only the socket is closed."""
        if self.is_blocked:
            self.collect()
            return None
        return super().close(*args, **kwargs)

    def _begin_block(self, _reason: str) -> None:
        self.is_blocked = True
        raise Blocked(BLOCKED)

    def _end_block(self) -> None:
        """Go on with a new connection: on this one, a late confirmation would pass for the next message's."""
        self.collect()
        raise RecoverableConnectionError(
            "the RabbitMQ node takes messages again; the next goes over a new connection"
        )


class RabbitTransport(pyamqp.Transport):
    """RabbitMQ without TLS."""

    Connection = RabbitConnection


class RabbitTLSTransport(pyamqp.SSLTransport):
    """RabbitMQ with TLS."""

    Connection = RabbitConnection


def use() -> None:
    """Let redis://, rediss://, amqp:// and amqps:// mean these transports in this process.

    Named in the settings, one would stand in the place of redis in each address that is shown.
    """
    schemes: dict[str, type[Any]] = {
        "redis": Transport, "rediss": Transport, "amqp": RabbitTransport, "amqps": RabbitTLSTransport,
    }  # fmt: skip
    for scheme, transport in schemes.items():
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{transport.__name__}"
