"""Check what a Redis broker holds before kombu reads it: any sender may write anything there."""

import json
import logging
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from datetime import datetime
from typing import Any
from uuid import uuid4

from kombu.utils.json import loads
from redis.exceptions import WatchError

from worker.broker import messages
from worker.runtime.outages import Outage

log = logging.getLogger("again.brokers")
REPAIR_EVERY = 10.0  # seconds; as often, kombu returns what is not acknowledged in time
PAGE = 100  # unacknowledged messages that are read at once, of 256 kB at most
RETURNED = "again.returned."  # prefix of the key that says that a message is back in its list
LASTS = 3600  # seconds, for which that key is kept: longer than the pushes of one message are tried again
_repairs = Outage(log, "the repair of the broker's keys")


class LastPopped:
    """The message that BRPOP answered with last, until kombu has stored it as unacknowledged.

    BRPOP removes it from its list. A broker that becomes full then refuses to store it, and kombu drops it. For
    the consumer's thread alone.
    """

    def __init__(self) -> None:
        self._last: tuple[bytes, bytes, str] | None = None  # the list, its entry, the delivery tag

    def check_messages(self, channel: Any) -> None:
        """Have each message that BRPOP answers with checked before kombu decodes it."""
        channel.client.set_response_callback("BRPOP", self._checked)

    def settle(self) -> None:
        """Note that kombu has stored it: where it cannot, it raises, and the consumer connects again."""
        self._last = None

    def push_back(self, channel: Any) -> None:
        """Push it back where the next BRPOP takes it, once, unless kombu has stored it."""
        if self._last is None:
            return
        name, raw, tag = self._last
        key = f"{RETURNED}{tag}"

        def push(pipe: Any) -> None:
            is_safe = pipe.hexists(channel.unacked_key, tag) or pipe.exists(key)
            pipe.multi()
            if not is_safe:
                pipe.set(key, "1", ex=LASTS).rpush(name, raw)

        with channel.conn_or_acquire() as client:
            if client.transaction(push, channel.unacked_key, key):
                log.warning("the broker did not store that a message is taken; it is back on %r", name.decode())
        self._last = None

    def _checked(self, reply: Any, **_: Any) -> tuple[bytes, bytes] | None:
        """The list's name and the checked envelope; of a refused one, only the reason, the size and the digest."""
        self.settle()
        if not reply:
            return None
        name, raw = reply
        queue = name.decode()
        try:
            envelope = messages.read_envelope(raw, queue)
        except messages.MessageRefused as refused:
            envelope = messages.refused_envelope(raw, queue, refused.reason)
        self._last = name, raw, envelope["properties"]["delivery_tag"]
        return name, json.dumps(envelope).encode()


def prepare(connection: Any, popped: LastPopped, queues: Sequence[str], now: datetime) -> None:
    """Prepare a connection for a consumer; it is closed when the broker fails meanwhile."""
    with ExitStack() as opened:
        opened.callback(connection.close)
        popped.check_messages(connection.default_channel)
        repair(connection.default_channel, queues, now)
        popped.push_back(connection.default_channel)
        opened.pop_all()


def repair_or_log(connection: Any, queues: Sequence[str], now: datetime, outage: Outage = _repairs) -> None:
    """Repair; what the broker refuses or does not answer is logged, once a minute, and tried again next time."""
    try:
        repair(connection.default_channel, queues, now)
    except (*connection.connection_errors, *connection.channel_errors) as error:
        outage.failed(str(error))
    else:
        outage.succeeded()


def repair(channel: Any, queues: Sequence[str], now: datetime) -> None:
    """Rename keys of a wrong type, and remove overdue unacknowledged messages that kombu cannot give back.

    The first would stop each read of the queues; the second would stop the return of all other messages.
    """
    types = dict.fromkeys(queues, b"list") | {channel.unacked_key: b"hash", channel.unacked_index_key: b"zset"}
    with channel.conn_or_acquire() as client:
        pipe = client.pipeline(transaction=False)
        for key in types:
            pipe.type(key)
        for (key, expected), found in zip(types.items(), pipe.execute(), strict=True):
            if found not in (expected, b"none"):
                _rename(client, key, expected)
        # What is overdue when kombu looks next is found now.
        until = now.timestamp() + REPAIR_EVERY - channel.visibility_timeout
        _remove_unreadable(channel, client, queues, until)


def _rename(client: Any, key: str, expected: bytes) -> None:
    """Rename a key unless another worker has done so meanwhile; none that was renamed before is replaced."""
    try:
        with client.pipeline() as pipe:
            pipe.watch(key)
            found = pipe.type(key)
            if found in (expected, b"none"):
                return
            name = f"{key}.refused"
            if pipe.exists(name):
                name += f".{uuid4()}"
            pipe.multi()
            (is_renamed,) = pipe.renamenx(key, name).execute()
    except WatchError:
        return
    if is_renamed:
        log.error(
            "key %r of the broker is of type %s, not %s; it is renamed to %s",
            key, found.decode(), expected.decode(), name,
        )  # fmt: skip


def _remove_unreadable(channel: Any, client: Any, queues: Collection[str], until: float) -> None:
    kept = 0
    index = channel.unacked_index_key
    while tags := client.zrange(index, "-inf", until, byscore=True, offset=kept, num=PAGE):
        for tag, entry in zip(tags, client.hmget(channel.unacked_key, tags), strict=True):
            if _can_be_given_back(entry, queues):
                kept += 1
                continue
            client.pipeline().zrem(index, tag).hdel(channel.unacked_key, tag).execute()
            log.error("an unacknowledged message cannot be given back, and is removed: %.80r", tag)


def _can_be_given_back(entry: bytes | None, queues: Collection[str]) -> bool:
    """Whether kombu can push it to its queue again; an entry that is gone needs nothing."""
    if entry is None:
        return True
    try:
        message, exchange, routing_key = loads(entry.decode())
        properties = message["properties"]
        return (
            isinstance(message["headers"], dict)
            and isinstance(properties.get("delivery_info", {}), dict)
            and isinstance(exchange, str)
            and routing_key in queues
        )
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError):
        return False
