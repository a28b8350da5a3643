"""The rate limiter: a pre-send check of what was claimed, and a send slot of its account's cap."""

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import chain, repeat

from sqlalchemy import Connection

from worker.charging.claim import Claimed
from worker.clock import OtherClock, elapsed, wait
from worker.services import Services
from worker.store.charging import charges, rates
from worker.store.charging.charges import Obstacle, Sight
from worker.store.charging.rates import LONGEST_PATIENCE, Moment

PATIENCE = 5.0  # seconds; longer waits go back to the queue, so that the lease is for the call
NO_SLOT = Obstacle(f"it could not leave within {PATIENCE:g} s")
LOOK_TAKES = 0.03  # seconds to keep for a look that comes just before the call
UNCAPPED = (0.0, math.inf, True)
# A call that leaves late falls into a second that belongs to others. So each slot is longer than its share of a
# second, and what a call is later than that allows is put between the slots that follow: then no second sees more
# than the cap, and what is left unused is the price. Above a thousand calls a second a machine is busy, and many
# would be late.
BUSY_RATE = 1000.0
SPREAD, BUSY_SPREAD = 1.016, 1.09
LATE, BUSY_LATE = 0.005, 0.08  # seconds; below what the spread leaves, the rest being the way to the gateway
LATEST = 0.05  # seconds after which a slot is given up
SECOND = 1.01  # seconds; no call belongs to the second of one that far before
SLEW = 0.0005  # share by which slots may come closer together while the estimate of the database's clock improves


class SlotClock:
    """When slots that were given by the database's clock begin by `elapsed`; one for each process.

    The estimate of that clock improves with each quicker answer. A slot that was converted by a worse estimate can
    be late; the next one, converted by a better one, would follow too closely, and a second would see more calls
    than the cap. So of each account no slot follows the one before sooner than the database's clock says.
    """

    def __init__(self, database: OtherClock) -> None:
        self._database = database
        self._last: dict[str, tuple[float, float]] = {}  # the newest slot of an account: begins there, and here
        self._lock = threading.Lock()

    def begins(self, account: str, asked_at: float, answered_at: float, moment: Moment, span: float) -> float:
        """When the first of an account's slots begins here; the last begins `span` seconds later."""
        there = moment.database_time + moment.seconds
        here = self._database.here(asked_at, answered_at, moment.database_time) + moment.seconds
        with self._lock:
            last_there, last_here = self._last.get(account, (there, here))
            if there >= last_there:
                apart = min(there - last_there, SECOND)  # more when the database's clock was set forward
                here = max(here, last_here + apart * (1 - SLEW))
            # Another thread was given one before the newest first, unless the database's clock was set back.
            if there >= last_there or last_there - there > LONGEST_PATIENCE:
                self._last[account] = there + span, here + span
        return here


_CLOCK = SlotClock(OtherClock())


def interval(rate: float) -> float:
    """Seconds from one slot of an account's cap to the next; 0 is no cap."""
    return (SPREAD if rate <= BUSY_RATE else BUSY_SPREAD) / rate if rate else 0.0


def too_late(rate: float, seconds: float) -> float:
    """The seconds that the slots after a call must be put off, for it left so long after its own began."""
    return max(0.0, seconds - (LATE if rate <= BUSY_RATE else BUSY_LATE))


@dataclass(frozen=True, slots=True)
class SlotRequest:
    """A request for a send slot for one claimed attempt."""

    attempt_id: int
    account: str
    rate: float  # calls a second; 0 is no cap, or a slot that it has already
    has_slot: bool = False


@dataclass(frozen=True, slots=True)
class Permit:
    """What a pre-send check saw, and the slot that is free for the call; times are those of `elapsed`."""

    sight: Sight
    looked_at: float  # before the look
    stale_at: float  # a call that leaves after this needs another look; see `check_times`
    earliest: float  # not before this
    latest: float  # and not after this: the slot would be another's, or the look stale
    is_granted: bool  # false when the slot would be further away than anybody waits

    @property
    def is_soon(self) -> bool:
        """Whether the look will not be stale when its slot has come."""
        return self.earliest + LATEST <= self.stale_at

    def seen_again(self, again: "Permit") -> "Permit":
        """The same slot, with what is seen now."""
        return replace(self, sight=again.sight, looked_at=again.looked_at, stale_at=again.stale_at)


