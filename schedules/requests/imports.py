"""Import: the period at which a subscription of another system continues here, without a gap or an overlap."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from schedules.calendar.cadence import Cadence
from schedules.calendar.periods import first_on_or_after, kept_month_day, period_date
from schedules.calendar.zones import zone
from schedules.errors import BadRequest, Code
from schedules.money.amounts import Money
from schedules.requests.adhoc import LONGEST_UID, checked_words
from schedules.subscriptions.cursor import Cursor, advance, first_cursor
from schedules.subscriptions.plans import Plan, at_own_time, due_at
from schedules.texts import cleaned

COLUMNS = (
    "customer_uid", "plan", "next_date", "anchor", "external_ref", "name", "email", "tel", "account", "another",
)  # fmt: skip
NEEDED = ("customer_uid", "plan", "next_date")
YES, NO = ("yes", "true", "1"), ("", "no", "false", "0")
SEAM = timedelta(hours=1)  # the other system makes the charges that are due within this


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A subscription of an import file; the other system charged everything before `next_date`."""

    customer_uid: str
    plan: str
    next_date: date
    anchor: date
    external_ref: str
    name: str | None
    email: str | None
    tel: str | None
    account: str | None
    another: bool  # the customer may have another subscription to the plan


def read_incoming(columns: Mapping[str, str]) -> Incoming:
    """The subscription that a line describes; BadRequest names the column that is wrong.

    Without a reference, customer and plan identify it.
    """
    said = {name: cleaned(name, (columns.get(name) or "").strip()) for name in COLUMNS}
    for name in ("customer_uid", "plan"):
        checked_words(name, said[name], LONGEST_UID)
    following = _date("next_date", said["next_date"])
    ref = said["external_ref"] or f"{said['customer_uid']}/{said['plan']}"
    return Incoming(
        customer_uid=said["customer_uid"], plan=said["plan"], next_date=following,
        anchor=_date("anchor", said["anchor"]) if said["anchor"] else following,
        external_ref=checked_words("external_ref", ref, 2 * LONGEST_UID + 1),
        **{name: said[name] or None for name in ("name", "email", "tel", "account")},
        another=_truth("another", said["another"]),
    )  # fmt: skip


def _truth(column: str, text: str) -> bool:
    if text.lower() in YES:
        return True
    if text.lower() in NO:
        return False
    raise BadRequest(Code.INVALID, column, f"{text!r} is neither yes nor no")


def _date(column: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BadRequest(Code.INVALID, column, f"{text!r} is not a date; write it like 2026-01-31") from None


def seam(plan: Plan, incoming: Incoming, now: datetime) -> Cursor:
    """Return the first period that is charged here; BadRequest when its date is past or not one of the plan's."""
    if incoming.anchor > incoming.next_date:
        raise BadRequest(Code.INVALID, "anchor", f"{incoming.anchor} is after next_date {incoming.next_date}")
    number, day = first_on_or_after(incoming.anchor, plan.cadence, incoming.next_date)
    if day != incoming.next_date:
        before = period_date(incoming.anchor, plan.cadence, number - 1) if number else None
        nearest = f"{before} and {day}" if before else str(day)
        raise BadRequest(Code.INVALID,
            "next_date", f"{incoming.next_date} is no date of plan {plan.code!r} from anchor {incoming.anchor}; "
            f"the nearest are {nearest}",
        )  # fmt: skip
    due = due_at(plan, day)
    if due <= now + SEAM:
        raise BadRequest(
            Code.INVALID,
            "next_date",
            f"it is due at {due:%Y-%m-%d %H:%M}Z and would be charged at once; give a later date of the plan",
        )
    return Cursor(number, day, due)


@dataclass(frozen=True, slots=True)
class TimerEntry:
    """One charge in the schedule of another system."""

    merchant_uid: str
    at: datetime
    money: Money
    status: str  # scheduled, executed or revoked


@dataclass(frozen=True, slots=True)
class Mapped:
    """How a schedule's entries match a plan: its time of day, and the local date of each future entry."""

    billing_time: time
    dates: tuple[tuple[str, date], ...]  # merchant_uid and date, in order

    def month_day(self, cadence: Cadence) -> int | None:
        """Return the day of the month of these dates if the first one's month is too short for it."""
        return _month_day(cadence, [day for _, day in self.dates])


def _month_day(cadence: Cadence, dates: Sequence[date]) -> int | None:
    latest = max(day.day for day in dates)
    return kept_month_day(dates[0], latest, cadence, dates[0], is_new=False)


def mapped(plan: Plan, entries: Sequence[TimerEntry], now: datetime) -> Mapped:
    """Match a schedule's entries with a plan's periods; BadRequest says why they do not match.

    The other system makes the charges that are due within SEAM.
    """
    coming = sorted((entry for entry in entries if entry.status == "scheduled"), key=lambda entry: entry.at)
    ours = [entry for entry in coming if entry.at > now + SEAM]
    if not ours:
        raise BadRequest(Code.INVALID, "schedules", "nothing is scheduled later than an hour from now")
    local = [entry.at.astimezone(zone(plan.zone)) for entry in ours]
    times = {at.time().replace(second=0, microsecond=0) for at in local}
    if len(times) > 1:
        raise BadRequest(
            Code.INVALID, "schedules", f"they are at different times of day: {', '.join(map(str, sorted(times)))}"
        )
    for entry, at, expected in zip(ours, local, _series(plan, [at.date() for at in local]), strict=True):
        if entry.money != plan.price:
            raise BadRequest(
                Code.INVALID, "schedules", f"{entry.merchant_uid} is {entry.money}, the plan {plan.price}"
            )
        if at.date() != expected:
            raise BadRequest(
                Code.INVALID, "schedules", f"{entry.merchant_uid} is on {at.date()}, the plan's next is {expected}"
            )
    dates = tuple((entry.merchant_uid, at.date()) for entry, at in zip(ours, local, strict=True))
    return Mapped(times.pop(), dates)


def _series(plan: Plan, found: Sequence[date]) -> list[date]:
    """Return as many dates of the plan as these, from the first one on."""
    anchor, month_day = found[0], _month_day(plan.cadence, found)
    cursor, dates = first_cursor(plan, anchor, month_day=month_day), list[date]()
    while len(dates) < len(found):
        dates.append(cursor.period_date)
        cursor = advance(plan, anchor, cursor, month_day=month_day)
    return dates


def first_here(plan: Plan, found: Mapped, revoked: frozenset[str]) -> Cursor:
    """Return the first period that is charged here: the one after the last that the other system charged."""
    begin = 0
    for place, (uid, _) in enumerate(found.dates):
        if uid not in revoked:
            begin = place + 1
    own, anchor = at_own_time(plan, found.billing_time), found.dates[0][1]
    month_day = found.month_day(plan.cadence)
    cursor = first_cursor(own, anchor, month_day=month_day)
    for _ in range(begin):
        cursor = advance(own, anchor, cursor, month_day=month_day)
    return cursor
