"""Flowing: many charges under way in one process, and no thread waits for any of them.

Each goes from step to step: claimed by the group, lined up, called in its slot, settled by the group. What is not
plain takes the same steps, claimed and settled alone.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from schedules.charging.charges import AttemptState
from schedules.charging.outcomes import NotSent, Outcome, Paid
from schedules.errors import BROKEN
from worker.charging import attempt_charge
from worker.charging.batch_claim import MOST, ChargeBatches, Claimed, NotBatched
from worker.charging.batcher import Answer, Follow
from worker.charging.close import quarantine
from worker.charging.readiness import Readiness
from worker.charging.send_queue import NO_SLOT, QueuedCall, SendQueue
from worker.charging.unsent_claims import UnsentClaims
from worker.clock import wait_until
from worker.failpoints import Failpoint, hit
from worker.runtime import stop_signal
from worker.runtime.background import Part, Pool
from worker.services import Services
from worker.store import failures
from worker.store.charging.charges import Obstacle
from worker.store.failures import DATABASE_ERRORS

log = logging.getLogger("again.flowing")
CLAIMED_AHEAD = 128  # charges of an account's envelopes that are claimed and have not left
AHEAD_SECONDS = 0.5  # of its cap that they are at most
ASIDE = 8  # threads for what is not plain: each transaction of it takes milliseconds
LOOK_UPS = 8  # threads for charges that the gateway is asked about first: as slow as the gateway, and its rate cap
LAST_WRITES = 5.0  # seconds that a stop waits for a database that takes nothing
NOT_LOOKED = Obstacle("the pre-send check failed")


Claim = Callable[[Services, int], Claimed | attempt_charge.Unasked | None]


class Room:
    """So many may be inside at a time."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._change = threading.Condition()

    def take(self, most: int) -> int:
        """Wait for a place, and take as many more as are free, up to so many."""
        with self._change:
            self._change.wait_for(lambda: self._places > 0)
            taken = min(most, self._places)
            self._places -= taken
            return taken

    def give(self) -> None:
        """Give one place back."""
        with self._change:
            self._places += 1
            self._change.notify()


class UnderWay:
    """What one envelope has begun and is not over, and what it has not begun."""

    def __init__(self) -> None:
        self.not_begun: Sequence[int] = ()
        self._many = 0
        self._change = threading.Condition()

    def more(self, many: int) -> None:
        """So many begin."""
        with self._change:
            self._many += many

    def over(self) -> None:
        """One is over."""
        with self._change:
            self._many -= 1
            if not self._many:
                self._change.notify_all()

    def wait(self) -> None:
        """Wait until nothing is under way."""
        with self._change:
            self._change.wait_for(lambda: not self._many)


@dataclass(slots=True, eq=False)
class _Carried:
    """One charge on its way."""

    charge_id: int
    over: Follow[AttemptState]  # told once: the attempt's state, or None when it was not ours to try, or an error
    room: Room | None = None
    uid: str = field(default="", init=False)

    def leave_room(self) -> None:
        """Give its place back, once."""
        room, self.room = self.room, None
        if room is not None:
            room.give()


