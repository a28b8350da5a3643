"""Preview a policy: each try and each step that follows a failure, if every try fails in the same way."""

from dataclasses import dataclass, replace
from datetime import datetime

from schedules.charging.outcomes import Declined
from schedules.dunning.decisions import (
    NEEDS_CARD,
    NOT_THE_CARD,
    Counter,
    Debt,
    GiveUp,
    History,
    Said,
    SendAgain,
    TryAgain,
    counter,
    decide,
)
from schedules.dunning.declines import DeclineClass
from schedules.dunning.policies import DunningPolicy
from schedules.dunning.standings import Overdue, Step, due_steps, gives_up_at, next_look

MOST_TRIES = 60  # a connection error is retried without end
SHOWN_OF_ENDLESS = 12  # tries that are shown then


@dataclass(frozen=True, slots=True)
class Coming:
    """One step after a failure, and its time."""

    at: datetime
    what: str


def preview(policy: DunningPolicy, said: Said, first_declined_at: datetime, zone: str) -> list[Coming]:
    """Return all steps after a first decline at this instant, in order, for a card that never pays."""
    tries, ended = _tries(policy, said, first_declined_at, zone)
    if said.decline_class in NOT_THE_CARD:
        coming = [Coming(first_declined_at, "failed without a decline: no notice, no rung is used up")]
        coming += [Coming(at, f"try {number}") for number, at in enumerate(tries[:SHOWN_OF_ENDLESS], start=2)]
        is_endless = said.decline_class is not DeclineClass.NOT_A_DECLINE
        last = "and so on, until it is paid or declined" if is_endless else "the last one is held: charge.held"
        return [*coming, Coming(coming[-1].at, last)]
    coming = [Coming(first_declined_at, "declined: charge.failed, subscription.past_due")]
    if said.decline_class in NEEDS_CARD:
        coming.append(Coming(first_declined_at, "no try until the card changes: card.needs_update"))
    coming += [Coming(at, f"try {number}") for number, at in enumerate(tries, start=2)]
    if ended is None:
        ended = gives_up_at(_overdue(policy, first_declined_at))
    coming += _brought_by_time(policy, first_declined_at, ended)
    if ended is not None:
        coming.append(Coming(ended, f"final action: {policy.final}"))
    return sorted(coming, key=lambda thing: thing.at)


def _tries(
    policy: DunningPolicy, said: Said, begin: datetime, zone: str
) -> tuple[list[datetime], datetime | None]:
    """Return the tries, and when the policy gives up if that directly follows the last one."""
    no = Declined("no")
    debt, now, tries = Debt(policy, zone=zone), begin, list[datetime]()
    while len(tries) < MOST_TRIES:
        decision = decide(no, debt, now, said)
        if isinstance(decision, GiveUp):
            return tries, now
        if not isinstance(decision, SendAgain | TryAgain):
            return tries, None
        history, used = debt.history, counter(no, debt, said)
        debt = replace(
            debt,
            history=History(
                first_declined_at=begin,
                declines=history.declines + (used is Counter.RUNG),
                technical_tries=history.technical_tries + (used is Counter.TECHNICAL),
                refusals=history.refusals + (used is Counter.REFUSAL),
                ladder_began_at=begin,
                unanswered_tries=history.unanswered_tries + (used is Counter.TECHNICAL),
            ),
        )
        now = decision.at
        tries.append(now)
    return tries, None


def _overdue(policy: DunningPolicy, begin: datetime) -> Overdue:
    return Overdue(policy, begin, begin, begin, waits=True)


def _brought_by_time(policy: DunningPolicy, begin: datetime, ended: datetime | None) -> list[Coming]:
    seen, told = (
        _overdue(policy, begin),
        {Step.SUSPEND: "subscription.suspended", Step.WARN: "dunning.last_warning"},
    )
    coming: list[Coming] = []
    at = next_look(seen, begin)
    while at is not None and ended is not None and at < ended:
        step = due_steps(seen, at)[-1]
        if step in told:
            coming.append(Coming(at, f"{step.value}: {told[step]}"))
        at = next_look(seen, at)
    return coming
