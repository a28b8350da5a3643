"""The way of a charge: claim, send, settle. Rows before calls, and no lock held during one."""

import logging
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, Protocol, TypeVar, assert_never

from schedules.charging.charges import AttemptState, ChargeStatus
from schedules.charging.outcomes import NotSent, Outcome
from schedules.errors import BROKEN
from worker.charging import prior_attempts
from worker.charging.claim import Claimed, Skipped, Unasked, claim_many
from worker.charging.close import close, quarantine, set_aside
from worker.charging.current_card import move_to_current_card
from worker.charging.rate_limiter import await_permit
from worker.charging.settle import Answered, settle, settle_one
from worker.failpoints import Failpoint, hit
from worker.gateway.port import ChargeOrder, Gateway
from worker.services import Services, right_time
from worker.store.charging import attempts, charges
from worker.store.charging.charges import Obstacle, Then
from worker.store.customers import subscriptions

log = logging.getLogger("again.charging")
T = TypeVar("T")
HELD_BACK = timedelta(seconds=30)  # until a charge that the pre-send check stopped is looked at again


class Steps(Protocol):
    """The steps of one charge. A process with many charges under way shares the work of a step among them."""

    async def claim(self, charge_id: int) -> Claimed | None:
        """Write the attempt with its uid, fence and lease, and commit; None when it is not ours to try now."""

    async def send(self, claimed: Claimed) -> Outcome | Obstacle:
        """Check a last time that it may be sent, and call the gateway in a slot of the account's cap.

        Where this raises, or returns an obstacle, nothing was sent.
        """

    async def give_back(self, claimed: Claimed, obstacle: Obstacle) -> AttemptState | None:
        """Undo a claim that was surely not sent."""

    async def settle(self, claimed: Claimed, outcome: Outcome) -> AttemptState | None:
        """Write the outcome under the attempt's fence, and what follows for the charge."""


async def collect(steps: Steps, charge_id: int) -> AttemptState | None:
    """Try once to collect a charge: claim, send, settle. None when it is not ours to try now."""
    hit(Failpoint.CHARGING_BEGUN, str(charge_id))
    claimed = await steps.claim(charge_id)
    return await collect_claimed(steps, claimed) if claimed is not None else None


async def collect_claimed(steps: Steps, claimed: Claimed) -> AttemptState | None:
    """Carry a claimed attempt out. A process that ends in between leaves it to the lease and the look-up."""
    uid = claimed.intent.merchant_uid
    hit(Failpoint.CHARGING_CLAIMED, uid)
    answer = await steps.send(claimed)
    if isinstance(answer, Obstacle):
        return await steps.give_back(claimed, answer)
    hit(Failpoint.CHARGING_ANSWERED, uid)
    return await steps.settle(claimed, answer)


class OneByOne:
    """The steps of one charge in a process that has no other: none of them waits on an event loop."""

    def __init__(self, services: Services, ask: "Ask | None" = None) -> None:
        self._services = services
        self._ask = ask or stored_card

    async def claim(self, charge_id: int) -> Claimed | None:
        """Claim it."""
        try:
            return claim(self._services, charge_id)
        except BROKEN as broken:  # by a question to the gateway; a claim sets its row aside itself
            quarantine(self._services, charge_id, broken)
            return None

    async def send(self, claimed: Claimed) -> Outcome | Obstacle:
        """Wait for its slot, check a last time, and ask the gateway."""
        services = self._services
        gateway = services.gateway_to_send(claimed.account)
        gateway.prepare()
        permit = await_permit(services, claimed)
        if isinstance(permit, Obstacle):
            return permit
        hit(Failpoint.CHARGING_LOOKED, claimed.intent.merchant_uid)
        # Counted from before the pre-send check: a process frozen after it that wakes too late does not send.
        return self._ask(gateway, order_of(claimed), permit.looked_at + services.settings.call_deadline)

    async def give_back(self, claimed: Claimed, obstacle: Obstacle) -> AttemptState | None:
        """Give it back."""
        return hold_back(self._services, claimed, obstacle)

    async def settle(self, claimed: Claimed, outcome: Outcome) -> AttemptState | None:
        """Settle its outcome."""
        return settle_call(self._services, claimed, outcome)


def attempt(services: Services, charge_id: int) -> AttemptState | None:
    """Try once to collect a charge, in this thread; None when it is not ours to try now."""
    return _run(collect(OneByOne(services), charge_id))