class Executor:
    """The charges of one process. For any thread to use."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._batches = ChargeBatches(services)
        self.unsent_claims = UnsentClaims()
        self.readiness = Readiness(services)
        self._send_queue = SendQueue(services, services.settings.concurrency)
        self._aside = Pool(Part.STEPS, ASIDE)
        # Of their own: an answer that came must be written before its lease ends, however slow the gateway is.
        self._look_ups = Pool(Part.LOOK_UPS, LOOK_UPS)
        self._rooms: dict[tuple[str, float], Room] = {}
        self._making = threading.Lock()

    def use(self, services: Services) -> None:
        """Carry out what begins from now on with these services; what is lined up leaves with the former ones."""
        self._services = services
        self._batches.use(services)
        self.readiness.use(services)

    def start(self) -> None:
        """Start all of its threads: one that cannot be started ends the process before anything is claimed."""
        self._batches.claims.start()
        self._batches.settlements.start()
        self._send_queue.start()
        self._aside.start()
        self._look_ups.start()
        self.unsent_claims.start()

    def stop(self) -> None:
        """Give back at once what is claimed and has not left. Safe in the handler of a signal."""
        self._send_queue.wake()

    def finish(self) -> None:
        """Wait, for a moment, until what was surely not sent is written as such."""
        if not wait_until(lambda: not self.unsent_claims.unwritten, LAST_WRITES):
            log.error("%d attempts that were not sent could not be given back", self.unsent_claims.unwritten)

    def attempt(self, charge_id: int) -> AttemptState | None:
        """Try once to collect a charge, with whatever else is under way; None when it is not ours to try now."""
        answer: Answer[AttemptState] = Answer()
        self._begin(_Carried(charge_id, answer))
        return answer.get()

    def begin_many(self, charge_ids: Sequence[int], account: str) -> UnderWay:
        """Begin to try each of these once, in their order, no more at a time than leave soon.

        Those that are not begun, because the process was told to stop, are another process's.
        """
        under_way = UnderWay()
        room = self._room(account)
        if not stop_signal.is_told():
            self._prepare(account)
        begun = 0
        while begun < len(charge_ids) and not stop_signal.is_told():
            many = room.take(min(MOST, len(charge_ids) - begun))
            under_way.more(many)
            for charge_id in charge_ids[begun : begun + many]:
                self._begin(_Carried(charge_id, partial(_over_of_many, under_way, charge_id), room))
            begun += many
        under_way.not_begun = charge_ids[begun:]
        return under_way

    def _prepare(self, account: str) -> None:
        """Have a token at hand: one that is fetched later would cost each charge its slot."""
        try:
            gateway = self._services.gateway_if_ours(account)
        except DATABASE_ERRORS:
            return  # each charge that cannot be claimed says so
        if gateway is not None:
            gateway.prepare()

    def _room(self, account: str) -> Room:
        services = self._services
        rate = services.account(account).rate if account in services.account_names else 0
        with self._making:
            if (account, rate) not in self._rooms:
                places = max(2, min(CLAIMED_AHEAD, int(rate * AHEAD_SECONDS))) if rate else CLAIMED_AHEAD
                self._rooms[account, rate] = Room(places)
            return self._rooms[account, rate]

    # The steps of one charge, each on the thread of the step before it: none of them waits for long.

    def _begin(self, carried: _Carried) -> None:
        hit(Failpoint.CHARGING_BEGUN, str(carried.charge_id))
        self._batches.claims.submit(carried.charge_id, partial(self._claimed, carried))

    def _claimed(
        self, carried: _Carried, claimed: Claimed | NotBatched | None, error: BaseException | None
    ) -> None:
        if error is not None:
            self._over(carried, None, error)
        elif not isinstance(claimed, Claimed):
            self._do_aside(self._claim_alone, carried)
        else:
            self._submit(carried, claimed)

    def _claim_alone(self, carried: _Carried, claim: Claim = attempt_charge.claim_without_asking) -> None:
        try:
            claimed = claim(self._services, carried.charge_id)
        except BROKEN as broken:
            quarantine(self._services, carried.charge_id, broken)
            claimed = None
        if isinstance(claimed, attempt_charge.Unasked):
            self._do_on(self._look_ups, self._claim_alone, carried, attempt_charge.claim_after_asking)
        elif claimed is None:
            self._over(carried, None)
        else:
            self._submit(carried, claimed)

    def _submit(self, carried: _Carried, claimed: Claimed) -> None:
        intent = claimed.intent
        carried.uid = intent.merchant_uid
        hit(Failpoint.CHARGING_CLAIMED, intent.merchant_uid)
        failed = partial(self._do_aside, self._give_back, carried, claimed)
        services = self._services  # one moment's: the pre-send check compares the credentials it is sent with
        try:
            self._send_queue.submit(QueuedCall(
                claimed, services,
                services.gateway_to_send(claimed.account).sending(attempt_charge.order_of(claimed)),
                came=partial(self._came, carried, claimed),
                held=partial(self._do_aside, self._hold_back, carried, claimed), failed=failed,
                begun=carried.leave_room,
            ))  # fmt: skip
        except Exception as error:  # noqa: BLE001 # one charge's: the others of its group go on
            failed(error)

    def _came(self, carried: _Carried, claimed: Claimed, outcome: Outcome) -> None:
        hit(Failpoint.CHARGING_ANSWERED, carried.uid)
        self.readiness.came(claimed.account, outcome)
        if isinstance(outcome, Paid):
            settled = partial(self._settled, carried, claimed, outcome)
            self._batches.settlements.submit((claimed.intent, outcome), settled)
        else:
            self._do_aside(self._settle_alone, carried, claimed, outcome)

    def _settled(
        self, carried: _Carried, claimed: Claimed, paid: Paid, answer: AttemptState | NotBatched | None,
        error: BaseException | None,
    ) -> None:  # fmt: skip
        if answer is NotBatched.ALONE:
            self._do_aside(self._settle_alone, carried, claimed, paid)
        else:
            _say_unwritten(carried, error)
            self._over(carried, answer, error)

    def _settle_alone(self, carried: _Carried, claimed: Claimed, outcome: Outcome) -> None:
        try:
            state = attempt_charge.settle_call(self._services, claimed, outcome)
        except DATABASE_ERRORS as away:
            if not isinstance(outcome, NotSent):
                raise
            self._remember(carried, claimed, Obstacle(outcome.reason))
            self._over(carried, None, away)
        else:
            self._over(carried, state)

    def _hold_back(self, carried: _Carried, claimed: Claimed, obstacle: Obstacle) -> None:
        if obstacle is NO_SLOT:
            self.readiness.in_vain(claimed.account, obstacle.why)
        try:
            state = attempt_charge.hold_back(self._services, claimed, obstacle)
        except DATABASE_ERRORS as away:
            self._remember(carried, claimed, obstacle)
            self._over(carried, None, away)
        else:
            self._over(carried, state)

    def _give_back(self, carried: _Carried, claimed: Claimed, error: Exception) -> None:
        """Give back what is claimed and was surely not sent; where that fails too, it is repeated."""
        self.readiness.in_vain(claimed.account, f"{NOT_LOOKED.why}: {type(error).__name__}", error)
        try:
            attempt_charge.hold_back(self._services, claimed, NOT_LOOKED)
        except DATABASE_ERRORS:
            self._remember(carried, claimed, NOT_LOOKED)
        self._over(carried, None, error)

    def _remember(self, carried: _Carried, claimed: Claimed, obstacle: Obstacle) -> None:
        log.warning("%s was not sent, and cannot be given back yet: the database fails", carried.uid)
        write = partial(attempt_charge.hold_back, self._services, claimed, obstacle)
        self.unsent_claims.remember(carried.uid, write)

    def _over(self, carried: _Carried, state: AttemptState | None, error: BaseException | None = None) -> None:
        carried.leave_room()
        carried.over(state, error)

    def _do_aside(self, step: Callable[..., None], carried: _Carried, *more: object) -> None:
        """Take a step with a transaction of its own, on a thread that nobody else's steps wait for."""
        self._do_on(self._aside, step, carried, *more)

    def _do_on(self, pool: Pool, step: Callable[..., None], carried: _Carried, *more: object) -> None:
        def done() -> None:
            try:
                step(carried, *more)
            except Exception as error:  # noqa: BLE001 # it is told to whoever waits for this one charge
                _say_unwritten(carried, error)
                self._over(carried, None, error)

        pool.execute(done)


def _say_unwritten(carried: _Carried, error: BaseException | None) -> None:
    if error is not None and carried.uid:
        words = "%s: what became of it could not be written, and is asked about: %s"
        log.error(words, carried.uid, type(error).__name__)


def _over_of_many(
    under_way: UnderWay, charge_id: int, _: AttemptState | None, error: BaseException | None
) -> None:
    if isinstance(error, DATABASE_ERRORS):
        failures.outage.failed(f"charge {charge_id} of an envelope is not tried: {failures.summary(error)}")
    elif error is not None:
        log.error("charge %d of an envelope failed: %s", charge_id, type(error).__name__, exc_info=error)
    under_way.over()
