"""Charging: intent, last look, ask, answer; rows before calls, and no lock held during one."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Any, assert_never

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from schedules.charges import AttemptState, ChargeStatus
from schedules.errors import BROKEN
from schedules.identity import merchant_uid
from schedules.outcomes import NotSent, Outcome, Paid
from worker.clock import elapsed, wait
from worker.crew import Crew, UnderWay
from worker.gateway.port import ChargeOrder, Gateway
from worker.points import Point, reach
from worker.store import attempts, charges, switches
from worker.store.attempts import Attempt
from worker.store.charges import Charge, Obstacle, Then
from worker.workflows import dunning
from worker.workflows.closing import close, quarantine, set_aside
from worker.workflows.grouping import PATIENCE, Claimed, Groups, Leave, Leaving, Ungrouped, ask_leave
from worker.workflows.services import Services
from worker.workflows.settling import settle

log = logging.getLogger("again.charging")
LOOK_LASTS = 0.1  # seconds that a last look may be older than the call
LOOK_TAKES = 0.06  # seconds to keep for one, and for the crowd that it goes with
LOOK_TAKES_MANY = 0.03  # seconds to keep for one that an envelope's charges share, and that waits for nobody
WAKES = 0.004  # seconds that a thread of the crew is given to begin
LEAVE_TOGETHER = 32  # charges of an envelope: with more, the last would be too late for its moment
CLAIMED_AHEAD = 64  # charges of an envelope that are claimed at once, and then called
HELD_BACK = timedelta(seconds=30)  # until a charge that the last look stopped is looked at again
NOT_LOOKED = Obstacle("the last look failed")


def attempt(services: Services, charge_id: int) -> AttemptState | None:
    """Try once to collect a charge; None when it is not ours to try now."""
    reach(Point.CHARGING_BEGUN, str(charge_id))
    grouped = services.groups.claims.answer_to(charge_id) if services.groups is not None else Ungrouped.ALONE
    return carry_out(services, grouped) if isinstance(grouped, Claimed) else _attempt_alone(services, charge_id)


def attempt_many(
    services: Services, groups: Groups, charge_ids: Sequence[int], crew: Crew,
    stopping: Callable[[], bool] = lambda: False,
) -> Sequence[int]:  # fmt: skip
    """Try each of these once: a few at a time are claimed, and leave as soon as the crew has a thread for each.

    Answers those that are not begun, because the process is `stopping`: somebody else may have them.
    """
    # More than there are threads for would wait for a slow gateway under a lease that runs.
    ahead = min(CLAIMED_AHEAD, crew.threads)
    under_way = UnderWay()
    begun = 0
    try:
        while begun < len(charge_ids) and not stopping():
            few = charge_ids[begun : begun + ahead]
            _attempt_few(services, groups, few, crew, under_way)
            begun += len(few)
    finally:
        under_way.wait()  # whatever failed: a process that ends waits for its tasks, and not for the crew
    return charge_ids[begun:]


def _attempt_few(
    services: Services, groups: Groups, charge_ids: Sequence[int], crew: Crew, under_way: UnderWay
) -> None:
    """Claim these together, and start the call of each at its moment."""
    for charge_id in charge_ids:
        reach(Point.CHARGING_BEGUN, str(charge_id))
    grouped = list(zip(charge_ids, groups.claim_many(charge_ids), strict=True))
    waiting = deque(claimed for _, claimed in grouped if isinstance(claimed, Claimed))
    with ExitStack() as undo:
        undo.callback(_hold_all_back, services, waiting)
        for charge_id, claimed in grouped:
            if not isinstance(claimed, Claimed):
                crew.take(1)
                under_way.one_more()
                crew.start(partial(_counted, under_way, partial(_attempt_alone, services, charge_id)))
        while waiting:
            together = crew.take(min(len(waiting), _together(services, waiting[0])))
            with ExitStack() as undo_taking:
                undo_taking.callback(crew.give_back, together)
                leaving = list(islice(waiting, together))
                asked = ask_leave(services, [_leaving(services, claimed) for claimed in leaving])
                leaves = _look_again(services, leaving, asked)
                undo_taking.pop_all()
            for leave in leaves:
                # The crew is for calls: whoever waits for a moment would keep another account's calls from it.
                wait(max(0.0, leave.earliest - elapsed() - WAKES))
                under_way.one_more()
                crew.start(partial(_carry_out_of_many, services, groups, waiting.popleft(), leave, under_way))
        undo.pop_all()


def _hold_all_back(services: Services, claims: Iterable[Claimed]) -> None:
    """Give back what is claimed and was surely not sent; where that fails too, the leases run out."""
    try:
        for claimed in claims:
            _hold_back(services, claimed, NOT_LOOKED)
    except DBAPIError as error:
        log.warning("claims are not given back, and are asked about: %s", type(error.orig).__name__)


def _together(services: Services, claimed: Claimed) -> int:
    """How many charges of an envelope ask for leave at once: as many as leave before their look is stale."""
    rate = services.account(claimed.account).rate
    leave_within = LOOK_LASTS - LOOK_TAKES_MANY
    return max(1, min(LEAVE_TOGETHER, int(rate * leave_within * 0.9))) if rate else LEAVE_TOGETHER


def _look_again(services: Services, leaving: Sequence[Claimed], leaves: list[Leave]) -> list[Leave]:
    """Look once more, just before the first leaves, where the last would leave after its look is stale."""
    if leaves[-1].earliest - leaves[-1].looked_at <= LOOK_LASTS:
        return leaves
    wait(max(0.0, leaves[0].earliest - elapsed() - LOOK_TAKES_MANY))
    again = ask_leave(services, [replace(_leaving(services, claimed), rate=0) for claimed in leaving])
    return [_seen_again(leave, new) for leave, new in zip(leaves, again, strict=True)]


def _seen_again(leave: Leave, again: Leave) -> Leave:
    """The same moment, with what is seen now."""
    return replace(leave, sight=again.sight, looked_at=again.looked_at)


def _counted(under_way: UnderWay, job: Callable[[], object]) -> None:
    try:
        job()
    finally:
        under_way.one_less()


def _carry_out_of_many(
    services: Services, groups: Groups, claimed: Claimed, leave: Leave, under_way: UnderWay
) -> None:
    """Carry out one charge of an envelope; the thread does not wait until its payment is written with others."""
    handed = False
    try:
        came = _call(services, claimed, stored_card, leave)
        if isinstance(came, Paid):
            then = partial(_settled_of_many, services, groups, claimed.intent, came, under_way)
            groups.settlements.want((claimed.intent, came), then)
            handed = True
        elif not isinstance(came, HeldBack):
            settle(services, claimed.intent, AttemptState.SENDING, came)
    finally:
        if not handed:
            under_way.one_less()


def _settled_of_many(
    services: Services, groups: Groups, intent: Attempt, paid: Paid, under_way: UnderWay,
    answer: AttemptState | Ungrouped | None, error: BaseException | None,
) -> None:  # fmt: skip
    if answer is Ungrouped.ALONE:
        alone = partial(_settle_alone, services, intent, paid, under_way)
        try:
            groups.alone.submit(alone)
        except RuntimeError:  # the process ends, and starts no more threads
            alone()
        return
    if error is not None:
        log.error("%s: its payment could not be written, and is asked about: %s", intent.merchant_uid, error)
    under_way.one_less()


def _settle_alone(services: Services, intent: Attempt, paid: Paid, under_way: UnderWay) -> None:
    try:
        settle(services, intent, AttemptState.SENDING, paid)
    except Exception:  # a charge's own boundary: it is asked about when its lease has run out
        log.exception("%s: its payment could not be written, and is asked about", intent.merchant_uid)
    finally:
        under_way.one_less()


def _attempt_alone(services: Services, charge_id: int) -> AttemptState | None:
    try:
        claimed = claim(services, charge_id)
    except BROKEN as broken:
        quarantine(services, charge_id, broken)
        return None
    return carry_out(services, claimed) if claimed is not None else None


def claim(services: Services, charge_id: int) -> Claimed | None:
    """Take the charge's attempt, or write a new one, under a lease; committed before anything is sent."""
    with services.engine.begin() as db:
        charge = charges.locked(db, charge_id)
        if charge is None or not _is_ours_to_try(services, db, charge):
            return None
        if charge.keyed_in is not None:
            set_aside(db, charge.key, "its card was typed in, and none is kept", now=services.clock.now())
            return None
        if charge.is_archived:
            # What was paid before is not seen from here, so that nothing may be begun.
            set_aside(db, charge.key, "it is owed, and yet its attempts are archived", now=services.clock.now())
            return None
        if attempts.has_paid(db, charge.id):
            set_aside(db, charge.key, "it is owed, and yet an attempt at it is paid", now=services.clock.now())
            return None
        begun = attempts.unresolved(db, charge.id)
        # What was begun is brought to an end; nothing new is begun before an older debt.
        if begun is None and dunning.gives_way(db, charge, services.clock.now()):
            return None
        intent = _take_or_begin(services, db, charge, begun[0] if begun else None)
        if intent is None:
            return None
        attempts_made = max(charge.attempts, intent.number)
        charges.change(db, charge.id, next_attempt_at=None, queued_until=None, attempts=attempts_made)
    return claimed_of(charge, intent)