@dataclass(slots=True, eq=False)
class SlotSearch:
    """The way of a claimed attempt to a slot: it asks by `request`, and decides on each permit."""

    claimed: Claimed
    services: Services  # those that its call is made with, for the rate and the credentials of its account
    asked_at: float = field(default=0.0, init=False)  # when a slot was first asked for
    # A slot that is still to come, when the look at it will be stale by then.
    permit: Permit | None = field(default=None, init=False)

    def request(self) -> SlotRequest:
        """What it asks for next; with a slot it is looked at again, and takes no other."""
        has_slot = self.permit is not None
        rate = 0.0 if has_slot else self.services.account(self.claimed.account).rate
        return SlotRequest(self.claimed.intent.id, self.claimed.account, rate, has_slot)

    def decide(self, permit: Permit) -> Permit | float | Obstacle:
        """Return the permit that it is sent under, when to ask again by `elapsed`, or why it is not sent."""
        found = None
        if self.permit is not None:
            permit, self.permit = self.permit.seen_again(permit), None
        else:
            self.asked_at = self.asked_at or permit.looked_at
            found = NO_SLOT if permit.looked_at - self.asked_at > PATIENCE else None
        found = obstacle(self.services, self.claimed, permit) or found
        if found is not None:
            return found
        if permit.is_soon:
            return permit
        # The look would be stale by then; what is seen at the slot itself counts.
        self.permit = permit
        return permit.earliest - LOOK_TAKES - self.services.check_times.extra


def await_permit(services: Services, claimed: Claimed) -> Permit | Obstacle:
    """Wait in this thread for a slot that the cap leaves free, with a pre-send check just before it."""
    search = SlotSearch(claimed, services)
    while True:
        (permit,) = request_permits(services, [search.request()])
        match search.decide(permit):
            case Permit() as found:
                wait(max(0.0, found.earliest - elapsed()))
                if elapsed() <= min(found.latest, found.stale_at):
                    return found
            case Obstacle() as found:
                return found
            case look_at:
                wait(max(0.0, look_at - elapsed()))


def request_permits(
    services: Services, them: Sequence[SlotRequest], overrun: Mapping[str, float] | None = None
) -> list[Permit]:
    """Look a last time at each of these attempts, and take a free slot of its account's cap for each.

    `overrun` says by how many seconds the slots of an account are put off first, for a call that left too late.
    """
    late = overrun or {}
    times = services.check_times
    ahead = times.extra
    asked_at = elapsed()
    # Statements that stand for themselves need no transaction around them.
    with services.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        rate_of = {each.account: each.rate for each in them if each.rate}
        slots = {
            account: _slots(db, account, rate, sum(each.account == account and each.rate > 0 for each in them),
                            late.get(account, 0.0), ahead)
            for account, rate in rate_of.items()
        }  # fmt: skip
        for account in late.keys() - rate_of.keys():
            rates.delay_slots(db, account, late[account])
        # After the slots, so that it is as fresh as can be when the first of them comes.
        looked_at = elapsed()
        sights = charges.pre_send_checks(db, [each.attempt_id for each in them]) if them else {}
    if rate_of or not any(each.has_slot for each in them):
        # A check without slots takes a round trip less, and would make those with slots look quick.
        times.add(elapsed() - asked_at)
    stale_at = looked_at + times.lasts
    return [
        Permit(
            sights[each.attempt_id], looked_at, stale_at, *(next(slots[each.account]) if each.rate else UNCAPPED)
        )
        for each in them
    ]


def _slots(
    db: Connection, account: str, rate: float, asked: int, overrun: float, ahead: float
) -> Iterator[tuple[float, float, bool]]:
    """Free slots of one account's cap, for so many calls: earliest, latest, and whether there is one."""
    every = interval(rate)
    # Slots further away than PATIENCE are not taken; the first slot may be PATIENCE away.
    many = min(asked, 1 + int(PATIENCE / every))
    asked_at = elapsed()
    moment = rates.take(db, account, 1 / every, PATIENCE, many, overrun, ahead)
    refused = repeat((asked_at, math.inf, False))
    if moment is None:
        return refused
    first = _CLOCK.begins(account, asked_at, elapsed(), moment, (many - 1) * every)
    width = LATEST if rate <= BUSY_RATE else BUSY_LATE
    granted = [(first + place * every, first + place * every + width, True) for place in range(many)]
    return chain(granted, refused)


def obstacle(services: Services, claimed: Claimed, permit: Permit) -> Obstacle | None:
    """Why a claimed attempt must not leave; None when it may, in the slot that it has."""
    if not permit.is_granted:
        cap = f"{services.account(claimed.account).rate:g} calls a second for account {claimed.account}"
        return Obstacle(f"the cap of {cap} is used up")
    call_takes = timedelta(seconds=services.settings.call_deadline)
    return permit.sight.obstacle(claimed.intent, services.clock, call_takes, services.identity)
