"""Forecast: the charges of coming days, with amount and reason; nothing is written."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from sqlalchemy import Connection

from schedules.calendar.paces import Pace, pace
from schedules.calendar.zones import day_bounds, local_date, zone
from schedules.charging.charges import ChargeKind
from schedules.charging.identity import charge_key
from schedules.errors import BROKEN, Code, OwnCode
from schedules.money.amounts import Money
from schedules.subscriptions.cursor import Cursor
from schedules.subscriptions.forecasts import Coming, Stand, coming
from schedules.subscriptions.plans import Plan, at_own_time
from worker.charging.rate_limiter import interval
from worker.services import Services
from worker.store.customers import plans
from worker.store.customers.plans import StoredPlan
from worker.store.reporting import forecasts
from worker.store.reporting.forecasts import NextTry, Reach, StoredStand

LONGEST_SPAN = 1827  # days: five years; a daily plan has one row a day for each customer
EARLIEST_OFFSET = timedelta(hours=14)  # no zone is further ahead of UTC, and none 14 hours behind
MOST_KEPT = 200_000  # cached periods; about 40 MB
CARD_WORDS = {
    "deleted": "its billing key was deleted",
    "stopped": "its card can never pay; it waits for another one",
}


class CannotForesee(OwnCode):
    """The requested forecast is not possible."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The requested local days, both included: of a plan in its own zone, of a debt in this one."""

    first: date
    last: date
    zone: str
    plan: str | None = None  # its code, for all its versions

    def __post_init__(self) -> None:
        if self.last < self.first:
            raise CannotForesee(
                Code.INVALID, f"the days from {self.first} to {self.last} are none; give the earlier day first"
            )
        if (self.last - self.first).days >= LONGEST_SPAN:
            raise CannotForesee(
                Code.INVALID, f"{self.first} to {self.last} is longer than five years; ask for less at once"
            )


@dataclass(frozen=True, slots=True)
class Foreseen:
    """A charge of a coming day, if nothing changes and every earlier charge is paid."""

    charge: str
    customer_uid: str
    subscription: str | None
    money: Money
    due_at: datetime
    at: datetime  # when it is tried
    day: date
    why: str
    left_out: str | None  # why it will not be tried
    account: str  # at the gateway