def claimed_of(charge: Charge, intent: Attempt) -> Claimed:
    """What is needed of a charge to carry out the attempt at it."""
    return Claimed(
        charge.id, charge.key, charge.account, charge.customer_uid, charge.name, charge.keyed_in, intent
    )


Ask = Callable[[Gateway, ChargeOrder, float], Outcome]


def stored_card(gateway: Gateway, order: ChargeOrder, until: float) -> Outcome:
    """Charge the card that the gateway keeps under the order's customer_uid."""
    return gateway.charge(order, until)


@dataclass(frozen=True, slots=True)
class HeldBack:
    """An attempt that was not sent, and the state that it was given back in."""

    state: AttemptState | None


def carry_out(services: Services, claimed: Claimed, ask: Ask = stored_card) -> AttemptState | None:
    """Wait for the rate cap, look a last time, ask the gateway, and settle what it answers."""
    came = _call(services, claimed, ask, None)
    if isinstance(came, HeldBack):
        return came.state
    if services.groups is not None and isinstance(came, Paid):
        grouped = services.groups.settlements.answer_to((claimed.intent, came))
        if grouped is not Ungrouped.ALONE:
            return grouped
    return settle(services, claimed.intent, AttemptState.SENDING, came)


def _call(services: Services, claimed: Claimed, ask: Ask, leave: Leave | None) -> Outcome | HeldBack:
    """Ask the gateway, once it is allowed; a `leave` that was just got is taken, unless it is stale by then."""
    intent = claimed.intent
    reach(Point.CHARGING_CLAIMED, intent.merchant_uid)
    gateway = services.gateway(claimed.account)
    gateway.prepare()
    leave = _await_leave(services, claimed, leave)
    obstacle = _obstacle(services, claimed, leave)
    if obstacle is not None:
        return HeldBack(_hold_back(services, claimed, obstacle))
    reach(Point.CHARGING_LOOKED, intent.merchant_uid)
    order = ChargeOrder(claimed.customer_uid, intent.merchant_uid, intent.money, claimed.name)
    # Counted from before the last look: a worker that is frozen after it and wakes too late does not send.
    outcome = ask(gateway, order, leave.looked_at + services.settings.call_deadline)
    reach(Point.CHARGING_ANSWERED, intent.merchant_uid)
    return outcome


