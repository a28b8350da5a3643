"""A shop whose processes are killed and frozen on order, on a clock that the tests move."""

import json
import signal
import subprocess
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from celery import Celery
from redis import Redis

from schedules.charging.charges import AttemptState, ChargeStatus
from schedules.operations.queues import BULK
from tests.crashes.books import Books, Row, check
from tests.crashes.process import KILL, obeyed_by, write_order
from tests.installation import Installation
from worker.clock import MovedClock, wait_until
from worker.failpoints import Failpoint

PATIENCE = 40.0  # real seconds that anything may take on a busy machine; all take well under five
BRISK = {
    "AGAIN_ENVIRONMENT": "test",
    "AGAIN_READ_TIMEOUT": "4",
    "AGAIN_CALL_DEADLINE": "5",
    "AGAIN_LEASE": "30",  # by the moved clock
    "AGAIN_VISIBILITY_TIMEOUT": "600",  # no message is handed out again during a test: rows mend, not the broker
    "AGAIN_QUIET_TIME": "6",
    "AGAIN_QUEUE_PATIENCE": "4",
    "AGAIN_BEAT_INTERVAL": "0.1",
    "AGAIN_RATE": "0",
    "AGAIN_CONCURRENCY": "4",
}
WORKERS, OPS = "worker-charges", "worker-ops"
CHILDREN = ("beat-1", "beat-2", OPS, f"{WORKERS}-1", f"{WORKERS}-2", "simulator")


class Shop(Books):
    """An installation, orders to die or freeze, and time that passes when it is told to."""

    def __init__(self, installation: Installation, orders: Path) -> None:
        super().__init__(installation.services.engine)
        self.installation = installation
        self.standing = installation.standing
        self.broker = Redis.from_url(installation.settings["AGAIN_BROKER_URL"])
        self._orders = orders
        self._faults: list[dict[str, object]] = []

    # What goes wrong

    def order(self, point: Failpoint, how: str = KILL, whose: str = "") -> None:
        """Have the next process that reaches a point killed or frozen there."""
        for obeyed in self._orders.glob(f"{point}*"):
            obeyed.unlink()
        write_order(self._orders, point, how, whose)

    def struck(self, point: Failpoint) -> "subprocess.Popen[bytes]":
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
        self.installation.wait_until_ready()
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
        """Move the clock of all processes, which the simulator reads too."""
        self.set_time(self.now() + by)

    def set_time(self, at: datetime) -> None:
        """Make it this time for all processes, and for the gateway."""
        clock = self.installation.services.clock
        assert isinstance(clock, MovedClock)
        clock.move_to(at)

    def outlast_lease(self, key: str) -> None:
        """Let the lease of an attempt that is being sent run out, until its outcome counts as unknown."""
        self.wait_for_attempt(key, AttemptState.SENDING)
        self.pass_time(timedelta(seconds=31))
        self.wait_for_attempt(key, AttemptState.UNKNOWN)

    def ask_until(self, key: str, state: AttemptState) -> None:
        """Let the time come for each question about an unknown attempt, until the answer has led to this state."""

        def reached() -> bool:
            at = self.next_question_at(key)
            if at is not None and at > self.now():
                self.set_time(at)
            return bool(self.attempts(key)[-1]["state"] == state)

        assert wait_until(reached, PATIENCE), f"waited for {state}, and saw {self.attempts(key)}"

    def let_be_tried(self, key: str) -> None:
        """Let the time of the next attempt come, if it has not come yet."""
        charge = self.first_charge(key)
        assert charge is not None
        if charge["next_attempt_at"] is not None and charge["next_attempt_at"] > self.now():
            self.set_time(charge["next_attempt_at"])

    def let_end(self, key: str, status: ChargeStatus = ChargeStatus.PAID) -> Row:
        """Let whatever time pass that the subscription's first charge waits for, until it has this status."""

        def ended() -> bool:
            charge = self.first_charge(key)
            if charge is None:
                return False
            at = charge["next_attempt_at"] or self.next_question_at(key)
            if at is not None and at > self.now():
                self.set_time(at)
            return bool(charge["status"] == status)

        assert wait_until(ended, PATIENCE), (
            f"waited for {status}, and saw {self.first_charge(key)} {self.attempts(key)}"
        )
        charge = self.first_charge(key)
        assert charge is not None
        return charge

    def wait_for_attempt(self, key: str, state: AttemptState) -> Row:
        """The last attempt at the subscription's first charge, once it is in this state."""

        def has_it() -> bool:
            tried = self.attempts(key)
            return bool(tried) and tried[-1]["state"] == state

        assert wait_until(has_it, PATIENCE), f"waited for {state}, and saw {self.attempts(key)}"
        return self.attempts(key)[-1]

    # The gateway's and the broker's side

    def movements(self, customer_uid: str) -> list[dict[str, Any]]:
        """The money that a customer's card has moved."""
        return self.installation.movements(customer_uid)

    def charges_sent(self) -> int:
        """How many calls for money the gateway has received, but for those under a dead token."""
        return sum(self.installation.simulator("rate")["charges_by_second"].values())

    def publish(self, key: str, times: int = 1, broker_url: str | None = None) -> None:
        """Send messages about a subscription's first charge, to this shop's broker or to another."""
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

    def held_messages(self) -> set[bytes | str]:
        """The messages that workers have taken and not acknowledged, those of dead workers too."""
        return set(self.broker.hkeys("unacked"))

    def wait_until_worked_off(self, held_before: set[bytes | str]) -> None:
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
            _, tried = self.of_customer(customer_uid)
            return all(attempt["state"] != AttemptState.SENDING for attempt in tried)

        assert wait_until(at_rest, PATIENCE)

    def books_agree(self, *customer_uids: str) -> None:
        """Hold our books on customers against the gateway's ledger; no uid was ever sent twice at once."""
        for customer_uid in customer_uids:
            check(*self.of_customer(customer_uid), self.movements(customer_uid))
        summary = self.installation.simulator("ledger/summary")
        assert summary["double"] == []
        assert summary["max_in_flight_same_uid"] == 1


def has_stopped(child: "subprocess.Popen[bytes]") -> bool:
    """Whether a child is frozen."""
    return Path(f"/proc/{child.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"


def freeze(child: "subprocess.Popen[bytes]") -> None:
    """Freeze a child, and wait until it is."""
    child.send_signal(signal.SIGSTOP)
    assert wait_until(lambda: has_stopped(child), PATIENCE)


def thaw(child: "subprocess.Popen[bytes]") -> None:
    """Let a frozen child go on."""
    child.send_signal(signal.SIGCONT)
