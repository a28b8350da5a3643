"""Close charges, and cancel or pause subscriptions, inside the caller's transaction."""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from schedules.charging.cards import tell_expiry_at
from schedules.charging.charges import ChargeStatus, SubscriptionStatus
from schedules.dunning.settling import PaymentEffects, after_payment, resumes
from schedules.outbox import events
from worker.charging import late_payments
from worker.renewals.begin_subscription import begin_signed_up
from worker.renewals.open_charges import Opened, open_first, pass_over_paused
from worker.services import Services
from worker.store.charging import attempts, charges, debts, payments
from worker.store.charging.charges import Charge
from worker.store.charging.columns import NOTHING_NEXT, ChargeColumns
from worker.store.charging.payments import Payable
from worker.store.customers import customers, plans, subscriptions
from worker.store.customers.customers import NO_FACTS, KeyColumns
from worker.store.outbox import event_log

log = logging.getLogger("again.close")
# Written as closed_why of the charges of periods that came due in a pause.
PAUSED_WHY, RESTED_WHY = "the subscription was paused", "the subscription was paused for a debt"
# Until the facts of a card that a payment stored are read; the process that sent it reads them at once.
FACTS_READ_AFTER = timedelta(minutes=1)


def close(db: Connection, charge_id: int, status: ChargeStatus, why: str | None, now: datetime) -> None:
    """Close a charge that the caller has locked: it is neither attempted nor queued nor held after this.

    Charges that waited behind it become due.
    """
    _end(db, charge_id, status, why, now)
    debts.wake_behind(db, charge_id, now)


def _end(db: Connection, charge_id: int, status: ChargeStatus, why: str | None, now: datetime) -> None:
    ended: ChargeColumns = {**NOTHING_NEXT, "status": status.value, "closed_at": now, "closed_why": why}
    charges.change(db, charge_id, **ended)


def collected(
    db: Connection, charge: Charge, uid: str | None, now: datetime, why: str | None = None, imp_uid: str = ""
) -> None:
    """Close a charge as paid, by an attempt or by another way."""
    payable = payments.lock(db, [charge.id])[charge.id]
    then = after_payment(payable.facts, by_attempt=uid is not None)
    if then.is_late:
        late_payments.note(db, charge, uid, imp_uid, now)
    _end(db, charge.id, ChargeStatus.PAID, why, now)
    if then.wakes_behind:
        debts.wake_behind(db, charge.id, now)
    paid = paid_event(payable, uid, then)
    event_log.enqueue_event(db, paid, paid_dedupe(charge.key), now)
    if then.stores_card:
        _store_card(db, charge, now)
    if then.frees_card:
        customers.change_key(db, charge.billing_key_id, stopped_as=None)
        debts.wake_waiting(db, charge.billing_key_id, now)
    if then.resumes and charge.subscription_id is not None:
        resume_subscription(db, charge.subscription_id, "what it owed is paid", now, paused_why=RESTED_WHY)
    if then.recovers_subscription and charge.subscription is not None:
        back = events.SubscriptionRecovered(
            subscription=charge.subscription, customer_uid=charge.customer_uid, charge=charge.key
        )
        event_log.enqueue_event(db, back, f"{charge.key}/recovered", now)


def paid_event(payable: Payable, uid: str | None, then: PaymentEffects) -> events.ChargePaid:
    """Return the event of a payment by the attempt with this uid, or by another way."""
    return events.ChargePaid(
        charge=payable.key, subscription=payable.subscription, customer_uid=payable.customer_uid, merchant_uid=uid,
        amount=payable.money.amount, currency=payable.money.currency, recovered=then.recovered,
        request_key=payable.request_key,
    )  # fmt: skip


def paid_dedupe(charge_key: str) -> str:
    """Return the dedupe key of the event that a charge is paid."""
    return f"{charge_key}/paid"


def _store_card(db: Connection, charge: Charge, now: datetime) -> None:
    """Write that the gateway stored the card of a first payment, and begin the subscription that waited for it."""
    last_day = customers.expires_on(db, charge.billing_key_id)
    stored: KeyColumns = {
        **NO_FACTS,  # the known facts are those of an earlier card; the gateway is asked for this one's
        "deleted_at": None, "changed_at": now, "stopped_as": None, "ask_at": now + FACTS_READ_AFTER,
        "tell_expiry_at": None if last_day is None else tell_expiry_at(last_day),
    }  # fmt: skip
    customers.change_key(db, charge.billing_key_id, **stored)
    begin_signed_up(db, charge, now)


def resume_if_nothing_rests(db: Connection, charge: Charge, why: str, now: datetime) -> None:
    """Resume a subscription that was paused for this debt alone; the debt has just ended.

    The caller has locked the subscription.
    """
    if charge.subscription_id is None:
        return
    others_rest = debts.others_rest(db, charge.subscription_id, charge.id)
    if resumes(charge.given_up, others_rest=others_rest):
        resume_subscription(db, charge.subscription_id, why, now, paused_why=RESTED_WHY)