def _is_ours_to_try(services: Services, db: Connection, charge: Charge) -> bool:
    due = charge.next_attempt_at is not None and charge.next_attempt_at <= services.clock.now()
    if not (charge.status.is_owed and charge.held_why is None and due):
        return False
    if charge.account not in services.gateways:
        log.error("charge %s is not sent: no credentials for account %s here", charge.key, charge.account)
        return False
    permission = switches.permission(db, charge.account)
    obstacle = permission.obstacle(services.fingerprint, services.clock)
    if obstacle is not None:
        log.warning("charge %s is not sent: %s", charge.key, obstacle)
    return obstacle is None


def _take_or_begin(
    services: Services, db: Connection, charge: Charge, unresolved: Attempt | None
) -> Attempt | None:
    now = services.clock.now()
    lease_until = now + services.settings.lease_time
    if unresolved is not None:
        # A new merchant_uid only after a definite failure: this one is sent again, or left to its worker.
        return attempts.claim(db, unresolved, now, lease_until)
    return begin_attempt(services, db, charge)


def begin_attempt(services: Services, db: Connection, charge: Charge) -> Attempt | None:
    """Write the next attempt at a charge, claimed, under a uid of its own; None when another worker was faster."""
    now = services.clock.now()
    lease_until = now + services.settings.lease_time
    number = charge.attempts + 1
    row: dict[str, Any] = {
        "charge_id": charge.id,
        "number": number,
        "merchant_uid": merchant_uid(services.settings.environment, charge.key, number),
        "state": AttemptState.SENDING.value,
        "amount": charge.money.amount,
        "currency": charge.money.currency,
        "fence": 1,
        "lease_until": lease_until,
        "sends": 1,
        "last_sent_at": now,
        "created_at": now,
        "tried_by": charge.tried_by.value if charge.tried_by else None,
    }
    return attempts.begin(db, row)


