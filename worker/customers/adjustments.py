"""The results of the verbs that adjust a subscription: each lists the dates and amounts that it changes."""

from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from schedules.subscriptions.plans import Plan
from worker.customers.next_charges import Next
from worker.renewals.open_charges import Opened


class Undoable(StrEnum):
    """What `undo` can undo."""

    END = "end"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Paused:
    """A subscription that was paused."""

    opened: tuple[Opened, ...]  # the periods that were due, opened first
    not_charged: Next  # the next charge, not made during the pause


@dataclass(frozen=True, slots=True)
class Resumed:
    """A subscription that continues after a pause."""

    not_charged: tuple[Opened, ...]  # the periods that came due during the pause
    following: Next | None  # None when the subscription ends before it


@dataclass(frozen=True, slots=True)
class Skipped:
    """A period that will not be charged, and what is charged next."""

    period_no: int
    period_date: date
    due_at: datetime
    amount: int  # minor units that are not charged
    currency: str
    following: Next
    opened: tuple[Opened, ...]


@dataclass(frozen=True, slots=True)
class Undone:
    """What was undone, and what is charged next."""

    what: Undoable
    ended_at: datetime | None  # the end that was undone
    skipped_below: int | None  # periods below this number were to be skipped
    debts_tried: int  # declined before the end was requested, and tried again now
    following: Next | None  # None while it is paused
    opened: tuple[Opened, ...]


@dataclass(frozen=True, slots=True)
class Moved:
    """The next charge at another day or time, and as it was before."""

    next: Next
    before: Next
    opened: tuple[Opened, ...]


@dataclass(frozen=True, slots=True)
class PlanChange:
    """The plan and the next charge of a subscription before and after a change of plan."""

    next: Next
    next_before: Next
    before: Plan
    after: Plan
    opened: tuple[Opened, ...]


class Became(StrEnum):
    """What becomes of a debt when the card of its subscription is changed."""

    TRIED = "tried"  # moved to the new card and tried at once
    MOVED = "moved"  # moved, and not tried: held, not due, or declined before a person ended the subscription
    UNDER_WAY = "under_way"  # moved when the attempt ends unpaid
    LEFT = "left"  # a debt of another gateway account: keeps its card


@dataclass(frozen=True, slots=True)
class MovedDebt:
    """A debt of a subscription whose card was changed."""

    charge: str
    due_at: datetime
    amount: int  # minor units
    currency: str
    became: Became


@dataclass(frozen=True, slots=True)
class CardChange:
    """The debts of a subscription whose card was changed, and what is charged next."""

    debts: tuple[MovedDebt, ...]
    following: Next | None  # None while it is paused, or when it ends before that
    opened: tuple[Opened, ...]

    @property
    def counts(self) -> dict[Became, int]:
        """The number of debts for each outcome; every outcome has an entry."""
        found = Counter(debt.became for debt in self.debts)
        return {became: found[became] for became in Became}