def carry_out(services: Services, claimed: Claimed, ask: "Ask | None" = None) -> AttemptState | None:
    """Carry a claimed attempt out, in this thread."""
    return _run(collect_claimed(OneByOne(services, ask), claimed))


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine none of whose steps waits on an event loop."""
    try:
        work.send(None)
    except StopIteration as over:
        done: T = over.value
        return done
    work.close()
    raise RuntimeError("a step waits on an event loop, and this thread has none")


def claim(services: Services, charge_id: int) -> Claimed | None:
    """Take the charge's attempt, or write a new one, under a lease; committed before anything is sent."""
    claimed = claim_without_asking(services, charge_id)
    return claim_after_asking(services, charge_id) if isinstance(claimed, Unasked) else claimed


def claim_after_asking(services: Services, charge_id: int) -> Claimed | None:
    """As `claim`, for a charge that the gateway may have a payment for: it is asked first, which may take long."""
    if not prior_attempts.ask_before_sending(services, charge_id):
        return None
    claimed = claim_without_asking(services, charge_id)
    return None if isinstance(claimed, Unasked) else claimed


def claim_without_asking(services: Services, charge_id: int) -> Claimed | Unasked | None:
    """As `claim`, with no call to the gateway; says when the gateway has to be asked first."""
    (claimed,) = claim_many(services, [charge_id], waits=True)
    return None if isinstance(claimed, Skipped) else claimed


def order_of(claimed: Claimed) -> ChargeOrder:
    """What the gateway is asked for: a claimed charge, with what is known of who buys."""
    intent, buyer = claimed.intent, claimed.buyer
    return ChargeOrder(
        claimed.customer_uid,
        intent.merchant_uid,
        intent.money,
        claimed.name,
        buyer_name=buyer.name,
        buyer_email=buyer.email,
        buyer_tel=buyer.tel,
    )


Ask = Callable[[Gateway, ChargeOrder, float], Outcome]  # the last is when it must be over, by `elapsed`


def stored_card(gateway: Gateway, order: ChargeOrder, until: float) -> Outcome:
    """Charge the card that the gateway keeps under the order's customer_uid."""
    return gateway.charge(order, until)


def settle_call(
    services: Services,
    claimed: Claimed,
    outcome: Outcome,
    write: Callable[[Services, Answered], AttemptState | None] = settle_one,
) -> AttemptState | None:
    """Write the answer to a call; one that was surely not sent is given back though its lease has ended."""
    state = write(services, Answered(claimed.intent, AttemptState.SENDING, outcome))
    if state is None and isinstance(outcome, NotSent):
        return hold_back(services, claimed, Obstacle(outcome.reason))
    return state


def hold_back(services: Services, claimed: Claimed, obstacle: Obstacle) -> AttemptState | None:
    """Undo a claim that was surely not sent; a charge that is over gets an end, any other is tried later."""
    intent = claimed.intent
    log.info("%s is held back: %s", intent.merchant_uid, obstacle.why)
    with services.engine.begin() as db:
        now = right_time(services, db)  # our own clock may be what keeps it from being sent
        subscriptions.lock_of_charge(db, claimed.charge_id)  # a change of card that is being written is seen
        current = charges.locked(db, claimed.charge_id)
        # Its lease may have ended before this was known: it counts as unknown then, and yet it was not sent.
        if (
            current is not None
            and current.status.is_owed
            and (
                attempts.release(db, intent, now, obstacle.why)
                or attempts.take_back(db, intent, now, obstacle.why)
            )
        ):
            move_to_current_card(db, current, now)
            # What no worker can send later ends here, with the reason.
            match Then.CANCEL if claimed.keyed_in else obstacle.then:
                case Then.LATER:
                    charges.change(db, claimed.charge_id, next_attempt_at=now + HELD_BACK)
                case Then.AT_ONCE:
                    charges.change(db, claimed.charge_id, next_attempt_at=now)
                case Then.CANCEL:
                    close(db, claimed.charge_id, ChargeStatus.CANCELED, obstacle.why, now)
                case Then.PERSON:
                    charges.change(db, claimed.charge_id, next_attempt_at=now + HELD_BACK)
                    set_aside(db, claimed.key, obstacle.why, now)
                case _:
                    assert_never(obstacle.then)
            return AttemptState.READY
    return settle(services, intent, AttemptState.SENDING, NotSent(obstacle.why))
