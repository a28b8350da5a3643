"""Overdue charges: end graces, send last warnings and take final actions when they are due."""

import logging
from collections.abc import Callable
from datetime import timedelta

from schedules.dunning.standings import Step, due_steps, gives_up_at, next_look
from schedules.errors import BROKEN
from schedules.outbox import events
from worker.charging import dunning
from worker.charging.close import quarantine
from worker.services import Services, are_ours_and_known
from worker.store.charging import attempts, charges, debts
from worker.store.customers import subscriptions
from worker.store.outbox import event_log

log = logging.getLogger("again.overdue")
UNCLEAR = timedelta(hours=1)  # between two checks of a debt whose final action waits for an unclear attempt
BATCH = 500  # row ids read at once; each debt has a transaction of its own


def look_due(services: Services, going_on: Callable[[], bool] = lambda: True) -> int:
    """End graces, send last warnings and take final actions that are due; return the number of debts checked.

    A missed check is made late, and each of its steps is taken once.
    """
    looked, after = 0, 0
    if not are_ours_and_known(services):
        return 0  # a restored database, or one of another installation, ends no subscription
    while going_on() and (page := _due_after(services, after)):
        for charge_id in page:
            try:
                _look(services, charge_id)
            except BROKEN as broken:
                quarantine(services, charge_id, broken)
            looked += 1
        after = page[-1]
    return looked


def _due_after(services: Services, after: int) -> list[int]:
    with services.engine.begin() as db:
        return debts.to_look(db, services.clock.now(), after, BATCH)


def _look(services: Services, charge_id: int) -> None:
    now = services.clock.now()
    with services.engine.begin() as db:
        subscriptions.lock_of_charge(db, charge_id)
        charge = charges.locked(db, charge_id)
        if charge is None or charge.look_at is None or charge.look_at > now:
            return  # another worker has checked it
        seen = dunning.overdue(charge)
        steps = due_steps(seen, now)
        if Step.GIVE_UP in steps and attempts.is_under_way(db, charge.id):
            charges.change(db, charge.id, look_at=now + UNCLEAR)
            return
        if Step.GIVE_UP in steps:
            dunning.give_up(db, charge, charge.policy.final, now)
            return
        charges.change(db, charge.id, look_at=next_look(seen, now))
        if charge.held_why is not None:
            return  # an operator checks it; the customer is not warned of what may be our own fault
        if Step.SUSPEND in steps:
            dunning.tell_suspended(db, charge, "its grace is over", now)
        ends_at = gives_up_at(seen)
        # While an attempt is unclear it may have been paid: no warning is sent.
        unclear = attempts.is_under_way(db, charge.id)
        if Step.WARN in steps and ends_at is not None and not unclear:
            ladder = charge.history.ladder_began_at
            warning = events.LastWarning(
                charge=charge.key, subscription=charge.subscription, customer_uid=charge.customer_uid,
                amount=charge.money.amount, currency=charge.money.currency, gives_up_at=ends_at,
                final=charge.policy.final.value,
            )  # fmt: skip
            event_log.enqueue_event(db, warning, f"{charge.key}/last_warning/{ladder}", now)
