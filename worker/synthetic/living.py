"""One debt lived through under a policy, with the worker's own rules: what is tried when, and how it ends."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from schedules.charging.outcomes import Declined
from schedules.dunning.decisions import (
    AskGateway,
    Collected,
    Counter,
    Debt,
    GiveUp,
    History,
    SendAgain,
    SetAside,
    TryAgain,
    WaitForCard,
    counter,
    deadline,
    decide,
)
from worker.synthetic.contenders import Contender
from worker.synthetic.population import Customer, answer, is_dead

AT_ONCE = timedelta(seconds=60)  # the longest that a new card waits for its charge


class End(StrEnum):
    """How a debt ended within the time looked at."""

    COLLECTED = "collected"  # by a try
    PAID_OTHERWISE = "paid_otherwise"
    GIVEN_UP = "given_up"
    LEFT = "left"
    OPEN = "open"  # not ended yet


@dataclass(slots=True)
class Life:
    """A debt under a policy. Its first decline is the same for all, and no try of the policy."""

    customer: Customer
    contender: Contender
    history: History = field(default_factory=History)
    tries: list[datetime] = field(default_factory=list)
    tries_at_dead_cards: int = 0
    end: End = End.OPEN
    ended_at: datetime | None = None
    next_try: datetime | None = None
    gives_up_at: datetime | None = None
    declined: list[datetime] = field(default_factory=list)  # tries with the card that is known now

    @property
    def is_paid(self) -> bool:
        """Whether the charge was paid, by any card or attempt."""
        return self.end in (End.COLLECTED, End.PAID_OTHERWISE)


def lived(customer: Customer, contender: Contender, days: int) -> Life:
    """A debt from its first decline to its end, or to the last of the days."""
    life = Life(customer, contender)
    last = customer.failed_at + timedelta(days=days)
    _declined(life, customer.words, customer.failed_at)
    if (
        contender.charges_mended_cards_at_once
        and (mends_at := customer.mends_at)
        and _goes_on_until(life, min(mends_at, last)) is None
        and mends_at <= last
    ):
        # A new card begins a ladder of its own, and no hour is too late for a person who waits for it.
        life.history, life.declined = History(life.history.first_declined_at), []
        life.next_try, life.gives_up_at = mends_at + AT_ONCE, None
    _goes_on_until(life, last)
    return life


def _goes_on_until(life: Life, last: datetime) -> End | None:
    """Let everything happen that does before an instant; the end, when it is one."""
    while life.ended_at is None:
        at, end = min(_coming(life), key=lambda coming: coming[0], default=(last, None))
        if at >= last:
            return None
        if end is None:
            _try(life, at)
        else:
            life.end, life.ended_at = end, at
    return life.end


def _coming(life: Life) -> list[tuple[datetime, End | None]]:
    """What may happen next: a try, or an end."""
    coming = [
        (life.next_try, None),
        (life.gives_up_at, End.GIVEN_UP),
        (life.customer.pays_otherwise_at, End.PAID_OTHERWISE),
        (life.customer.leaves_at, End.LEFT),
    ]
    return [(at, end) for at, end in coming if at is not None]


def _try(life: Life, at: datetime) -> None:
    life.tries.append(at)
    life.tries_at_dead_cards += is_dead(life.customer, at)
    words = answer(life.customer, at)
    if words is None:
        life.end, life.ended_at = End.COLLECTED, at
    else:
        _declined(life, words, at)


def _declined(life: Life, words: str, at: datetime) -> None:
    """What the worker's rules make of a decline."""
    life.declined.append(at)
    said = life.contender.reads(words, life.customer.pg)
    said = replace(said, card_free_at=_card_free_at(life, at))
    policy = life.contender.policy
    debt = Debt(policy, life.history, uid=f"{life.customer.number}-{len(life.tries)}")
    outcome = Declined(words, pg_provider=life.customer.pg)
    decision = decide(outcome, debt, at, said)
    life.history = _counted(life.history, counter(outcome, debt, said), at)
    match decision:
        case TryAgain(again) | SendAgain(again):
            life.next_try, life.gives_up_at = again, None
        case WaitForCard():
            life.next_try = None
            life.gives_up_at = deadline(policy, life.history.ladder_began_at or at)
        case GiveUp():
            life.end, life.ended_at = End.GIVEN_UP, at
        case Collected() | AskGateway() | SetAside():
            raise AssertionError(f"a decline in the words {words!r} led to {decision}")


def _card_free_at(life: Life, at: datetime) -> datetime | None:
    """When the card's cap lets it be tried again; None when it is not reached."""
    cap = life.contender.policy.cap
    recent = [declined for declined in life.declined if declined > at - cap.within]
    return recent[-cap.declines] + cap.within if len(recent) >= cap.declines else None


def _counted(history: History, as_what: Counter, at: datetime) -> History:
    match as_what:
        case Counter.RUNG:
            return replace(
                history,
                declines=history.declines + 1,
                first_declined_at=history.first_declined_at or at,
                ladder_began_at=history.ladder_began_at or at,
                technical_tries=0,
            )
        case Counter.TECHNICAL:
            return replace(history, technical_tries=history.technical_tries + 1)
        case Counter.REFUSAL:
            return replace(history, refusals=history.refusals + 1)
        case Counter.MANUAL | Counter.NOTHING:
            return history
