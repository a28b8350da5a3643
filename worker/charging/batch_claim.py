"""Grouping: what is wanted in one process at one moment is claimed together, and settled together.

Each charge keeps its own row, its own intent before its own call, and its own answer under its own fence; only the
transactions are shared. `claim` makes the claims; a settlement that is not plain goes the way of `settle`, alone.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields
from enum import Enum
from typing import Any

from schedules.charging.charges import AttemptState
from schedules.charging.outcomes import Paid
from schedules.outbox import events
from worker.charging.batcher import Batcher
from worker.charging.claim import Answer, claim_many
from worker.failpoints import Failpoint, hit
from worker.runtime.background import Part
from worker.services import Services
from worker.store.charging import fast_path
from worker.store.charging.attempts import Attempt
from worker.store.charging.fast_path import Settling
from worker.store.failures import DATABASE_ERRORS, summary

log = logging.getLogger("again.grouping")
MOST = 64  # in one transaction: rows are locked for milliseconds
LINGER = 0.03  # seconds that a group gathers for where there is a crowd; so much longer an answer is unwritten
_PAID = [field.name for field in fields(Paid)]


class NotBatched(Enum):
    """What a group has not done."""

    ALONE = "it is not plain, and goes alone"


class ChargeBatches:
    """What one process does by the group."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.claims: Batcher[int, Answer] = Batcher(Part.CLAIMS, self._claim_many, MOST, LINGER)
        self.settlements: Batcher[tuple[Attempt, Paid], AttemptState | NotBatched] = Batcher(
            Part.SETTLEMENTS, self.settle_many, MOST, LINGER
        )

    def use(self, services: Services) -> None:
        """Claim with these services from now on."""
        self._services = services

    def _claim_many(self, ids: Sequence[int]) -> list[Answer]:
        return claim_many(self._services, ids)

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
