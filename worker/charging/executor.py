"""The executor of a process: it runs `attempt_charge.collect` for many charges at once, on the event loop.

A charge that waits for its batch, its slot or its answer holds no thread. Database work runs on threads: in
batches where many charges need the same, on a pool where a charge needs a transaction of its own.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import ParamSpec, TypeVar

from schedules.charging.charges import AttemptState
from schedules.charging.outcomes import NotSent, Outcome, Paid
from worker.charging import attempt_charge, prior_attempts
from worker.charging.account_threads import CHORE_PLACES, WEBHOOK_PLACES, WEBHOOKS_WAITING, AccountThreads
from worker.charging.batcher import Batcher
from worker.charging.claim import Answer, Claimed, Skipped, Unasked, claim_many
from worker.charging.rate_limiter import NO_SLOT
from worker.charging.readiness import Readiness
from worker.charging.send_queue import QueuedCall, SendQueue
from worker.charging.settle import Answered, settle_alone, settle_plain
from worker.charging.unsent_claims import UnsentClaims
from worker.clock import wait_until
from worker.renewals import enqueue
from worker.runtime import event_loop, stop_signal
from worker.runtime.background import Part, Pool
from worker.services import Services
from worker.store import failures
from worker.store.charging.charges import Obstacle
from worker.store.failures import DATABASE_ERRORS

log = logging.getLogger("again.executor")
MOST = 64  # in one transaction: rows are locked for milliseconds
LINGER = 0.03  # seconds that a batch waits under load, in which its answers are not written
CLAIMED_AHEAD = 128  # charges of an account's envelopes that are claimed and have not left
AHEAD_SECONDS = 0.5  # no more of them than the account's cap sends in so many seconds
ASIDE = 8  # threads for transactions of one charge, each of which takes milliseconds
LAST_WRITES = 5.0  # seconds that a stop waits for writes that fail, and for look-ups under way
NOT_LOOKED = Obstacle("the pre-send check failed")

P = ParamSpec("P")
T = TypeVar("T")


class Envelope:
    """The charges of one message: those that were begun, and those that a stop left for another process."""

    def __init__(self, not_begun: Sequence[int], begun: "Future[None]") -> None:
        self.not_begun = not_begun
        self._begun = begun

    def wait(self) -> None:
        """Wait until every charge that was begun is over."""
        self._begun.result()


class Executor:
    """The charges of one process. For any thread to use but the event loop's own."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.claims: Batcher[int, Answer] = Batcher(Part.CLAIMS, self._claim_many, MOST, LINGER)
        # None for an answer that is left to `settle_alone`.
        self.settlements: Batcher[Answered, AttemptState | None] = Batcher(
            Part.SETTLEMENTS, self._settle_plain, MOST, LINGER
        )
        self.unsent_claims = UnsentClaims()
        self.readiness = Readiness(services)
        self.send_queue = SendQueue(services, services.settings.concurrency)
        self.steps = Pool(Part.STEPS, ASIDE)
        # Not on the threads of `steps`: answers are written before their leases end, however slow a look-up is.
        self.look_ups = AccountThreads()
        self.webhook_look_ups = AccountThreads(WEBHOOK_PLACES, WEBHOOKS_WAITING, repeats=True)
        self.chores = AccountThreads(CHORE_PLACES)
        self._ahead: dict[tuple[str, float], asyncio.Semaphore] = {}
        self._after_look_ups = 0  # charges that are tried after a look-up
        self._making = threading.Lock()

    def use(self, services: Services) -> None:
        """Begin charges with these services from now on; those under way keep the former ones."""
        self.services = services
        self.readiness.use(services)

    def start(self) -> None:
        """Start all threads: one that cannot be started ends the process before anything is claimed."""
        self.claims.start()
        self.settlements.start()
        self.send_queue.start()
        self.steps.start()
        self.unsent_claims.start()
        event_loop.running()

    def stop(self) -> None:
        """Give back at once what is claimed and not sent. Safe in the handler of a signal."""
        self.send_queue.wake()

    def finish(self) -> None:
        """Wait for calls under way, then briefly until look-ups are over and what was not sent is given back."""
        patience = self.services.settings.call_deadline
        wait_until(lambda: not self._after_look_ups and self.chores.is_idle(), patience)
        for look_ups in (self.look_ups, self.webhook_look_ups):
            look_ups.finish(LAST_WRITES)
        if not wait_until(lambda: not self.unsent_claims.unwritten, LAST_WRITES):
            log.error("%d attempts that were not sent could not be given back", self.unsent_claims.unwritten)

    def attempt(self, charge_id: int) -> AttemptState | None:
        """Try once to collect a charge, beside all others; None when it is not ours to try now."""
        steps = _Steps(self)
        return event_loop.submit(attempt_charge.collect(steps, charge_id)).result()

    def attempt_after_look_up(self, charge_id: int, if_stopped: Callable[[], object]) -> None:
        """Try a charge at once, while the answer of its look-up lasts; `finish` waits for it."""
        with self._making:
            is_stopping = stop_signal.is_told()
            self._after_look_ups += not is_stopping
        if is_stopping:
            if_stopped()
            return
        try:
            self.attempt(charge_id)
        finally:
            with self._making:
                self._after_look_ups -= 1

    def begin_many(self, charge_ids: Sequence[int], account: str) -> Envelope:
        """Begin to try each of these once, in their order, no more at a time than can be sent soon.

        Returns when all are begun, or when the process was told to stop.
        """
        if not stop_signal.is_told():
            self._prepare(account)
        over: Future[None] = Future()
        begun = event_loop.submit(self._begin_each(charge_ids, self._ahead_of(account), over))
        return Envelope(charge_ids[begun.result() :], over)

    def _claim_many(self, ids: Sequence[int]) -> list[Answer]:
        return claim_many(self.services, ids)

    def _settle_plain(self, answered: Sequence[Answered]) -> list[AttemptState | None]:
        return settle_plain(self.services, answered)

    def _prepare(self, account: str) -> None:
        """Have a token at hand: one that is fetched later would cost each charge its slot."""
        try:
            gateway = self.services.gateway_if_ours(account)
        except DATABASE_ERRORS:
            return  # each charge that cannot be claimed says so
        if gateway is not None:
            gateway.prepare()

    def _ahead_of(self, account: str) -> asyncio.Semaphore:
        services = self.services
        rate = services.account(account).rate if account in services.account_names else 0
        with self._making:
            if (account, rate) not in self._ahead:
                places = max(2, min(CLAIMED_AHEAD, int(rate * AHEAD_SECONDS))) if rate else CLAIMED_AHEAD
                self._ahead[account, rate] = asyncio.Semaphore(places)
            return self._ahead[account, rate]

    async def _begin_each(self, charge_ids: Sequence[int], ahead: asyncio.Semaphore, over: "Future[None]") -> int:
        """Begin these charges until a stop, and return how many were begun; `over` is set when those are over."""
        tasks: list[asyncio.Task[None]] = []
        for charge_id in charge_ids:
            await ahead.acquire()
            if stop_signal.is_told():
                ahead.release()
                break
            tasks.append(asyncio.create_task(self._one_of_many(charge_id, ahead)))
        begun = asyncio.gather(*tasks)
        begun.add_done_callback(lambda _: over.set_result(None))
        return len(tasks)

    async def _one_of_many(self, charge_id: int, ahead: asyncio.Semaphore) -> None:
        steps = _Steps(self, ahead)
        try:
            await attempt_charge.collect(steps, charge_id)
        except DATABASE_ERRORS as error:
            failures.outage.failed(f"charge {charge_id} of an envelope is not tried: {failures.summary(error)}")
        except Exception as error:  # the end of a charge's task: logged; the others of its envelope go on
            log.error("charge %d of an envelope failed: %s", charge_id, type(error).__name__, exc_info=error)
        finally:
            steps.leave_ahead()


