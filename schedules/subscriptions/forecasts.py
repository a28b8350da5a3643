"""Forecast the charges that opening will write for a subscription until a day, by the same rules."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime

from schedules.calendar.zones import local_date, zone
from schedules.charging.identity import ALPHABET, SUBJECT_LENGTH
from schedules.subscriptions.cursor import Cursor, Series, open_due
from schedules.subscriptions.plans import Plan

_ANYBODY = ALPHABET[0] * SUBJECT_LENGTH


@dataclass(frozen=True, slots=True)
class Stand:
    """The facts of a subscription that determine its periods, beside its plan."""

    cursor: Cursor
    open_at: datetime  # when opening looks at it next
    anchor: date
    anchor_no: int = 0
    ends_at: datetime | None = None
    skip_to: int = 0
    month_day: int | None = None

    @property
    def series(self) -> Series:
        """Its periods, without a key, on which they do not depend."""
        return Series(_ANYBODY, self.anchor, self.anchor_no, self.ends_at, self.skip_to, self.month_day)


@dataclass(frozen=True, slots=True)
class Coming:
    """A period that is opened on one of the requested days."""

    period_no: int
    due_at: datetime
    at: datetime  # when it is opened: when it is due, unless that is past or the plan's cap postpones it
    day: date  # of `at`, in the plan's zone
    left_out: str | None  # why it is skipped, waived or held, and not charged


def coming(plan: Plan, stand: Stand, now: datetime, first: date, last: date) -> Iterator[Coming]:
    """Yield the periods that are opened from one local day to another, both included, if opening is never late.

    Nothing is opened before `now`; a cursor that is behind is caught up then, by the plan's catch-up.
    """
    tz = zone(plan.zone)
    series, cursor, look_at = stand.series, stand.cursor, max(stand.open_at, now)
    while (day := local_date(look_at, tz)) <= last:
        opening = open_due(plan, series, cursor, look_at)
        if first <= day:
            for charge in opening.charges:
                left_out = charge.waived or charge.held
                yield Coming(charge.period_no, charge.due_at, look_at, day, left_out)
        cursor, look_at = opening.cursor, opening.open_at
        if stand.ends_at is not None and cursor.due_at >= stand.ends_at:
            return
