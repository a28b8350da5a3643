"""Grouping: what the threads of one process want at one moment, they claim, look and settle together.

Each charge keeps its own row, its own intent before its own call, and its own answer under its own fence; only the
transactions are shared. What is not plain goes the way of `charging` and `settling`, alone.
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import Enum
from itertools import chain, repeat
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from schedules import events
from schedules.charges import AttemptState, KeyedIn
from schedules.errors import BROKEN
from schedules.identity import merchant_uid
from schedules.money import Money
from schedules.outcomes import Paid
from worker.clock import OtherClock, elapsed
from worker.combining import Combiner
from worker.points import Point, reach
from worker.store import charges, plain, rates, switches
from worker.store.attempts import Attempt
from worker.store.charges import Sight
from worker.store.plain import Fresh, Settling
from worker.workflows.services import Services

log = logging.getLogger("again.grouping")
MOST = 64  # in one transaction: rows are locked for milliseconds
ALONE = 4  # threads that settle what is not plain of an envelope
LINGER = 0.03  # seconds that a group gathers for where there is a crowd; so much longer an answer is unwritten
LEAVES_LINGER = 0.015  # seconds; a moment is not waited for longer than it lasts
PATIENCE = 5.0  # seconds; longer waits go back to the queue, so that the lease is for the call
_PAID = [field.name for field in fields(Paid)]
_CLOCK = OtherClock()  # the database's, by which moments are given; one for each process
UNCAPPED = (0.0, math.inf, True)
# A call that leaves late falls into a second that belongs to others. So each moment is longer than its share of a
# second, and whoever is later than that allows takes another: then no second sees more than the cap, and what is
# left unused is the price. Above a thousand calls a second a machine is busy, and fewer would leave in time.
BUSY_RATE = 1000.0
SPREAD, BUSY_SPREAD = 1.018, 1.09
LATE, BUSY_LATE = 0.005, 0.08  # seconds; below what the spread leaves, the rest being the way to the gateway


def interval(rate: float) -> float:
    """Seconds from one moment of an account's cap to the next; 0 is no cap."""
    return (SPREAD if rate <= BUSY_RATE else BUSY_SPREAD) / rate if rate else 0.0


class Ungrouped(Enum):
    """What a group has not done."""

    ALONE = "it is not plain, and goes alone"


@dataclass(frozen=True, slots=True)
class Claimed:
    """A charge and the attempt at it that is ours until its lease runs out."""

    charge_id: int
    key: str
    account: str
    customer_uid: str
    name: str
    keyed_in: KeyedIn | None
    intent: Attempt


@dataclass(frozen=True, slots=True)
class Leaving:
    """A claimed attempt whose thread asks whether it may leave, and when."""

    attempt_id: int
    account: str
    rate: float  # calls a second; 0 is no cap


@dataclass(frozen=True, slots=True)
class Leave:
    """What a last look saw, and the moment that is free for the call; times are those of `elapsed`."""

    sight: Sight
    looked_at: float  # before the look
    earliest: float  # not before this
    latest: float  # and not after this: the moment would be another's
    is_granted: bool  # false when the moment would be further away than anybody waits


