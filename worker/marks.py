"""A mark in the broker of how far the books had come: a database that is behind it was put back in place."""

import logging
from datetime import datetime
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from worker.store import notes
from worker.workflows import restoring
from worker.workflows.services import Services

log = logging.getLogger("again.marks")
KEEPER = "again"  # the actor that the audit names


def check(app: Celery, services: Services) -> bool:
    """Hold charging when the books are behind their mark, and move the mark on; False when they were behind.

    A second line: a restore into another database or cluster is seen by its fingerprint, one in place only by
    this. Without a Redis broker, or with one that was emptied as well, there is no mark, and nothing is seen.
    """
    with app.connection_for_write() as connection:
        lost: tuple[type[BaseException], ...] = (OperationalError, *connection.connection_errors)
        try:
            store = getattr(connection.default_channel, "client", None)
            return store is None or _compare(store, services)
        except lost as error:
            log.warning("the books' mark cannot be read, for the broker does not answer: %s", error)
            return True


def _compare(store: Any, services: Services) -> bool:
    name = f"again.mark.{services.fingerprint}"
    mark = (store.get(name) or b"").decode()
    number, _, at = mark.partition(" ")
    with services.engine.begin() as db:
        reached = notes.newest_event(db)
        # That very event, not only as many: a restored database may have gone on and counted past it.
        known = not mark or notes.has_event(db, int(number), datetime.fromisoformat(at))
    if not known:
        why = f"event {number} of {at} is missing in these books: the database was put back in place"
        log.error("%s", why)
        restoring.begin_hold(services, KEEPER, why)
    if reached is not None:
        store.set(name, f"{reached[0]} {reached[1].isoformat()}")
    else:
        store.delete(name)
    return known
