"""A plan: what is sold, at what price, on which dates; versions are immutable."""

import re
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from enum import StrEnum

from schedules.calendar.cadence import Cadence, Cron, short_month_warning
from schedules.calendar.shifts import Shift, checked_country, shifted
from schedules.calendar.zones import wall_to_utc, zone
from schedules.errors import BadPlan
from schedules.money.amounts import Money
from schedules.texts import normalized

NAME_LENGTH = 40  # of `name`, in PortOne's V1 schema
LONGEST_TRIAL = 730  # days
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


class CatchUp(StrEnum):
    """The treatment of periods that were missed in an outage."""

    ALL = "all"  # each is charged, oldest first
    LATEST = "latest"  # the newest is charged, older ones are waived
    NONE = "none"  # all are waived
    ASK = "ask"  # they wait for an operator


@dataclass(frozen=True, slots=True)
class Plan:
    """One version of a plan."""

    code: str
    version: int
    price: Money
    cadence: Cadence
    statement_name: str
    zone: str = "Asia/Seoul"
    billing_time: time = time(9)
    trial_days: int = 0
    catch_up: CatchUp = CatchUp.ALL
    catch_up_cap: int = 3
    shift: Shift = Shift.NONE
    holidays: str | None = None
    allow_short_months: bool = False

    def __post_init__(self) -> None:
        zone(self.zone)
        if not _CODE.fullmatch(self.code):
            raise BadPlan(f"plan code {self.code!r} is not made of 1 to 40 letters, digits, - and _")
        object.__setattr__(self, "statement_name", normalized(self.statement_name))
        length = len(self.statement_name)
        if not 1 <= length <= NAME_LENGTH or not self.statement_name.isprintable():
            raise BadPlan(
                f"statement name {self.statement_name!r} has {length} characters; "
                f"the gateway takes 1 to {NAME_LENGTH}, all printable"
            )
        if self.billing_time.tzinfo is not None or self.billing_time.second or self.billing_time.microsecond:
            raise BadPlan(
                f"billing time {self.billing_time} is not a plain wall time to the minute, such as 09:00"
            )
        if not 0 <= self.trial_days <= LONGEST_TRIAL:
            raise BadPlan(f"a trial of {self.trial_days} days is not between 0 and {LONGEST_TRIAL}")
        if not 1 <= self.catch_up_cap <= 100:
            raise BadPlan(f"a catch-up cap of {self.catch_up_cap} is not between 1 and 100 charges")
        self._check_dates()

    def _check_dates(self) -> None:
        if self.holidays is not None:
            checked_country(self.holidays)
        elif self.shift is not Shift.NONE:
            raise BadPlan(f"shift {self.shift.value!r} needs the country whose holidays count, such as KR")
        if isinstance(self.cadence, Cron) and not self.allow_short_months:
            warning = short_month_warning(self.cadence)
            if warning:
                raise BadPlan(f"{warning}; or say --allow-short-months if skipping is what you want")


def at_own_time(plan: Plan, billing_time: time | None) -> Plan:
    """Return the plan with another billing time, for a subscription that has its own."""
    return plan if billing_time is None else replace(plan, billing_time=billing_time)


def due_at(plan: Plan, day: date) -> datetime:
    """The instant at which the period that begins on this date is due, shifted and at the billing time."""
    return wall_to_utc(shifted(day, plan.shift, plan.holidays), plan.billing_time, zone(plan.zone))
