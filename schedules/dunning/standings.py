"""Where a subscription stands, and what time alone brings: computed from facts at each look, never stepped."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, StrEnum

from schedules.charging.charges import SubscriptionStatus
from schedules.dunning.decisions import deadline
from schedules.dunning.policies import DunningPolicy, FinalAction

# A charge that is due is collected within minutes; a subscription is past due when something keeps it longer.
USUAL_DELAY = timedelta(hours=1)


class Standing(StrEnum):
    """Where a subscription stands. docs/reference/states.md has a paragraph for each."""

    ACTIVE = "active"
    PAST_DUE = "past_due"
    IN_GRACE = "in_grace"
    SUSPENDED = "suspended"
    ENDED = "ended"

    @property
    def is_usable(self) -> bool:
        """Whether the customer may use what the subscription is for."""
        return self not in (Standing.SUSPENDED, Standing.ENDED)


class Step(Enum):
    """What the passing of time brings to a debt that was declined."""

    SUSPEND = "the grace is over"
    WARN = "the final action is near"
    GIVE_UP = "the final action"


@dataclass(frozen=True, slots=True)
class Overdue:
    """What is known of a debt that is owed."""

    policy: DunningPolicy
    due_at: datetime
    first_declined_at: datetime | None = None
    ladder_began_at: datetime | None = None
    waits: bool = False
    given_up: FinalAction | None = None


def standing(
    status: SubscriptionStatus, ends_at: datetime | None, owed: Sequence[Overdue], now: datetime
) -> Standing:
    """Where a subscription stands now, by what a person decided and by what is owed for it."""
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
    """When the grace of a declined debt ends; None when it was not declined, or the policy's grace never ends."""
    if debt.first_declined_at is None or debt.policy.grace is None:
        return None
    return debt.first_declined_at + debt.policy.grace


def gives_up_at(debt: Overdue) -> datetime | None:
    """When the final action comes, as things stand; None when it was taken, or nothing is declined."""
    if debt.ladder_began_at is None or debt.given_up is not None:
        return None
    return deadline(debt.policy, debt.ladder_began_at)


def due_steps(debt: Overdue, now: datetime) -> list[Step]:
    """What has come by now; each is done once, however often it is looked at."""
    return [step for at, step in _steps(debt) if at <= now]


def next_look(debt: Overdue, now: datetime) -> datetime | None:
    """When the passing of time changes something next; None when it never will."""
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
