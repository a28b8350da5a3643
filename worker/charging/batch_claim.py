"""Grouping: what is wanted in one process at one moment is claimed together, and settled together.

Each charge keeps its own row, its own intent before its own call, and its own answer under its own fence; only the
transactions are shared. What is not plain goes the way of `charging` and `settling`, alone.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import Enum
from typing import Any

from sqlalchemy import Connection

from schedules.charging.buyers import NOBODY, Buyer
from schedules.charging.charges import AttemptState, ChargeKind, KeyedIn
from schedules.charging.identity import merchant_uid
from schedules.charging.outcomes import Paid
from schedules.errors import BROKEN
from schedules.money.amounts import Money
from schedules.outbox import events
from worker.charging.batcher import Batcher
from worker.failpoints import Failpoint, hit
from worker.runtime.background import Part
from worker.services import Services
from worker.store.charging import fast_path, kill_switch
from worker.store.charging.attempts import Attempt
from worker.store.charging.fast_path import Fresh, Settling
from worker.store.failures import DATABASE_ERRORS, summary

log = logging.getLogger("again.grouping")
MOST = 64  # in one transaction: rows are locked for milliseconds
LINGER = 0.03  # seconds that a group gathers for where there is a crowd; so much longer an answer is unwritten
_PAID = [field.name for field in fields(Paid)]


class NotBatched(Enum):
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
    kind: ChargeKind
    keyed_in: KeyedIn | None
    intent: Attempt
    buyer: Buyer = NOBODY


class ChargeBatches:
    """What one process does by the group."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.claims: Batcher[int, Claimed | NotBatched] = Batcher(Part.CLAIMS, self.claim_many, MOST, LINGER)
        self.settlements: Batcher[tuple[Attempt, Paid], AttemptState | NotBatched] = Batcher(
            Part.SETTLEMENTS, self.settle_many, MOST, LINGER
        )

    def use(self, services: Services) -> None:
        """Claim with these services from now on."""
        self._services = services

    def claim_many(self, ids: Sequence[int]) -> list[Claimed | NotBatched]:
        """Write the first attempts at these debts, claimed, in one transaction; what is not plain is left."""
        services, now = self._services, self._services.clock.now()
        with services.engine.begin() as db:
            found = fast_path.take_fresh(db, ids, now)
            cards = {fresh.id: fresh.billing_key_id for fresh in found}
            planned = [intent for fresh in found if (intent := self._planned(fresh, now))]
            accounts = {claimed.account for claimed in planned}
            allowed = {account for account in accounts if _may_send(services, db, account)}
            planned = [claimed for claimed in planned if claimed.account in allowed]
            rows = [(cards[claimed.charge_id], claimed.intent) for claimed in planned]
            begun = fast_path.begin(db, rows, now + services.settings.lease_time) if rows else {}
        done = {
            claimed.charge_id: replace(claimed, intent=replace(claimed.intent, id=begun[claimed.charge_id]))
            for claimed in planned
            if claimed.charge_id in begun
        }
        # Each claim goes to one: a message may have come twice, and both are in this group. Whoever is left looks
        # alone, and says why it is not tried; most of it is somebody else's by now.
        return [done.pop(charge_id, NotBatched.ALONE) for charge_id in ids]

    def _planned(self, fresh: Fresh, now: datetime) -> Claimed | None:
        """The first attempt at a debt; None for a row that breaks a rule."""
        try:
            uid = merchant_uid(self._services.settings.environment, fresh.key, 1)
            money = Money(fresh.amount, fresh.currency)
        except BROKEN:
            return None
        intent = Attempt(0, fresh.id, 1, uid, money, 1, now, None, 0, None, 1)
        kind = ChargeKind(fresh.kind)
        return Claimed(
            fresh.id, fresh.key, fresh.account, fresh.customer_uid, fresh.name, kind, None, intent, fresh.buyer
        )

    def settle_many(self, answered: Sequence[tuple[Attempt, Paid]]) -> list[AttemptState | NotBatched]:
        """Write payments that change nothing but their own debts, in one transaction; others are left."""
        now = self._services.clock.now()
        try:
            with self._services.engine.begin() as db:
                told = fast_path.lock_to_settle(db, [attempt.charge_id for attempt, _ in answered])
                payments = [
                    _settling(attempt, paid, told[attempt.charge_id])
                    for attempt, paid in answered
                    if attempt.charge_id in told
                ]
                done = (
                    fast_path.settle(db, payments, events.ChargePaid.kind, events.VERSION, now)
                    if payments
                    else set()
                )
                for attempt, _ in answered:
                    hit(Failpoint.SETTLING_WRITTEN, attempt.merchant_uid)
        except DATABASE_ERRORS as error:
            # One of them is paid already, or the database failed: each is written alone, as its fence allows.
            log.warning("%d payments are written one by one: %s", len(answered), summary(error))
            return [NotBatched.ALONE for _ in answered]
        uids = [attempt.merchant_uid for attempt, _ in answered if attempt.id in done]
        for uid in uids:
            hit(Failpoint.SETTLING_COMMITTED, uid)
        if uids:
            log.info("paid: %s", " ".join(uids))
        return [AttemptState.PAID if attempt.id in done else NotBatched.ALONE for attempt, _ in answered]


def _may_send(services: Services, db: Connection, account: str) -> bool:
    permission = kill_switch.permission(db, account)
    return account in services.account_names and permission.obstacle(services.identity, services.clock) is None


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
