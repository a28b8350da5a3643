"""Reports: the recovered share of declined charges, and the reasons of declines."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import StrEnum

from schedules.calendar.zones import wall_to_utc, zone
from schedules.errors import Code, FixedCode
from worker.services import Services
from worker.store.reporting import reports
from worker.store.reporting.reports import Cohort, Failures

LONGEST = timedelta(days=400)


class CannotReport(FixedCode, code=Code.INVALID):
    """The span of the report is invalid."""


class By(StrEnum):
    """The length of a cohort."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Span:
    """Local days, both included."""

    first: date
    last: date
    zone: str

    def instants(self) -> tuple[datetime, datetime]:
        """Return its first instant, and the first instant after it."""
        if self.last < self.first:
            raise CannotReport(f"--from {self.first} is after --to {self.last}; give them in order")
        if self.last - self.first > LONGEST:
            raise CannotReport(
                f"{self.first} to {self.last} is more than {LONGEST.days} days; take a shorter span"
            )
        tz = zone(self.zone)
        return wall_to_utc(self.first, time(0), tz), wall_to_utc(self.last + timedelta(days=1), time(0), tz)


def recovery(services: Services, span: Span, by: By) -> tuple[Sequence[Cohort], Sequence[Cohort]]:
    """Return the cohorts of charges first declined in the span, and the totals for each currency."""
    since, until = span.instants()
    with services.engine.begin() as db:
        each = reports.cohorts(db, since, until, span.zone, by.value)
        return each, reports.cohorts(db, since, until, span.zone, None)


def failures(services: Services, span: Span) -> Sequence[Failures]:
    """Return the declines of the span by class and PG."""
    since, until = span.instants()
    with services.engine.begin() as db:
        return reports.failures(db, since, until)
