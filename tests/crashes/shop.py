"""A shop whose processes are killed and frozen on order, on a clock that the tests move, and its two sets of books."""

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from celery import Celery
from redis import Redis
from sqlalchemy import ColumnElement, RowMapping, select

from schedules.charges import AttemptState, ChargeStatus
from tests.crashes.process import KILL, obeyed_by, write_order
from tests.installation import Installation
from worker.app import BULK
from worker.clock import MovedClock, wait_until
from worker.points import Point
from worker.store.schema import attempt_events, attempts, billing_keys, charges, subscriptions

PATIENCE = 40.0  # real seconds that anything may take on a busy machine; all take well under five
BRISK = {
    "AGAIN_ENVIRONMENT": "test",
    "AGAIN_READ_TIMEOUT": "2.5",
    "AGAIN_CALL_DEADLINE": "3",
    "AGAIN_LEASE": "30",  # by the moved clock
    "AGAIN_VISIBILITY_TIMEOUT": "600",  # no message is handed out again during a test: rows mend, not the broker
    "AGAIN_QUIET_TIME": "5",
    "AGAIN_QUEUE_PATIENCE": "4",
    "AGAIN_BEAT_INTERVAL": "0.1",
    "AGAIN_RATE": "0",
    "AGAIN_CONCURRENCY": "4",
}
Row = RowMapping
WORKERS, OPS = "worker-charges", "worker-ops"
CHILDREN = ("beat-1", "beat-2", OPS, f"{WORKERS}-1", f"{WORKERS}-2", "simulator")


