"""Compare one window of the gateway's list with the database, in both directions."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from schedules.charging.outcomes import NotSent, PaymentState, Refused, Unknown
from worker.charging.match_payments import compare, note_ghost
from worker.clock import wait
from worker.failpoints import Failpoint, hit
from worker.gateway.port import Gateway, PaymentPage
from worker.services import Services, UnusableAccount
from worker.store.charging import rates
from worker.store.reconciliation import reconciliations

SHORTEST_WINDOW = timedelta(seconds=1)  # the gateway's list counts whole seconds
MOST_IN_WINDOW = 10_000  # payments whose uids are in memory at once; a window with more is cut in two
PAGE = 1000
STATES = (
    PaymentState.PAID,
    PaymentState.CANCELLED,
)  # a failed record does not prove that nothing was paid; a look-up by uid does
REREADS = 3  # times that a list which changes between its pages is read again; the next run reads the rest
PATIENCE = 60.0  # seconds a call waits for its turn under the rate cap before it asks for another
A = TypeVar("A")


class NoAnswerYet(Exception):
    """The gateway did not answer; a later run continues from here."""


@dataclass
class Window:
    """A closed span of the list, read in full before the run moves on."""

    services: Services
    account: str
    since: datetime
    until: datetime
    most: int = MOST_IN_WINDOW
    keep: Callable[[], bool] = lambda: True  # asked before each call: whether the run is still ours
    calls: int = 0
    payments: int = 0
    findings: int = 0
    seen: set[str] = field(default_factory=set)

    def read(self) -> bool:
        """Compare both sides of the span; False when it holds too many payments and must be cut."""
        for state in STATES:
            if not self._read_list(state):
                return False
        self._look_for_ghosts()
        hit(Failpoint.RECONCILING_READ, self.account)
        return True

    def _read_list(self, state: PaymentState) -> bool:
        for _ in range(REREADS):
            totals = set()
            for page in self._pages(state):
                if page.total > self.most and self.until - self.since > SHORTEST_WINDOW:
                    return False
                totals.add(page.total)
                self.payments += len(page.payments)
                self.seen.update(payment.merchant_uid for payment in page.payments)
                self.findings += compare(self.services, self.account, page.payments)
            if len(totals) == 1:
                return True
        return True

    def _pages(self, state: PaymentState) -> Iterator[PaymentPage]:
        gateway = self._gateway()
        is_over, cursor = False, None
        while not is_over:
            self._await_turn()
            page = _answered(gateway.list_payments(state, self.since, self.until, cursor=cursor, limit=PAGE))
            yield page
            cursor = page.next_cursor
            is_over = cursor is None

    def _look_for_ghosts(self) -> None:
        """Look up by uid each payment of the database that is not in the list."""
        after = 0
        while True:
            with self.services.engine.begin() as db:
                ours = reconciliations.paid_between(db, self.account, self.since, self.until, after, PAGE)
            for attempt_id, uid in ours:
                after = attempt_id
                if uid not in self.seen:
                    self._ask_for_ghost(uid)
            if len(ours) < PAGE:
                return

    def _ask_for_ghost(self, uid: str) -> None:
        self._await_turn()
        found = _answered(self._gateway().find_all(uid))
        self.findings += compare(self.services, self.account, found.payments)
        if all(payment.state is PaymentState.FAILED for payment in found.payments):
            self.findings += note_ghost(self.services, self.account, uid)

    def _gateway(self) -> Gateway:
        try:
            return self.services.gateway(self.account)
        except UnusableAccount as error:
            raise NoAnswerYet(str(error)) from None

    def _await_turn(self) -> None:
        await_turn(self.services, f"{self.account}/reconcile", self.services.account(self.account).reconcile_rate)
        if not self.keep():
            raise NoAnswerYet("another process has taken the run")
        self.calls += 1


def _answered(answer: A | NotSent | Refused | Unknown) -> A:
    if isinstance(answer, NotSent | Refused | Unknown):
        raise NoAnswerYet(answer.reason)
    return answer


def await_turn(services: Services, bucket: str, rate: float | None) -> None:
    """Wait until the cap, in calls per second, allows one more call; None is no cap."""
    seconds = None if rate else 0.0
    while seconds is None:
        with services.engine.begin() as db:
            seconds = rates.grant(db, bucket, rate or 1.0, PATIENCE)
    wait(seconds)