class Groups:
    """What one process does by the group."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.claims: Combiner[int, Claimed | Ungrouped] = Combiner(self.claim_many, MOST, LINGER)
        self.leaves: Combiner[Leaving, Leave] = Combiner(
            lambda them: ask_leave(services, them), MOST, LEAVES_LINGER
        )
        self.alone = ThreadPoolExecutor(ALONE, thread_name_prefix="alone")
        self.settlements: Combiner[tuple[Attempt, Paid], AttemptState | Ungrouped] = Combiner(
            self.settle_many, MOST, LINGER
        )

    def claim_many(self, ids: Sequence[int]) -> list[Claimed | Ungrouped]:
        """Write the first attempts at these debts, claimed, in one transaction; what is not plain is left."""
        services, now = self._services, self._services.clock.now()
        with services.engine.begin() as db:
            planned = [intent for fresh in plain.take_fresh(db, ids, now) if (intent := self._planned(fresh, now))]
            accounts = {claimed.account for claimed in planned}
            allowed = {account for account in accounts if self._may_send(db, account)}
            planned = [claimed for claimed in planned if claimed.account in allowed]
            rows = [(claimed.charge_id, claimed.intent) for claimed in planned]
            begun = plain.begin(db, rows, now + services.settings.lease_time) if rows else {}
        done = {
            claimed.charge_id: replace(claimed, intent=replace(claimed.intent, id=begun[claimed.charge_id]))
            for claimed in planned
            if claimed.charge_id in begun
        }
        # Each claim goes to one: a message may have come twice, and both are in this group. Whoever is left looks
        # alone, and says why it is not tried; most of it is somebody else's by now.
        return [done.pop(charge_id, Ungrouped.ALONE) for charge_id in ids]

    def _planned(self, fresh: Fresh, now: datetime) -> Claimed | None:
        """The first attempt at a debt; None for a row that breaks a rule."""
        try:
            uid = merchant_uid(self._services.settings.environment, fresh.key, 1)
            money = Money(fresh.amount, fresh.currency)
        except BROKEN:
            return None
        intent = Attempt(0, fresh.id, 1, uid, money, 1, now, None, 0)
        return Claimed(fresh.id, fresh.key, fresh.account, fresh.customer_uid, fresh.name, None, intent)

    def _may_send(self, db: Connection, account: str) -> bool:
        services = self._services
        permission = switches.permission(db, account)
        return account in services.gateways and permission.obstacle(services.fingerprint, services.clock) is None

    def settle_many(self, answered: Sequence[tuple[Attempt, Paid]]) -> list[AttemptState | Ungrouped]:
        """Write payments that change nothing but their own debts, in one transaction; others are left."""
        now = self._services.clock.now()
        try:
            with self._services.engine.begin() as db:
                told = plain.lock_to_settle(db, [attempt.charge_id for attempt, _ in answered])
                payments = [
                    _settling(attempt, paid, told[attempt.charge_id])
                    for attempt, paid in answered
                    if attempt.charge_id in told
                ]
                done = (
                    plain.settle(db, payments, events.ChargePaid.kind, events.VERSION, now) if payments else set()
                )
                for attempt, _ in answered:
                    reach(Point.SETTLING_WRITTEN, attempt.merchant_uid)
        except DBAPIError as error:
            # One of them is paid already, or the database failed: each is written alone, as its fence allows.
            log.warning("%d payments are written one by one: %s", len(answered), type(error.orig).__name__)
            return [Ungrouped.ALONE for _ in answered]
        uids = [attempt.merchant_uid for attempt, _ in answered if attempt.id in done]
        for uid in uids:
            reach(Point.SETTLING_COMMITTED, uid)
        if uids:
            log.info("paid: %s", " ".join(uids))
        return [AttemptState.PAID if attempt.id in done else Ungrouped.ALONE for attempt, _ in answered]


def ask_leave(services: Services, leaving: Sequence[Leaving]) -> list[Leave]:
    """Look a last time at each of these attempts, and take a free moment of its account's cap for each."""
    looked_at = elapsed()
    # Statements that stand for themselves need no transaction around them.
    with services.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        sights = charges.last_looks(db, [each.attempt_id for each in leaving])
        capped = {each.account: each for each in leaving if each.rate}
        moments = {account: _moments(db, of, leaving, _CLOCK) for account, of in capped.items()}
    return [
        Leave(sights[each.attempt_id], looked_at, *(next(moments[each.account]) if each.rate else UNCAPPED))
        for each in leaving
    ]  # fmt: skip


def _moments(
    db: Connection, of: Leaving, leaving: Sequence[Leaving], clock: OtherClock
) -> Iterator[tuple[float, float, bool]]:
    """Free moments of one account's cap, one for each of those that leave: earliest, latest, and whether it is."""
    asked = sum(bool(each.rate) and each.account == of.account for each in leaving)
    every, late = interval(of.rate), LATE if of.rate <= BUSY_RATE else BUSY_LATE
    # What nobody would wait for is not taken; the first may wait as long as that besides.
    many = min(asked, 1 + int(PATIENCE / every))
    asked_at = elapsed()
    moment = rates.take(db, of.account, 1 / every, PATIENCE, many)
    refused = repeat((asked_at, math.inf, False))
    if moment is None:
        return refused
    first = clock.here(asked_at, elapsed(), moment.database_time) + moment.seconds
    granted = [(first + place * every, first + place * every + late, True) for place in range(many)]
    return chain(granted, refused)


def _told_of(paid: Paid) -> dict[str, Any]:
    # dataclasses.asdict copies each value deeply, which takes longer than all else that a payment needs here.
    return {name: getattr(paid, name) for name in _PAID}


def _settling(attempt: Attempt, paid: Paid, row: Mapping[str, Any]) -> Settling:
    event = events.ChargePaid(
        charge=row["key"], subscription=row["subscription"], customer_uid=row["customer_uid"],
        merchant_uid=attempt.merchant_uid, amount=row["amount"], currency=row["currency"], recovered=False,
        request_key=row["request_key"],
    )  # fmt: skip
    return Settling(
        attempt.id,
        attempt.charge_id, attempt.fence, paid.imp_uid, paid.pg_provider, _told_of(paid), event.subject,
        f"{event.charge}/paid", events.payload(event),
    )  # fmt: skip
