"""A mark in the broker of how far the books had come: a database that is behind it was put back in place."""

import hashlib
import hmac
import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import redis
from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import ResponseError, WatchError

from worker.broker import messages
from worker.broker.messages import Reason
from worker.reconciliation import restore
from worker.runtime import outages
from worker.runtime.outages import Outage
from worker.services import Services
from worker.store.charging import kill_switch
from worker.store.operations import dead_letters
from worker.store.outbox import event_log

log = logging.getLogger("again.restore_detector")
ACTOR = "again"  # the actor that the audit names
MOST_EVENTS = 2**63  # as the database counts them


@dataclass(frozen=True, slots=True)
class Mark:
    """The newest attempt event that the database had."""

    number: int
    at: datetime


def check(app: Celery, services: Services, outage: Outage = outages.broker) -> bool:
    """Hold charging when the books are behind their mark, and move the mark on; False when they were behind.

    A second line: a restore into another database or cluster is seen by its fingerprint, one in place only by
    this. The mark is signed: another writer to the broker can neither hold charging by it nor end a worker.
    Without a Redis broker, or with one that was emptied as well, there is no mark, and nothing is seen.
    """
    with app.connection_for_write() as connection:
        # A broker that refuses writes, out of memory or a replica, is a channel error; a connection that is lost
        # while a key is watched is a WatchError.
        lost: tuple[type[BaseException], ...] = (
            OperationalError, WatchError, *connection.connection_errors, *connection.channel_errors
        )  # fmt: skip
        try:
            store = getattr(connection.default_channel, "client", None)
            return store is None or _compare(store, services)
        except lost as error:
            words = str(error).rpartition("caused error: ")[2]  # without the command, which holds the mark
            outage.failed(f"the mark of the restore detector cannot be read or written: {words}")
            return True


def _compare(store: Any, services: Services) -> bool:
    with services.engine.begin() as db:
        fingerprint = services.fingerprint(db)
    name = mark_name(fingerprint)
    with store.pipeline() as watched:
        watched.watch(name)
        found = _read(watched, name, services, fingerprint)
        with services.engine.begin() as db:
            reached = event_log.newest_event(db)
            # That very event, not only as many: a restored database may have gone on and counted past it.
            known = found is None or event_log.has_event(db, found.number, found.at)
        if found is not None and not known:
            event = f"event {found.number} of {found.at}"
            why = f"{event} is missing in these books: the database was put back in place"
            log.error("%s", why)
            restore.begin_hold(services, ACTOR, why)
        watched.multi()
        if reached is not None:
            watched.set(name, signed(services, fingerprint, *reached))
        else:
            watched.delete(name)
        try:
            watched.execute()
        except WatchError as error:
            if isinstance(error.__context__, (redis.ConnectionError, redis.TimeoutError)):
                raise  # nothing is known of the mark: the connection was lost
            return known  # another process wrote a mark since it was read: the next check compares that one
    with services.engine.begin() as db:
        kill_switch.note_signed_mark(db, services.clock.now())
    return known


def mark_name(fingerprint: str) -> str:
    """The key in the broker under which the mark of a database stands."""
    return f"again.mark.{fingerprint}"


def signed(services: Services, fingerprint: str, number: int, at: datetime) -> str:
    """The mark for an attempt event, with a signature by a key that those who send requests do not have."""
    words = f"{number} {at.isoformat()}"
    return f"{words} {_signature(services, fingerprint, words)}"


def _signature(services: Services, fingerprint: str, words: str) -> str:
    # The API key, not the secret: a new secret must not make the mark unreadable. A new API key is another
    # fingerprint, which `again adopt` binds with a hold of its own. A key that is kept in the database would be
    # missing in a backup from before it was made.
    api_key = services.settings.portone_key.get_secret_value().encode()
    key = hashlib.blake2b(api_key, digest_size=32, person=b"again-mark").digest()
    # The name of the database and environment is part of it: a mark of another one is no mark of this one.
    return hmac.new(key, f"{fingerprint} {words}".encode(), hashlib.sha256).hexdigest()


def _read(store: Any, name: str, services: Services, fingerprint: str) -> Mark | None:
    """The mark, or None: there is none, or it was not written by us, which is reported and changes nothing."""
    try:
        raw = bytes(store.get(name) or b"")
    except ResponseError:
        raw = b"a key of another type"
    if not raw:
        return None
    words, _, signature = raw.decode(errors="replace").rpartition(" ")
    if hmac.compare_digest(signature.encode(), _signature(services, fingerprint, words).encode()):
        number, _, at = words.partition(" ")
        return Mark(int(number), datetime.fromisoformat(at))
    with services.engine.begin() as db:
        is_upgraded = not kill_switch.has_signed_mark(db)
    former = _former(raw) if is_upgraded else None
    if former is None:
        _report(services, raw)
    return former


def _former(raw: bytes) -> Mark | None:
    """A mark that an earlier version wrote, which did not sign it, or by the account's secret of then.

    It counts as long as this database has signed none itself: the database may be one that was put back, from
    before the upgrade.
    """
    number, _, rest = raw.decode(errors="replace").partition(" ")
    try:
        mark = Mark(int(number), datetime.fromisoformat(rest.partition(" ")[0]))
    except ValueError:
        return None
    return mark if 0 < mark.number < MOST_EVENTS and mark.at.tzinfo is not None else None


def _report(services: Services, raw: bytes) -> None:
    log.error(
        "the mark in the broker (%d bytes) was not written by this installation, and is replaced: another program "
        "writes to the broker; see docs/how-to/dead-letters.md",
        len(raw),
    )
    letter = messages.dead_letter("again.mark", raw, {}, Reason.FORGED_MARK)
    with services.engine.begin() as db:
        dead_letters.add(db, [letter], services.clock.now())
