"""Check what a Redis broker holds before kombu reads it: any sender may write anything there."""

import json
import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from kombu.utils.json import loads

from worker.broker import messages

log = logging.getLogger("again.brokers")


def check_messages(channel: Any) -> None:
    """Have each message that BRPOP answers with checked before kombu decodes it."""
    channel.client.set_response_callback("BRPOP", _checked)


def _checked(reply: Any, **_: Any) -> tuple[bytes, bytes] | None:
    """The list's name and the checked envelope; of a refused one, only the reason, the size and the digest."""
    if not reply:
        return None
    name, raw = reply
    queue = name.decode()
    try:
        envelope = messages.read_envelope(raw, queue)
    except messages.MessageRefused as refused:
        envelope = messages.refused_envelope(raw, queue, refused.reason)
    return name, json.dumps(envelope).encode()


def repair(channel: Any, queues: Sequence[str], now: datetime) -> None:
    """Rename keys of a wrong type, and remove overdue unacknowledged messages that kombu cannot read.

    The first would stop each read of the queues; the second would stop the return of all other messages.
    """
    types = dict.fromkeys(queues, b"list") | {channel.unacked_key: b"hash", channel.unacked_index_key: b"zset"}
    with channel.conn_or_acquire() as client:
        pipe = client.pipeline(transaction=False)
        for key in types:
            pipe.type(key)
        for (key, expected), found in zip(types.items(), pipe.execute(), strict=True):
            if found not in (expected, b"none"):
                client.rename(key, f"{key}.refused")
                log.error(
                    "key %r of the broker is of type %s, not %s; it is renamed to %s.refused",
                    key, found.decode(), expected.decode(), key,
                )  # fmt: skip
        until = now.timestamp() - channel.visibility_timeout
        for tag in client.zrange(channel.unacked_index_key, "-inf", until, byscore=True):
            if not _is_readable(client.hget(channel.unacked_key, tag)):
                client.pipeline().zrem(channel.unacked_index_key, tag).hdel(channel.unacked_key, tag).execute()
                log.error("an unacknowledged message cannot be read, and is removed: %.80r", tag)


def _is_readable(entry: bytes | None) -> bool:
    """Whether kombu can give it back; an entry that is gone needs nothing."""
    if entry is None:
        return True
    try:
        _message, _exchange, _routing_key = loads(entry.decode())
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError):
        return False
    return True
