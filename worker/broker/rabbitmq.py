"""Options of a connection to RabbitMQ: how py-amqp reads and writes the frames of it.

kombu passes `broker_transport_options` to py-amqp's connection; `frame_handler` and `frame_writer` are two of its
parameters.
"""

import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from amqp import spec
from amqp.exceptions import FrameSyntaxError, IrrecoverableConnectionError, RecoverableConnectionError
from amqp.method_framing import frame_handler, frame_writer

BLOCKED = "the RabbitMQ node takes no messages: it has a memory or disk alarm, which its log names"
METHOD_FRAME = 1
HEADER_FRAME = 2
PROPERTIES_AT = 12  # bytes of a header frame before the properties: class, weight and body size


class Blocked(IrrecoverableConnectionError):
    """A RabbitMQ node with a memory or disk alarm takes no message; a new connection is no better."""


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


def write_frames(connection: Any, transport: Any) -> Callable[..., None]:
    """py-amqp's writer of frames; it raises Blocked while the node blocks the connection.

    During a memory or disk alarm a node reads nothing more from a connection on which a message came: no
    confirmation comes, and no answer to a request to close. The node does not even see that it was closed: it
    keeps each such connection until the alarm ends. Such a connection is not used until then; to close it, only
    the socket is closed.
    """
    write = frame_writer(connection, transport)
    is_blocked = False

    def begin(_reason: str) -> None:
        nonlocal is_blocked
        is_blocked = True
        raise Blocked(BLOCKED)

    def end() -> None:
        # On this connection, a late confirmation would be taken for the next message's.
        connection.collect()
        raise RecoverableConnectionError(
            "the RabbitMQ node takes messages again; the next goes over a new connection"
        )

    def write_frame(kind: int, channel: int, method: tuple[int, int], arguments: Any, content: Any) -> None:
        if is_blocked and kind == METHOD_FRAME:
            _discard(connection, channel, method)
        write(kind, channel, method, arguments, content)

    connection.on_blocked, connection.on_unblocked = begin, end
    return write_frame


def _discard(connection: Any, channel: int, method: tuple[int, int]) -> None:
    """Write nothing to a node that blocks the connection: close here what is to be closed, and raise Blocked."""
    if method == spec.Connection.Close:
        connection.collect()
    elif method == spec.Channel.Close:
        connection.channels[channel].collect()
    else:
        with suppress(TimeoutError):
            connection.drain_events(timeout=0)  # raises when it reads that the alarm is over
    raise Blocked(BLOCKED)
