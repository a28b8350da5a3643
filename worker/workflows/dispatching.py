"""Dispatching: charges that are due become messages, oldest first, never more than a bound at once."""

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta

from schedules.charges import ChargeKind
from schedules.errors import ToldInWords
from worker.points import Point, reach
from worker.store import charges, requested, switches
from worker.workflows.services import Services

log = logging.getLogger("again.dispatching")
Publish = Callable[[Sequence[tuple[int, ChargeKind]]], None]
Waiting = Callable[[], int]


class BrokerUnreachable(ToldInWords):
    """The broker did not take the messages; the charges stay due and are queued again later."""


def top_up(services: Services, publish: Publish, waiting: Waiting = lambda: 0) -> int:
    """Fill each account's queue up to its bound with the charges that are due longest; answers how many.

    `waiting` tells how many messages the broker holds: when nobody takes them, no more are sent, however often
    the patience with those that were sent has run out.

    A charge is marked as queued before its message leaves. A message that is lost after that, or a broker
    that loses everything, costs one queue_patience: then the charge is queued once more.
    """
    with services.engine.begin() as db:
        accounts = charges.accounts_with_work(db, services.clock.now())
    if not accounts or waiting() >= services.settings.queue_bound * len(accounts):
        return 0
    return sum(_top_up_account(services, account, publish) for account in accounts)


def send_now(services: Services, charge_id: int, publish: Publish) -> None:
    """Have one charge tried at once, ahead of those that wait to be queued: a person waits for it.

    Whatever goes wrong here costs time alone: the charge is due, and is queued like any other.
    """
    now = services.clock.now()
    with services.engine.begin() as db:
        kind = requested.queue_one(db, charge_id, now, timedelta(seconds=services.settings.queue_patience))
    if kind is None:
        return
    reach(Point.DISPATCHING_QUEUED, str(charge_id))
    try:
        publish([(charge_id, ChargeKind(kind))])
    except BrokerUnreachable as error:
        log.warning("charge %d is queued later: %s", charge_id, error)
        with services.engine.begin() as db:
            charges.unqueue(db, [charge_id])


def _top_up_account(services: Services, account: str, publish: Publish) -> int:
    now = services.clock.now()
    patience = timedelta(seconds=services.settings.queue_patience)
    with services.engine.begin() as db:
        if switches.permission(db, account).obstacle(services.fingerprint, services.clock) is not None:
            return 0
        room = services.settings.queue_bound - charges.queued_count(db, account, now)
        if room <= 0:
            return 0
        queued = charges.queue_due(db, account, now, patience, room)
    if not queued:
        return 0
    reach(Point.DISPATCHING_QUEUED, account)
    try:
        publish([(charge_id, ChargeKind(kind)) for charge_id, kind in queued])
    except BrokerUnreachable:
        with services.engine.begin() as db:
            charges.unqueue(db, [charge_id for charge_id, _ in queued])
        raise
    reach(Point.DISPATCHING_PUBLISHED, account)
    log.debug("queued %d charges of account %s", len(queued), account)
    return len(queued)