def _await_leave(services: Services, claimed: Claimed, leave: Leave | None) -> Leave:
    """Wait for a moment that the cap leaves free, with a last look just before it."""
    leaving = _leaving(services, claimed)
    tired_at = elapsed() + PATIENCE
    leave = leave or _ask_leave(services, leaving)
    while True:
        if not leave.is_granted or elapsed() > tired_at:
            return replace(leave, is_granted=False)
        if max(elapsed(), leave.earliest) - leave.looked_at > LOOK_LASTS:
            # It would be stale by then; what is seen at the moment itself counts.
            wait(max(0.0, leave.earliest - elapsed() - LOOK_TAKES))
            leave = _seen_again(leave, _ask_leave(services, replace(leaving, rate=0)))
        if (early := leave.earliest - elapsed()) > 0:
            wait(early)
        if elapsed() <= leave.latest:
            return leave
        leave = _ask_leave(services, leaving)


def _leaving(services: Services, claimed: Claimed) -> Leaving:
    return Leaving(claimed.intent.id, claimed.account, services.account(claimed.account).rate)


def _ask_leave(services: Services, leaving: Leaving) -> Leave:
    if services.groups is not None:
        return services.groups.leaves.answer_to(leaving)
    return ask_leave(services, [leaving])[0]


def _obstacle(services: Services, claimed: Claimed, leave: Leave) -> Obstacle | None:
    if not leave.is_granted:
        cap = f"{services.account(claimed.account).rate:g} calls a second for account {claimed.account}"
        return Obstacle(f"the cap of {cap} is used up")
    call_takes = timedelta(seconds=services.settings.call_deadline)
    return leave.sight.obstacle(claimed.intent, services.clock, call_takes, services.fingerprint)


def _hold_back(services: Services, claimed: Claimed, obstacle: Obstacle) -> AttemptState | None:
    """Undo a claim that was surely not sent; a charge that is over gets an end, any other is tried later."""
    intent = claimed.intent
    log.info("%s is held back: %s", intent.merchant_uid, obstacle.why)
    now = services.clock.now()
    with services.engine.begin() as db:
        current = charges.locked(db, claimed.charge_id)
        if current is not None and current.status.is_owed and attempts.release(db, intent, now, obstacle.why):
            # What no worker can send later ends here, with the reason.
            match Then.CANCEL if claimed.keyed_in else obstacle.then:
                case Then.LATER:
                    charges.change(db, claimed.charge_id, next_attempt_at=now + HELD_BACK)
                case Then.CANCEL:
                    close(db, claimed.charge_id, ChargeStatus.CANCELED, obstacle.why, now)
                case Then.PERSON:
                    charges.change(db, claimed.charge_id, next_attempt_at=now + HELD_BACK)
                    set_aside(db, claimed.key, obstacle.why, now)
                case _:
                    assert_never(obstacle.then)
            return AttemptState.READY
    return settle(services, intent, AttemptState.SENDING, NotSent(obstacle.why))
