"""Payments of closed debts: each is a finding until a person decides to refund or to keep it."""

import logging
from datetime import datetime

from sqlalchemy import Connection

from schedules.charging.outcomes import GatewayPayment, PaymentState
from schedules.operations.findings import Discrepancy, FindingKind, FindingState
from schedules.outbox import events
from schedules.outbox.payment_events import FoundPaidAfterEnd
from worker.store.charging.charges import Charge
from worker.store.outbox import event_log
from worker.store.reconciliation import findings

log = logging.getLogger("again.late_payments")
KIND = FindingKind.PAID_AFTER_END


def note(db: Connection, charge: Charge, uid: str | None, imp_uid: str, now: datetime) -> None:
    """Write the finding and the events of a payment for a closed debt, in the transaction of `db`.

    Without a `uid` a person has recorded a payment by another way: the gateway has nothing to refund.
    """
    log.error("charge %s was %s and is paid now by %s, after its end", charge.key, charge.status, uid)
    late = events.ChargePaidAfterEnd(charge=charge.key, was=charge.status.value, merchant_uid=uid or "")
    event_log.enqueue_event(db, late, f"{charge.key}/paid_after_end", now)
    if uid is None:
        return
    ended = "its subscription was canceled" if charge.is_of_canceled else f"it was {charge.status}"
    words = f"the debt was paid after its end: {ended}; refund the payment, or resolve this to keep it"
    payment = GatewayPayment.of(uid, imp_uid, PaymentState.PAID, charge.money)
    finding, _ = findings.note(db, charge.account, payment, charge.key, Discrepancy(KIND, words), now)
    found = FoundPaidAfterEnd(
        finding=finding.id, charge=charge.key, merchant_uid=uid, imp_uid=imp_uid, amount=finding.amount,
        currency=finding.currency, words=finding.words,
    )  # fmt: skip
    event_log.enqueue_event(db, found, f"{charge.account}/{uid}/{imp_uid}/{found.kind}", now)


def end_refunded(db: Connection, charge_key: str, by: str, why: str, now: datetime) -> None:
    """End the finding of a charge whose payment has been refunded in full."""
    finding = findings.open_for(db, charge_key, kind=KIND)
    if finding is not None:
        state = FindingState.REFUNDED
        findings.change(db, finding, state, ended_at=now, ended_by=by, ended_why=why, balance=0)