class Shop:
    """An installation, orders to die or freeze, and time that passes when it is told to."""

    def __init__(self, installation: Installation, orders: Path) -> None:
        self.installation = installation
        self.standing = installation.standing
        self.engine = installation.services.engine
        self.broker = Redis.from_url(installation.settings["AGAIN_BROKER_URL"])
        self._orders = orders
        self._faults: list[dict[str, object]] = []

    # What goes wrong

    def order(self, point: Point, how: str = KILL, whose: str = "") -> None:
        """Have the next process that reaches a point killed or frozen there."""
        for obeyed in self._orders.glob(f"{point}*"):
            obeyed.unlink()
        write_order(self._orders, point, how, whose)

    def struck(self, point: Point) -> "subprocess.Popen[bytes]":
        """The child that has been killed or frozen at a point, once it has."""
        assert wait_until(lambda: obeyed_by(self._orders, point) is not None, PATIENCE), f"nobody reached {point}"
        pid = obeyed_by(self._orders, point)
        (child,) = [child for child in self.standing.children("") if child.pid == pid]
        assert wait_until(lambda: child.poll() is not None or has_stopped(child), PATIENCE)
        return child

    def kill(self, prefix: str) -> None:
        """Kill the children whose names begin so."""
        for child in self.standing.children(prefix):
            child.kill()
            child.wait()

    def fault(self, customer_uid: str, fault: str, **more: object) -> None:
        """Let a customer's calls go wrong at the gateway; the first rule that fits counts."""
        self._faults.append({"fault": fault, "customer_uid": customer_uid, **more})
        self.installation.simulator("faults", {"rules": self._faults})

    def mend(self) -> None:
        """Start the children again that are dead, thaw those that are frozen, and withdraw faults and orders."""
        for order in self._orders.iterdir():
            order.unlink()
        for name in CHILDREN:
            (child,) = self.standing.children(name)
            child.send_signal(signal.SIGCONT)  # does nothing to one that has ended
            if child.poll() is not None:
                self.standing.restart(name)
        self._faults.clear()
        self.installation.simulator("faults", {"rules": []})

    # Customers, and time

    def customer(self, customer_uid: str, plan: str = "now", *, anchor: date | None = None, **card: object) -> str:
        """A customer whose first charge is due now, or at an anchor; answers the subscription's key."""
        return self.installation.customer(customer_uid, plan, anchor=anchor, **card)

    def now(self) -> datetime:
        """The time by the clock that all processes share."""
        return self.installation.services.clock.now()

    def pass_time(self, by: timedelta) -> None:
        """Move the clock of all processes, and the gateway's own with it."""
        self.set_time(self.now() + by)

    def set_time(self, at: datetime) -> None:
        """Make it this time for all processes, and for the gateway."""
        clock = self.installation.services.clock
        assert isinstance(clock, MovedClock)
        self.installation.simulator("clock", {"now": at.timestamp()})
        clock.move_to(at)

    def outlast_lease(self, key: str) -> None:
        """Let the lease of an attempt that is being sent run out, until its outcome counts as unknown."""
        self.wait_for_attempt(key, AttemptState.SENDING)
        self.pass_time(timedelta(seconds=31))
        self.wait_for_attempt(key, AttemptState.UNKNOWN)

    def ask_until(self, key: str, state: AttemptState) -> None:
        """Let the time come for each question about an unknown attempt, until the answer has led to this state."""

        def reached() -> bool:
            attempt = self.attempts(key)[-1]
            if attempt["state"] == AttemptState.UNKNOWN and attempt["next_ask_at"] > self.now():
                self.set_time(attempt["next_ask_at"])
            return bool(attempt["state"] == state)

        assert wait_until(reached, PATIENCE), f"waited for {state}, and saw {self.attempts(key)}"

    def let_end(self, key: str, status: ChargeStatus = ChargeStatus.PAID) -> Row:
        """Let whatever time pass that the subscription's first charge waits for, until it has this status."""

        def ended() -> bool:
            charge = self.first_charge(key)
            if charge is None:
                return False
            at = self._waits_until(key, charge)
            if at is not None and at > self.now():
                self.set_time(at)
            return bool(charge["status"] == status)

        assert wait_until(ended, PATIENCE), (
            f"waited for {status}, and saw {self.first_charge(key)} {self.attempts(key)}"
        )
        charge = self.first_charge(key)
        assert charge is not None
        return charge

    def _waits_until(self, key: str, charge: Row) -> datetime | None:
        tried = self.attempts(key)
        if tried and tried[-1]["state"] == AttemptState.UNKNOWN:
            return tried[-1]["next_ask_at"]  # type: ignore[no-any-return]  # a row's values are untyped
        return charge["next_attempt_at"]  # type: ignore[no-any-return]  # as above

    def wait_for_attempt(self, key: str, state: AttemptState) -> Row:
        """The last attempt at the subscription's first charge, once it is in this state."""

        def has_it() -> bool:
            tried = self.attempts(key)
            return bool(tried) and tried[-1]["state"] == state

        assert wait_until(has_it, PATIENCE), f"waited for {state}, and saw {self.attempts(key)}"
        return self.attempts(key)[-1]

    # Our books

    def first_charge(self, key: str) -> Row | None:
        """The subscription's first charge, when it has been opened."""
        with self.engine.begin() as db:
            query = select(charges).where(_is_of(key))
            return db.execute(query.order_by(charges.c.period_no)).mappings().first()

    def next_attempt_at(self, key: str) -> datetime:
        """When the subscription's first charge is tried next."""
        charge = self.first_charge(key)
        assert charge is not None
        at: datetime = charge["next_attempt_at"]
        return at

    def attempts(self, key: str) -> list[Row]:
        """The attempts at the subscription's charges, oldest first."""
        with self.engine.begin() as db:
            query = select(attempts).join_from(attempts, charges).where(_is_of(key))
            return list(db.execute(query.order_by(attempts.c.id)).mappings())

    def events(self, key: str) -> list[tuple[str, int]]:
        """State and fence of everything that happened to the subscription's attempts."""
        with self.engine.begin() as db:
            query = select(attempt_events.c.state, attempt_events.c.fence).join_from(attempt_events, attempts)
            of_it = query.join(charges, charges.c.id == attempts.c.charge_id).where(_is_of(key))
            return [(row.state, row.fence) for row in db.execute(of_it.order_by(attempt_events.c.id))]

    # The gateway's and the broker's side

    def movements(self, customer_uid: str) -> list[dict[str, Any]]:
        """The money that a customer's card has moved."""
        return self.installation.movements(customer_uid)

    def charges_sent(self) -> int:
        """How many calls for money the gateway has received."""
        return int(self.installation.simulator("ledger/summary")["calls"].get("again", 0))

    def publish(self, key: str, times: int = 1, broker_url: str | None = None) -> None:
        """Send messages about a subscription's first charge, as nobody should, to this shop's broker or another."""
        charge = self.first_charge(key)
        assert charge is not None
        with Celery(broker=broker_url or self.installation.settings["AGAIN_BROKER_URL"]) as publisher:
            for _ in range(times):
                publisher.send_task("again.charge", (charge["id"],), queue=BULK)

    def messages(self) -> int:
        """How many renewals wait in the broker."""
        return int(self.broker.llen(BULK))

    def ringing(self, task: str) -> dict[str, str]:
        """The messages of a chore that wait in the broker, by id, and the process that each is from."""
        waiting = [json.loads(message)["headers"] for message in self.broker.lrange("ops", 0, -1)]
        return {headers["id"]: headers["origin"] for headers in waiting if headers["task"] == task}

    def not_done(self) -> set[str]:
        """The ids of all messages for the ops worker that wait or are worked on."""
        held = [json.loads(message)[0] for message in self.broker.hvals("unacked")]
        waiting = [json.loads(message) for message in self.broker.lrange("ops", 0, -1)]
        return {message["headers"]["id"] for message in waiting + held}

    def held_messages(self) -> set[bytes]:
        """The messages that workers have taken and not acknowledged, those of dead workers too."""
        return set(self.broker.hkeys("unacked"))

    def wait_until_worked_off(self, held_before: set[bytes]) -> None:
        """Wait until every renewal's message is acknowledged, but for those that dead workers held before."""

        def worked_off() -> bool:
            held = [self.broker.hget("unacked", tag) for tag in self.held_messages() - held_before]
            return self.messages() == 0 and not any(message and b"again.charge" in message for message in held)

        assert wait_until(worked_off, PATIENCE)

    def log_of(self, child: "subprocess.Popen[bytes]") -> str:
        """What a child has logged."""
        (name,) = [name for name in CHILDREN if child in self.standing.children(name)]
        return self.log(name)

    def log(self, name: str) -> str:
        """What the child of a name has logged."""
        return (self.standing.data / "logs" / f"{name}.log").read_text()

    def wait_until_at_rest(self, customer_uid: str) -> None:
        """Wait until no attempt of a customer is being sent."""

        def at_rest() -> bool:
            _, tried = self._books_of(customer_uid)
            return all(attempt["state"] != AttemptState.SENDING for attempt in tried)

        assert wait_until(at_rest, PATIENCE)

    def books_agree(self, *customer_uids: str, at_once: int = 1) -> None:
        """Hold our books against the gateway's ledger: no double, no lost, no ghost, no wrong amount, no loose end.

        `at_once` is the most calls about one uid that may have been under way at the same moment.
        """
        for customer_uid in customer_uids:
            owed, tried = self._books_of(customer_uid)
            ours = sorted(_entry(attempt, "merchant_uid") for attempt in tried if attempt["state"] == "paid")
            theirs = sorted(_entry(movement, "uid") for movement in _kept(self.movements(customer_uid)))
            assert ours == theirs
            paid_debts = Counter(attempt["charge_id"] for attempt in tried if attempt["state"] == "paid")
            assert set(paid_debts.values()) <= {1}
            assert set(paid_debts) == {charge["id"] for charge in owed if charge["status"] == ChargeStatus.PAID}
            assert [charge for charge in owed if not _has_next_action(charge, tried)] == []
        summary = self.installation.simulator("ledger/summary")
        assert summary["double"] == []
        assert summary["max_in_flight_same_uid"] == at_once

    def _books_of(self, customer_uid: str) -> tuple[list[Row], list[Row]]:
        with self.engine.begin() as db:
            keys = select(billing_keys.c.id).where(billing_keys.c.customer_uid == customer_uid)
            owed = list(db.execute(select(charges).where(charges.c.billing_key_id.in_(keys))).mappings())
            ids = [charge["id"] for charge in owed]
            tried = list(db.execute(select(attempts).where(attempts.c.charge_id.in_(ids))).mappings())
            return owed, tried


