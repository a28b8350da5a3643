"""Announcements: events before a charge and before a card expires, and after a subscription has ended by time."""

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import Connection

from schedules.charging.charges import ChargeKind, SubscriptionStatus
from schedules.charging.identity import charge_key
from schedules.outbox import events
from worker.services import Services, are_ours_and_known
from worker.store.customers import customers, subscriptions
from worker.store.customers.subscriptions import Announced, ToAnnounce
from worker.store.outbox import event_log

BATCH = 500  # rows in one transaction


def announce_due(services: Services, going_on: Callable[[], bool] = lambda: True) -> int:
    """Enqueue events about coming charges, expiring cards and ended subscriptions; return how many."""
    told = 0
    if not are_ours_and_known(services):
        return 0
    while going_on():
        now = services.clock.now()
        with services.engine.begin() as db:
            fresh = _announce_charges(db, now) + _announce_cards(db, now)
        told += fresh
        if fresh < BATCH:
            break
    return told


def _announce_charges(db: Connection, now: datetime) -> int:
    rows = subscriptions.take_to_tell(db, now, BATCH)
    soon: dict[int, events.ChargeUpcoming] = {}
    for row in rows:
        if row.ends_at is not None and row.ends_at <= now:
            ended = events.SubscriptionCanceled(
                subscription=row.key, customer_uid=row.customer_uid, why="its period has ended"
            )
            event_log.enqueue_event(db, ended, f"{row.key}/canceled", now)
        elif _will_be_charged(row, now) and (notice := _notice(row)).says != row.told_as:
            soon[row.id] = notice
    before = event_log.count(db, events.ChargeUpcoming.kind, [notice.charge for notice in soon.values()])
    for notice in soon.values():
        # The number of the notice of this charge: a change that is reverted is announced again.
        dedupe = f"{notice.charge}/upcoming/{before.get(notice.charge, 0)}/{notice.says}"
        event_log.enqueue_event(db, notice, dedupe, now)
    subscriptions.told(db, [row.id for row in rows], {row_id: notice.says for row_id, notice in soon.items()})
    return len(rows)


def _will_be_charged(row: ToAnnounce, now: datetime) -> bool:
    ends = row.ends_at is not None and row.next_due_at >= row.ends_at
    skipped = row.next_period_no < (row.skip_to or 0)
    active = row.status is SubscriptionStatus.ACTIVE
    return active and row.next_due_at > now and not ends and not skipped


def _notice(row: ToAnnounce) -> events.ChargeUpcoming:
    key = charge_key(ChargeKind.RENEWAL, row.key, row.next_period_no)
    return events.ChargeUpcoming(
        charge=key, subscription=row.key, customer_uid=row.customer_uid, amount=row.price,
        currency=row.currency, due_at=row.next_due_at, card_name=row.card_name,
        card_number=row.card_number,
    )  # fmt: skip


def announce_anew(db: Connection, announced: Sequence[Announced], now: datetime) -> None:
    """Announce again for these subscriptions, whose card has changed, unless the content is equal.

    A notice of a charge that has been opened since is ignored: the next one is sent at its own time.
    """
    for row in announced:
        next_charge = charge_key(ChargeKind.RENEWAL, row.key, row.next_period_no)
        if row.told_as.startswith(f"{next_charge}/"):
            subscriptions.change(db, row.id, tell_at=now)


def _announce_cards(db: Connection, now: datetime) -> int:
    expiring = customers.take_expiring(db, now, BATCH)
    for key_id, customer_uid, last_day in expiring:
        soon = events.CardExpiring(customer_uid=customer_uid, expires_on=last_day)
        event_log.enqueue_event(db, soon, f"{customer_uid}/expiring/{last_day}", now)
        customers.change_key(db, key_id, tell_expiry_at=None)
    return len(expiring)
