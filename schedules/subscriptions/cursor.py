"""A subscription's cursor advances by period number: each due period is opened once."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from schedules.calendar.periods import first_on_or_after, next_after, period_date
from schedules.calendar.zones import local_date, zone
from schedules.charging.charges import ChargeKind, DueCharge
from schedules.charging.identity import charge_key
from schedules.subscriptions.plans import CatchUp, Plan, due_at

MISSED_AFTER = timedelta(hours=24)  # a period that is later than this was missed: the plan's catch-up decides
MOST_IN_ONE_RUN = 400  # periods of one subscription; a daily plan after a year's outage takes two runs
CAP_PAUSE = timedelta(days=1)  # wait before the next run for a customer whose catch-up cap was reached
SKIPPED_WHY = "skipped by a person"  # written as closed_why of its charge
LONGEST_SHIFT = timedelta(days=15)  # the longest run of days off in any country, 1970-2100, is 12


@dataclass(frozen=True, slots=True)
class Cursor:
    """The next period of a subscription."""

    period_no: int
    period_date: date  # in the series, before any shift
    due_at: datetime  # after the shift, in UTC


@dataclass(frozen=True, slots=True)
class Opening:
    """The charges that one run opens for a subscription, and the cursor afterwards."""

    charges: tuple[DueCharge, ...]
    cursor: Cursor
    open_at: datetime  # when to look at the subscription again


def first_cursor(
    plan: Plan,
    anchor: date,
    not_before: datetime | None = None,
    anchor_no: int = 0,
    *,
    month_day: int | None = None,
) -> Cursor:
    """The first period, or the first one that is due no earlier than a given instant.

    `anchor_no` is the number of the period at the anchor: numbers continue when an anchor is moved. `month_day` is
    that of `period_date`.
    """
    if not_before is None:
        day = period_date(anchor, plan.cadence, 0, month_day=month_day)
        return Cursor(anchor_no, day, due_at(plan, day))
    earliest = local_date(not_before, zone(plan.zone)) - LONGEST_SHIFT
    n, day = first_on_or_after(anchor, plan.cadence, max(earliest, anchor), month_day=month_day)
    cursor = Cursor(anchor_no + n, day, due_at(plan, day))
    while cursor.due_at < not_before:
        cursor = advance(plan, anchor, cursor, anchor_no, month_day=month_day)
    return cursor


def advance(
    plan: Plan, anchor: date, cursor: Cursor, anchor_no: int = 0, *, month_day: int | None = None
) -> Cursor:
    """The period after this one."""
    n = cursor.period_no - anchor_no
    day = next_after(plan.cadence, anchor, n, cursor.period_date, month_day=month_day)
    return Cursor(cursor.period_no + 1, day, due_at(plan, day))


@dataclass(frozen=True, slots=True)
class Series:
    """The settings of a subscription that differ from its plan's."""

    key: str
    anchor: date
    anchor_no: int = 0
    ends_at: datetime | None = None
    skip_to: int = 0  # periods below this number are not charged
    month_day: int | None = None  # the requested day of the month, if the anchor's month is too short for it

    def after(self, plan: Plan, cursor: Cursor) -> Cursor:
        """The period after this one."""
        return advance(plan, self.anchor, cursor, self.anchor_no, month_day=self.month_day)


def open_due(plan: Plan, series: Series, cursor: Cursor, now: datetime) -> Opening:
    """Return a charge for each due period, in order, without gaps and duplicates.

    Periods due at or after `ends_at` are not opened. The plan's catch-up decides about missed periods, due more
    than MISSED_AFTER ago. `latest` also waives a newer one when another came due after it, but none of several
    that a shift moved to one instant: all of those are on time.
    """
    periods: list[Cursor] = []
    while cursor.due_at <= now and (series.ends_at is None or cursor.due_at < series.ends_at):
        if len(periods) == MOST_IN_ONE_RUN:
            return _opening(plan, series, periods, cursor, now, more=True)
        if plan.catch_up is CatchUp.ALL and len(periods) == plan.catch_up_cap:
            opening = _opening(plan, series, periods, cursor, now, more=False)
            return Opening(opening.charges, cursor, now + CAP_PAUSE)
        periods.append(cursor)
        cursor = series.after(plan, cursor)
    return _opening(plan, series, periods, cursor, now, more=False)


def open_all_due(
    plan: Plan, series: Series, cursor: Cursor, now: datetime
) -> tuple[Opening, tuple[datetime, ...]]:
    """Return charges for all due periods at once, with the time of each first try.

    Charges that the plan's cap leaves to a later run are opened now and tried on the day of that run.
    """
    charges: list[DueCharge] = []
    not_before: list[datetime] = []
    runs = 0
    while cursor.due_at <= now and (series.ends_at is None or cursor.due_at < series.ends_at):
        opening = open_due(plan, series, cursor, now)
        charges += opening.charges
        not_before += [now + runs * CAP_PAUSE] * len(opening.charges)
        runs += opening.open_at == now + CAP_PAUSE
        cursor = opening.cursor
    return Opening(tuple(charges), cursor, cursor.due_at), tuple(not_before)


def pass_over(plan: Plan, series: Series, cursor: Cursor, now: datetime, why: str) -> Opening:
    """Return a waived charge with this reason for each period that came due before now.

    A period that a person skipped keeps that reason. Periods due at or after `ends_at` are left out.
    """
    charges: list[DueCharge] = []
    while cursor.due_at < now and (series.ends_at is None or cursor.due_at < series.ends_at):
        key = charge_key(ChargeKind.RENEWAL, series.key, cursor.period_no)
        waived = SKIPPED_WHY if cursor.period_no < series.skip_to else why
        charges.append(DueCharge(key, cursor.period_no, cursor.due_at, plan.price, waived=waived))
        cursor = series.after(plan, cursor)
    return Opening(tuple(charges), cursor, cursor.due_at)


def _opening(
    plan: Plan, series: Series, periods: list[Cursor], cursor: Cursor, now: datetime, *, more: bool
) -> Opening:
    charged = [period for period in (*periods, *((cursor,) if more else ())) if period.period_no >= series.skip_to]
    newest = charged[-1] if charged else cursor
    charges = tuple(_charge(plan, series, period, now, newest) for period in periods)
    return Opening(charges, cursor, now if more else cursor.due_at)


def _charge(plan: Plan, series: Series, period: Cursor, now: datetime, newest: Cursor) -> DueCharge:
    key = charge_key(ChargeKind.RENEWAL, series.key, period.period_no)
    if period.period_no < series.skip_to:
        return DueCharge(key, period.period_no, period.due_at, plan.price, waived=SKIPPED_WHY)
    missed = now - period.due_at > MISSED_AFTER
    overtaken = period != newest and (missed or period.due_at < newest.due_at)
    waived = held = None
    match plan.catch_up:
        case CatchUp.ALL:
            pass
        case CatchUp.LATEST if overtaken:
            waived = "missed in an outage; the plan charges the latest period only"
        case CatchUp.NONE if missed:
            waived = "missed in an outage; the plan charges no missed period"
        case CatchUp.ASK if missed:
            held = "missed in an outage; the plan asks an operator"
        case _:
            pass
    return DueCharge(key, period.period_no, period.due_at, plan.price, waived, held)