def _is_of(key: str) -> ColumnElement[bool]:
    return charges.c.subscription_id.in_(select(subscriptions.c.id).where(subscriptions.c.key == key))


def _kept(movements: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The charges that were not given back; one is given back as a whole, or not at all."""
    back = {movement["imp_uid"]: movement["amount"] for movement in movements if movement["kind"] == "cancel"}
    charged = [movement for movement in movements if movement["kind"] == "charge"]
    assert back.items() <= {movement["imp_uid"]: movement["amount"] for movement in charged}.items()
    return [movement for movement in charged if movement["imp_uid"] not in back]


def _entry(entry: Mapping[str, Any], uid: str) -> tuple[str, str, int, str]:
    return (entry[uid], entry["imp_uid"], entry["amount"], entry["currency"])


def _has_next_action(charge: Row, tried: list[Row]) -> bool:
    if charge["closed_at"] is not None or charge["next_attempt_at"] is not None or charge["held_why"] is not None:
        return True
    asked = {AttemptState.SENDING, AttemptState.UNKNOWN}  # both have a time by which somebody looks
    return any(attempt["charge_id"] == charge["id"] and attempt["state"] in asked for attempt in tried)


def has_stopped(child: "subprocess.Popen[bytes]") -> bool:
    """Whether a child has been frozen since this was last asked."""
    _, status = os.waitpid(child.pid, os.WUNTRACED | os.WNOHANG)
    return os.WIFSTOPPED(status)


def freeze(child: "subprocess.Popen[bytes]") -> None:
    """Freeze a child, and wait until it is."""
    child.send_signal(signal.SIGSTOP)
    assert wait_until(lambda: has_stopped(child), PATIENCE)


def thaw(child: "subprocess.Popen[bytes]") -> None:
    """Let a frozen child go on."""
    child.send_signal(signal.SIGCONT)
