"""Standings: the standing of a subscription and its overdue steps, computed from facts at each look."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, StrEnum

from schedules.charging.charges import SubscriptionStatus
from schedules.dunning.decisions import deadline
from schedules.dunning.policies import DunningPolicy, FinalAction

# A due charge is collected within minutes; after longer than this its subscription is past due.
USUAL_DELAY = timedelta(hours=1)


class Standing(StrEnum):
    """The standing of a subscription. docs/reference/states.md has a paragraph for each."""

    ACTIVE = "active"
    PAST_DUE = "past_due"
    IN_GRACE = "in_grace"
    SUSPENDED = "suspended"
    ENDED = "ended"

    @property
    def is_usable(self) -> bool:
        """Whether the customer may use the subscription."""
        return self not in (Standing.SUSPENDED, Standing.ENDED)


class Step(Enum):
    """The steps of a declined debt that are due by time alone."""

    SUSPEND = "the grace is over"
    WARN = "the final action is near"
    GIVE_UP = "the final action"


@dataclass(frozen=True, slots=True)
class Overdue:
    """The facts of an open debt."""

    policy: DunningPolicy
    due_at: datetime
    first_declined_at: datetime | None = None
    ladder_began_at: datetime | None = None
    waits: bool = False
    given_up: FinalAction | None = None


def standing(
    status: SubscriptionStatus, ends_at: datetime | None, owed: Sequence[Overdue], now: datetime
) -> Standing:
    """Compute a subscription's standing from a person's decision and its open debts."""
    if status is SubscriptionStatus.CANCELED or (ends_at is not None and ends_at <= now):
        return Standing.ENDED
    if status is SubscriptionStatus.PAUSED or any(_is_suspended(debt, now) for debt in owed):
        return Standing.SUSPENDED
    if any(debt.first_declined_at is not None for debt in owed):
        return Standing.IN_GRACE
    if any(debt.due_at + USUAL_DELAY <= now for debt in owed):
        return Standing.PAST_DUE
    return Standing.ACTIVE


def usable_until(debt: Overdue) -> datetime | None:
    """Return when the grace of a declined debt ends; None when it was not declined, or the grace has no end."""
    if debt.first_declined_at is None or debt.policy.grace is None:
        return None
    return debt.first_declined_at + debt.policy.grace


def gives_up_at(debt: Overdue) -> datetime | None:
    """Return when the final action is due; None when it was taken, or nothing is declined."""
    if debt.ladder_began_at is None or debt.given_up is not None:
        return None
    return deadline(debt.policy, debt.ladder_began_at)


def due_steps(debt: Overdue, now: datetime) -> list[Step]:
    """Return the steps that are due; each is taken once."""
    return [step for at, step in _steps(debt) if at <= now]


def next_look(debt: Overdue, now: datetime) -> datetime | None:
    """Return when the next step is due; None when there is none."""
    return min((at for at, _ in _steps(debt) if at > now), default=None)


def _is_suspended(debt: Overdue, now: datetime) -> bool:
    until = usable_until(debt)
    return debt.given_up in (FinalAction.UNPAID, FinalAction.PAUSE) or (until is not None and until <= now)


def _steps(debt: Overdue) -> list[tuple[datetime, Step]]:
    steps: list[tuple[datetime, Step]] = []
    if (until := usable_until(debt)) is not None:
        steps.append((until, Step.SUSPEND))
    if (end := gives_up_at(debt)) is not None:
        warning = debt.policy.last_warning
        if warning is not None and warning < debt.policy.patience:
            steps.append((end - warning, Step.WARN))
        if debt.waits:
            steps.append((end, Step.GIVE_UP))
    return sorted(steps, key=lambda step: step[0])
