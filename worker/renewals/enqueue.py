"""Dispatch: send messages for due charges, oldest first, up to a bound for each account."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple, TypeVar

from sqlalchemy import Connection

from schedules.charging.charges import ChargeKind
from schedules.errors import Code, FixedCode
from worker.failpoints import Failpoint, hit
from worker.services import Services, right_time
from worker.store.charging import adhoc_charges, charges, kill_switch, queue

log = logging.getLogger("again.enqueue")
Publish = Callable[[Sequence["Queued"]], None]  # a message for each
PublishMany = Callable[[Sequence["Envelope"]], None]  # a message for each
T = TypeVar("T")
Waiting = Callable[[], int]
SECONDS_AHEAD = 4.0  # seconds of an account's cap that wait in the broker: a priority charge is sent within them
REFILL = 4  # refill when a fourth of the bound is free, so that charges are queued in large groups
LEAST_AHEAD = 20  # charges; an account with a low cap must not run empty before the next dispatch
GIVEN_BACK = timedelta(seconds=3)  # time until released charges are queued again
MANY = 200  # charges queued at once from which envelopes are used; for a lower cap, one second of it
MOST_IN_ENVELOPE = 100
ENVELOPE_SECONDS = 0.5  # largest size of an envelope, in seconds of the account's cap


class Queued(NamedTuple):
    """A charge that is marked as queued, with what its message says."""

    charge_id: int
    kind: ChargeKind
    account: str


@dataclass(frozen=True, slots=True)
class Envelope:
    """Charges of one account and kind in one message."""

    charge_ids: Sequence[int]
    kind: ChargeKind
    account: str


class BrokerUnreachable(FixedCode, code=Code.UNAVAILABLE):
    """The broker did not accept the messages; the charges stay due and are queued again later."""


def top_up(
    services: Services, publish: Publish, waiting: Waiting = lambda: 0, publish_many: PublishMany | None = None
) -> int:
    """Fill each account's queue up to its bound with the charges that are due longest; return how many.

    `waiting` returns the number of messages in the broker: when no worker takes them, no more are sent, even if
    queue_patience has passed for those that were sent.

    A charge is marked as queued before its message is sent. If the message, or the whole broker, is lost after
    that, the charge is queued again after queue_patience.
    """
    accounts = _accounts_due(services)
    if not accounts or waiting() >= services.settings.queue_bound * len(accounts):
        return 0
    queued = {account: few for account in accounts if (few := _queue(services, account))}
    for account in queued:
        hit(Failpoint.DISPATCHING_QUEUED, account)
    try:
        _publish(services, queued, publish, publish_many)
    except BrokerUnreachable:
        with services.engine.begin() as db:
            charges.unqueue(db, [each.charge_id for few in queued.values() for each in few])
        raise
    for account, few in queued.items():
        hit(Failpoint.DISPATCHING_PUBLISHED, account)
        log.debug("queued %d charges of account %s", len(few), account)
    return sum(len(few) for few in queued.values())


def is_more_due(services: Services) -> bool:
    """Whether any account has a due charge, queued or not."""
    return bool(_accounts_due(services))


def _accounts_due(services: Services) -> list[str]:
    with services.engine.begin() as db:
        return charges.accounts_with_work(db, services.account_names, services.clock.now())


def send_now(services: Services, charge_id: int, publish: Publish) -> None:
    """Send the message of one charge at once, before those that wait to be queued.

    An error here only delays the charge: it is due, and the next dispatch queues it. While its account may not
    send, it is not queued, because it would wait for queue_patience after the resume.
    """
    now = services.clock.now()
    with services.engine.begin() as db:
        account = adhoc_charges.account_of(db, charge_id)
        if account is None or _may_not_send(services, db, account):
            return
        kind = adhoc_charges.queue_one(db, charge_id, now, timedelta(seconds=services.settings.queue_patience))
    if kind is None:
        return
    hit(Failpoint.DISPATCHING_QUEUED, str(charge_id))
    try:
        publish([Queued(charge_id, ChargeKind(kind), account)])
    except BrokerUnreachable as error:
        log.warning("charge %d is queued later: %s", charge_id, error)
        with services.engine.begin() as db:
            charges.unqueue(db, [charge_id])


def _may_not_send(services: Services, db: Connection, account: str) -> bool:
    return kill_switch.permission(db, account).obstacle(services.identity, services.clock) is not None


def _queue(services: Services, account: str) -> Sequence[Queued]:
    """Mark an account's charges as queued, up to its bound."""
    now = services.clock.now()
    patience = timedelta(seconds=services.settings.queue_patience)
    with services.engine.begin() as db:
        if _may_not_send(services, db, account):
            return []
        if not charges.queues_alone(db, account):
            return []  # another process is filling this account's queue
        bound = _bound(services, account)
        room = bound - charges.queued_count(db, account, now)
        if room < max(1, bound // REFILL):
            return []
        due = queue.queue_due(db, account, now, patience, room)
    return [Queued(charge_id, ChargeKind(kind), account) for charge_id, kind in due]


def _publish(
    services: Services, queued: Mapping[str, Sequence[Queued]], publish: Publish, publish_many: PublishMany | None
) -> None:
    many = {account for account, few in queued.items() if publish_many and len(few) >= _many(services, account)}
    one_by_one = _mixed([few for account, few in queued.items() if account not in many])
    if one_by_one:
        publish(one_by_one)
    if publish_many is not None and many:
        publish_many(_mixed([_envelopes(services, account, queued[account]) for account in sorted(many)]))


def _mixed(lines: Sequence[Sequence[T]]) -> list[T]:
    """Merge several lists, each in its order and spread evenly, so that no account waits behind another."""
    placed = [
        ((place + 0.5) / len(line), number, one)
        for number, line in enumerate(lines)
        for place, one in enumerate(line)
    ]
    return [one for _, _, one in sorted(placed, key=lambda each: each[:2])]


def _envelopes(services: Services, account: str, queued: Sequence[Queued]) -> list[Envelope]:
    """Yield the charges of each kind, in order, in chunks."""
    size = _size(services, account)
    ids = {kind: [each.charge_id for each in queued if each.kind is kind] for kind in ChargeKind}
    return [
        Envelope(few[begin : begin + size], kind, account)
        for kind, few in ids.items()
        for begin in range(0, len(few), size)
    ]


def give_back(services: Services, charge_ids: Sequence[int]) -> None:
    """Queue charges again soon that a worker received and has no room for."""
    with services.engine.begin() as db:
        charges.queue_again(db, charge_ids, right_time(services, db) + GIVEN_BACK)


def _bound(services: Services, account: str) -> int:
    """Return how many charges of an account may wait in the broker: the next seconds of its cap."""
    rate = services.account(account).rate
    bound = services.settings.queue_bound
    return min(bound, max(LEAST_AHEAD, int(rate * SECONDS_AHEAD))) if rate else bound


def _many(services: Services, account: str) -> int:
    """Return from how many charges of an account on envelopes are used."""
    rate = services.account(account).rate
    return max(LEAST_AHEAD, min(MANY, int(rate))) if rate else MANY


def _size(services: Services, account: str) -> int:
    """Return how many charges of an account one envelope carries."""
    rate = services.account(account).rate
    return max(1, min(MOST_IN_ENVELOPE, int(rate * ENVELOPE_SECONDS))) if rate else MOST_IN_ENVELOPE