@dataclass(frozen=True, slots=True)
class DaySum:
    """The totals of a day in one currency: new periods, older debts, and their sum."""

    day: date
    currency: str
    periods: int
    debts: int
    amount: int  # minor units


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The charges that are due on these days and will not be tried, by reason."""

    why: str
    currency: str
    charges: int
    amount: int  # minor units


@dataclass(frozen=True, slots=True)
class Totals:
    """The totals of a forecast."""

    days: Sequence[DaySum]  # in order, a day for each currency that is charged on it
    left_out: Sequence[LeftOut]
    broken: int  # subscriptions that opening cannot work on


def foresee(services: Services, asked: Asked) -> Iterator[Foreseen]:
    """Yield all charges of these days, unordered: tries of open debts, then new periods."""
    with _look(services, asked) as look:
        for debt in forecasts.debts(look.db, look.reach):
            if asked.first <= (day := look.day_of(debt)) <= asked.last:
                yield _try(debt, look.at(debt), day)
        for row in forecasts.each(look.db, look.reach):
            if not (periods := look.periods(row.stand)):
                continue
            plan = look.plans[row.stand.plan_id].plan
            card = CARD_WORDS[row.card] if row.card else None
            for period in periods:
                key = charge_key(ChargeKind.RENEWAL, row.key, period.period_no)
                yield Foreseen(
                    key, row.customer_uid, row.key, plan.price, period.due_at, period.at, period.day,
                    _why(plan, period), period.left_out or card, row.account,
                )  # fmt: skip


def add_up(services: Services, asked: Asked, told: Callable[[int], object] = lambda _: None) -> Totals:
    """Return the totals by day and currency; equal subscriptions are computed once and counted.

    `told` is called with the number of subscriptions of each step.
    """
    tally = _Tally()
    with _look(services, asked) as look:
        for debt in forecasts.debts(look.db, look.reach):
            if asked.first <= (day := look.day_of(debt)) <= asked.last:
                left_out = CARD_WORDS[debt.card] if debt.card else None
                tally.add(tally.debts, day, Money(debt.amount, debt.currency), left_out)
        for row in forecasts.stands(look.db, look.reach):
            periods = look.periods(row.stand)
            if periods is None:
                tally.broken += row.many
            for period in periods or ():
                left_out = period.left_out or (CARD_WORDS[row.card] if row.card else None)
                tally.add(tally.periods, period.day, look.plans[row.stand.plan_id].plan.price, left_out, row.many)
            told(row.many)
    return tally.totals()


def paces(services: Services, foreseen: Collection[Foreseen]) -> dict[str, Pace]:
    """Return how long these charges, in order of time, take at the cap of each gateway account."""
    told = {}
    for account in sorted({charge.account for charge in foreseen}):
        every = timedelta(seconds=interval(services.account(account).rate))
        if (of_it := pace((charge.at for charge in foreseen if charge.account == account), every)) is not None:
            told[account] = of_it
    return told


def sums(foreseen: Collection[Foreseen]) -> dict[str, int]:
    """Return the total, in minor units by currency."""
    found: Counter[str] = Counter()
    for charge in foreseen:
        found[charge.money.currency] += charge.money.amount
    return dict(found)


@dataclass(slots=True)
class _Look:
    """One snapshot of the database, and the periods computed from it."""

    db: Connection
    asked: Asked
    reach: Reach
    plans: dict[int, StoredPlan]
    now: datetime
    kept: dict[StoredStand, Sequence[Coming] | None] = field(default_factory=dict)
    weight: int = 0

    def at(self, row: NextTry) -> datetime:
        """Return when a debt is tried: now, if its time is past."""
        return max(row.next_attempt_at, self.now)

    def day_of(self, row: NextTry) -> date:
        """Return the local day on which a debt is tried."""
        return local_date(self.at(row), zone(self.asked.zone))

    def periods(self, stand: StoredStand) -> Sequence[Coming] | None:
        """Return a subscription's periods on the days, computed once for equal ones; None if its row is broken.

        The cache is cleared at its limit, so that memory is bounded.
        """
        try:
            return self.kept[stand]
        except KeyError:
            found = self.kept[stand] = self._worked_out(stand)
        self.weight += 1 + len(found or ())
        if self.weight > MOST_KEPT:
            self.kept.clear()
            self.weight = 0
        return found

    def _worked_out(self, row: StoredStand) -> Sequence[Coming] | None:
        if row.plan_id not in self.plans:
            return None
        plan = at_own_time(self.plans[row.plan_id].plan, row.billing_time)
        cursor = Cursor(row.next_period_no, row.next_period_date, row.next_due_at)
        stand = Stand(
            cursor, row.open_at, row.anchor, row.anchor_no, row.ends_at, row.skip_to or 0, row.anchor_day
        )
        try:
            return tuple(coming(plan, stand, self.now, self.asked.first, self.asked.last))
        except BROKEN:
            return None  # opening will quarantine it


@contextmanager
def _look(services: Services, asked: Asked) -> Iterator[_Look]:
    """Read one snapshot, so that a charge that is opened meanwhile is neither missing nor counted twice."""
    now = services.clock.now()
    since, last_second = day_bounds(asked.first, asked.last, zone(asked.zone))
    with services.one_moment(for_long=True) as db:
        ids = _versions(db, asked.plan) if asked.plan is not None else None
        known, _ = plans.readable(db)
        # The query covers all zones; each zone's days are selected from it.
        until = max(last_second + timedelta(seconds=1), _ends_everywhere(asked.last))
        reach = Reach(None if since <= now else since, until, ids)
        yield _Look(db, asked, reach, known, now)


def _versions(db: Connection, code: str) -> list[int]:
    ids = plans.versions_of(db, code)
    if not ids:
        codes = sorted({stored.plan.code for stored in plans.readable(db)[0].values()})
        raise CannotForesee(
            Code.NOT_FOUND, f"plan {code!r} is not known; there are: {', '.join(codes) or 'none yet'}"
        )
    return ids


def _ends_everywhere(day: date) -> datetime:
    """Return when a date has ended in every zone."""
    return datetime.combine(day, datetime.max.time(), zone("UTC")) + EARLIEST_OFFSET


def _try(row: NextTry, at: datetime, day: date) -> Foreseen:
    tries = row.attempts
    why = f"try {tries + 1}, after {row.declines} declines" if tries else "opened, not tried yet"
    left_out = CARD_WORDS[row.card] if row.card else None
    money = Money(row.amount, row.currency)
    return Foreseen(
        row.key, row.customer_uid, row.subscription, money, row.due_at, at, day, why, left_out, row.account
    )


def _why(plan: Plan, period: Coming) -> str:
    why = f"period {period.period_no} of plan {plan.code} version {plan.version}"
    if period.due_at < period.at:
        why += f", due since {period.due_at:%Y-%m-%d %H:%M}Z; catch-up is {plan.catch_up}"
    return why


@dataclass(slots=True)
class _Tally:
    """Totals of charges by day, currency and whether they are new."""

    periods: Counter[tuple[date, str]] = field(default_factory=Counter)
    debts: Counter[tuple[date, str]] = field(default_factory=Counter)
    amounts: Counter[tuple[date, str]] = field(default_factory=Counter)
    out: Counter[tuple[str, str]] = field(default_factory=Counter)
    out_amounts: Counter[tuple[str, str]] = field(default_factory=Counter)
    broken: int = 0

    def add(
        self, counted: Counter[tuple[date, str]], day: date, money: Money, left_out: str | None, many: int = 1
    ) -> None:
        """Add equal charges of a day."""
        if left_out is not None:
            self.out[left_out, money.currency] += many
            self.out_amounts[left_out, money.currency] += many * money.amount
            return
        counted[day, money.currency] += many
        self.amounts[day, money.currency] += many * money.amount

    def totals(self) -> Totals:
        """Return the totals, in order."""
        days = [
            DaySum(day, currency, self.periods[day, currency], self.debts[day, currency], amount)
            for (day, currency), amount in sorted(self.amounts.items())
        ]
        out = [
            LeftOut(why, currency, charges, self.out_amounts[why, currency])
            for (why, currency), charges in sorted(self.out.items())
        ]
        return Totals(days, out, self.broken)
