"""Our books about a customer, and whether they agree with the gateway's own ledger."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Engine, select

from schedules.charging.charges import AttemptState, ChargeStatus
from worker.store.tables import attempt_events, attempts, billing_keys, charges, subscriptions

Row = dict[str, Any]


class Books:
    """What our database holds of subscriptions and customers."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def first_charge(self, key: str) -> Row | None:
        """The subscription's first charge, when it has been opened."""
        with self.engine.begin() as db:
            query = select(charges).where(_is_of(key))
            row = db.execute(query.order_by(charges.c.period_no)).mappings().first()
            return dict(row) if row is not None else None

    def attempts(self, key: str) -> list[Row]:
        """The attempts at the subscription's charges, oldest first."""
        with self.engine.begin() as db:
            query = select(attempts).join_from(attempts, charges).where(_is_of(key))
            return [dict(row) for row in db.execute(query.order_by(attempts.c.id)).mappings()]

    def next_question_at(self, key: str) -> datetime | None:
        """When the gateway is asked next about the subscription's last attempt; None while it is being asked."""
        told = self.events(key)
        tried = self.attempts(key)  # read after the events: whoever asks raises the fence before there is one
        if not tried or tried[-1]["state"] != AttemptState.UNKNOWN or tried[-1]["fence"] != told[-1][1]:
            return None
        at: datetime = tried[-1]["next_ask_at"]
        return at

    def events(self, key: str) -> list[tuple[str, int]]:
        """State and fence of everything that happened to the subscription's attempts."""
        with self.engine.begin() as db:
            query = select(attempt_events.c.state, attempt_events.c.fence).join_from(attempt_events, attempts)
            of_it = query.join(charges, charges.c.id == attempts.c.charge_id).where(_is_of(key))
            return [(row.state, row.fence) for row in db.execute(of_it.order_by(attempt_events.c.id))]

    def of_customer(self, customer_uid: str) -> tuple[list[Row], list[Row]]:
        """A customer's charges, and the attempts at them."""
        with self.engine.begin() as db:
            keys = select(billing_keys.c.id).where(billing_keys.c.customer_uid == customer_uid)
            query = select(charges).where(charges.c.billing_key_id.in_(keys))
            owed = [dict(row) for row in db.execute(query).mappings()]
            ids = [charge["id"] for charge in owed]
            of_them = select(attempts).where(attempts.c.charge_id.in_(ids))
            tried = [dict(row) for row in db.execute(of_them).mappings()]
            return owed, tried


def check(owed: Sequence[Row], tried: Sequence[Row], movements: Sequence[Row]) -> None:
    """Hold a customer's books against the ledger: no double, no lost, no ghost, no wrong amount, no loose end."""
    paid = [attempt for attempt in tried if attempt["state"] == AttemptState.PAID]
    ours = sorted(_entry(attempt, "merchant_uid") for attempt in paid)
    theirs = sorted(_entry(movement, "uid") for movement in _kept(movements))
    assert ours == theirs
    paid_debts = Counter(attempt["charge_id"] for attempt in paid)
    assert set(paid_debts.values()) <= {1}
    assert set(paid_debts) == {charge["id"] for charge in owed if charge["status"] == ChargeStatus.PAID}
    assert [charge for charge in owed if not _has_next_action(charge, tried)] == []


def _is_of(key: str) -> ColumnElement[bool]:
    return charges.c.subscription_id.in_(select(subscriptions.c.id).where(subscriptions.c.key == key))


def _kept(movements: Sequence[Row]) -> list[Row]:
    """The charges that were not given back; one is given back as a whole, or not at all."""
    back = {movement["imp_uid"]: movement["amount"] for movement in movements if movement["kind"] == "cancel"}
    charged = [movement for movement in movements if movement["kind"] == "charge"]
    assert back.items() <= {movement["imp_uid"]: movement["amount"] for movement in charged}.items()
    return [movement for movement in charged if movement["imp_uid"] not in back]


def _entry(entry: Row, uid: str) -> tuple[str, str, int, str]:
    return (entry[uid], entry["imp_uid"], entry["amount"], entry["currency"])


def _has_next_action(charge: Row, tried: Sequence[Row]) -> bool:
    if charge["closed_at"] is not None or charge["next_attempt_at"] is not None or charge["held_why"] is not None:
        return True
    if charge["waits"] is not None and (charge["look_at"] is not None or charge["given_up"] is not None):
        return True
    asked = {AttemptState.SENDING, AttemptState.UNKNOWN}  # both have a time by which somebody looks
    return any(attempt["charge_id"] == charge["id"] and attempt["state"] in asked for attempt in tried)