class _Steps:
    """The steps of one charge in a process that has many under way; see `attempt_charge.Steps`."""

    def __init__(self, executor: Executor, ahead: asyncio.Semaphore | None = None) -> None:
        self._executor = executor
        self._ahead = ahead

    @property
    def _services(self) -> Services:
        """The services of now: the files of accounts and secrets may change while a charge is under way."""
        return self._executor.services

    def leave_ahead(self) -> None:
        """Let the next charge of the account's envelopes begin; only the first call has an effect."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.release()

    async def claim(self, charge_id: int) -> Claimed | None:
        """Claim it with others in one transaction; alone where its row is locked, or after a look-up."""
        claimed = await self._executor.claims.submit(charge_id)
        if isinstance(claimed, Skipped):
            claimed = await self._in(
                self._executor.steps, attempt_charge.claim_without_asking, self._services, charge_id
            )
        if isinstance(claimed, Unasked):
            await self._in(self._executor.steps, self._look_up_first, charge_id, claimed.account)
        return claimed if isinstance(claimed, Claimed) else None

    def _look_up_first(self, charge_id: int, account: str) -> None:
        """Have the gateway asked, and the charge tried after a clear answer; no message waits for it."""
        executor, services = self._executor, self._services
        give_back = partial(enqueue.give_back, services, [charge_id])

        def look_up() -> None:
            if prior_attempts.look_up(services, charge_id):
                executor.attempt_after_look_up(charge_id, give_back)

        if not executor.look_ups.begin(account, f"charge {charge_id}", look_up, give_back):
            give_back()

    async def send(self, claimed: Claimed) -> Outcome | Obstacle:
        """Send it in a slot of its account, after the pre-send check."""
        services = self._services
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Outcome | Obstacle] = loop.create_future()
        try:
            # The services of one moment: the pre-send check compares the credentials that the call is made with.
            sending = services.gateway_to_send(claimed.account).sending(attempt_charge.order_of(claimed))
            self._executor.send_queue.submit(QueuedCall(
                claimed, services, sending, answered=lambda came: event_loop.resolve_all([(answer, came)]),
                begun=partial(loop.call_soon_threadsafe, self.leave_ahead),
            ))  # fmt: skip
            came = await answer
        except Exception as error:  # raised again: nothing was sent, so the claim is given back first
            await self._give_back_unsent(claimed, error)
            raise
        if came is NO_SLOT:
            self._executor.readiness.in_vain(claimed.account, NO_SLOT.why)
        elif not isinstance(came, Obstacle):
            self._executor.readiness.came(claimed.account, came)
        return came

    async def give_back(self, claimed: Claimed, obstacle: Obstacle) -> AttemptState | None:
        """Give back what was not sent; a database that does not take it now is asked again until it does."""
        self.leave_ahead()
        write = partial(attempt_charge.hold_back, self._services, claimed, obstacle)
        try:
            return await self._in(self._executor.steps, write)
        except DATABASE_ERRORS:
            self._remember(claimed, write)
            raise

    async def settle(self, claimed: Claimed, outcome: Outcome) -> AttemptState | None:
        """Settle a payment with others in one transaction; anything else, or what is not plain, alone."""
        try:
            if isinstance(outcome, Paid):
                answered = Answered(claimed.intent, AttemptState.SENDING, outcome)
                state = await self._executor.settlements.submit(answered)
                if state is not None:
                    return state
            return await self._in(
                self._executor.steps, attempt_charge.settle_call, self._services, claimed, outcome, settle_alone
            )
        except DATABASE_ERRORS as error:
            if isinstance(outcome, NotSent):
                obstacle = Obstacle(outcome.reason)
                self._remember(claimed, partial(attempt_charge.hold_back, self._services, claimed, obstacle))
            else:
                _log_unwritten(claimed, error)
            raise
        except Exception as error:  # raised again: the operator must find the call in the log
            _log_unwritten(claimed, error)
            raise

    async def _give_back_unsent(self, claimed: Claimed, error: Exception) -> None:
        """Give back what was surely not sent, because the pre-send check failed."""
        self._executor.readiness.in_vain(claimed.account, f"{NOT_LOOKED.why}: {type(error).__name__}", error)
        write = partial(attempt_charge.hold_back, self._services, claimed, NOT_LOOKED)
        try:
            await self._in(self._executor.steps, write)
        except DATABASE_ERRORS:
            self._remember(claimed, write)

    def _remember(self, claimed: Claimed, write: Callable[[], object]) -> None:
        uid = claimed.intent.merchant_uid
        log.warning("%s was not sent, and cannot be given back yet: the database fails", uid)
        self._executor.unsent_claims.remember(uid, write)

    @staticmethod
    async def _in(pool: Pool, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run this on a thread of the pool."""
        return await asyncio.wrap_future(pool.submit(partial(work, *args, **kwargs)))


def _log_unwritten(claimed: Claimed, error: Exception) -> None:
    words = "%s: the outcome could not be written, and will be looked up: %s"
    log.error(words, claimed.intent.merchant_uid, type(error).__name__)