def set_aside(
    db: Connection, charge_key: str | None, why: str, now: datetime, instead_of: str | None = None
) -> None:
    """Hold a charge that is still owed until a person decides, and send an event; other charges go on.

    A debt that is held already stays as it is, unless it is held for the reason `instead_of`.
    """
    if charge_key is None or not charges.hold(db, charge_key, why, instead_of):
        return
    log.error("charge %s is set aside, a person must look: %s", charge_key, why)
    tell_held(db, charge_key, why, now)
    charge_id = charges.id_of(db, charge_key)
    if charge_id is not None:
        debts.wake_behind(db, charge_id, now)


def tell_held(db: Connection, charge_key: str, why: str, now: datetime) -> None:
    """Send the event of a hold."""
    event_log.enqueue_event(
        db, events.ChargeHeld(charge=charge_key, why=why), f"{charge_key}/held/{now.isoformat()}", now
    )


def quarantine(services: Services, charge_id: int, broken: Exception) -> None:
    """Hold a charge whose row breaks a rule; other charges go on."""
    with services.engine.begin() as db:
        set_aside(db, charges.key_of(db, charge_id), why_broken(broken), now=services.clock.now())


def why_broken(broken: Exception) -> str:
    """The reason that a charge whose row breaks a rule is held with."""
    return f"its row breaks a rule: {broken}"


@dataclass(frozen=True, slots=True)
class Owed:
    """A charge that a subscription owed when it was canceled."""

    charge: str
    amount: int  # minor units
    currency: str


@dataclass(frozen=True, slots=True)
class CanceledDebts:
    """The owed charges of a canceled subscription: those that were closed, and those with an unclear attempt."""

    closed: tuple[Owed, ...]
    unclear: tuple[Owed, ...]  # an attempt is under way or unknown: the answer decides


def cancel_subscription(db: Connection, subscription_id: int, why: str, now: datetime) -> CanceledDebts:
    """Cancel a subscription and the charges that it still owes.

    A period that is due is opened before, and one that came due in a pause is waived, so that each has a row. A
    charge whose attempt is under way or unclear is left to its answer: the money may have moved. If it has not,
    settling sees the cancelled subscription and ends the charge there.
    """
    key, uid = subscriptions.names(db, subscription_id)
    row = subscriptions.by_key(db, key, lock=True)
    if row is not None:
        open_first(db, row, now)
        pass_over_paused(db, row, why_paused(db, subscription_id), now)
    canceled_status = SubscriptionStatus.CANCELED.value
    subscriptions.change(db, subscription_id, status=canceled_status, open_at=None, ends_at=now, tell_at=None)
    ended = events.SubscriptionCanceled(subscription=key, customer_uid=uid, why=why)
    event_log.enqueue_event(db, ended, f"{key}/canceled", now)
    closed, unclear = list[Owed](), list[Owed]()
    for owed in charges.lock_owed_of(db, subscription_id):
        under_way = attempts.is_under_way(db, owed.id)
        (unclear if under_way else closed).append(Owed(owed.key, owed.amount, owed.currency))
        if not under_way:
            close(db, owed.id, ChargeStatus.CANCELED, "the subscription was canceled", now)
    return CanceledDebts(tuple(closed), tuple(unclear))


def pause_subscription(db: Connection, subscription_id: int, why: str, now: datetime) -> None:
    """Pause a subscription: no period is opened until it is resumed. Periods that are due are opened first."""
    paused = SubscriptionStatus.PAUSED.value
    key, uid = subscriptions.names(db, subscription_id)
    row = subscriptions.by_key(db, key, lock=True)
    if row is not None:
        open_first(db, row, now)
    # The event still names the end that a person has set.
    tell_at = row.ends_at if row is not None else None
    subscriptions.change(db, subscription_id, status=paused, open_at=None, tell_at=tell_at, told_as=None)
    rests = events.SubscriptionPaused(subscription=key, customer_uid=uid, why=why)
    event_log.enqueue_event(db, rests, f"{key}/paused/{now.isoformat()}", now)


def resume_subscription(
    db: Connection, subscription_id: int, why: str, now: datetime, *, paused_why: str = PAUSED_WHY
) -> tuple[Opened, ...]:
    """Resume a paused subscription with its next period; return the periods of the pause.

    They are not charged: each gets a charge that is waived, with `paused_why`.
    """
    key, uid = subscriptions.names(db, subscription_id)
    row = subscriptions.by_key(db, key)
    if row is None or row.status is not SubscriptionStatus.PAUSED or row.held_why is not None:
        return ()
    row, passed = pass_over_paused(db, row, paused_why, now)
    due_at, ahead = row.next_due_at, plans.by_id(db, row.plan_id).policy.upcoming
    ends = row.ends_at is not None and due_at >= row.ends_at
    told_at = None if ahead is None else due_at - ahead
    subscriptions.change(
        db,
        subscription_id,
        status=SubscriptionStatus.ACTIVE.value,
        open_at=None if ends else due_at,
        tell_at=row.ends_at if ends else told_at,
    )
    goes_on = events.SubscriptionResumed(subscription=key, customer_uid=uid, why=why)
    event_log.enqueue_event(db, goes_on, f"{key}/resumed/{now.isoformat()}", now)
    return passed


def why_paused(db: Connection, subscription_id: int) -> str:
    """Why the periods of a pause are not charged: a person has paused the subscription, or its policy has."""
    return PAUSED_WHY if debts.rests_for(db, subscription_id) is None else RESTED_WHY
