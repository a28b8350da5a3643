"""The effect of each verb in each state of a subscription: one table for the code and docs/reference/verbs.md."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from schedules.charging.charges import SubscriptionStatus
from schedules.errors import Code
from schedules.subscriptions.cursor import MISSED_AFTER


class Verb(StrEnum):
    """The verbs for one subscription; the last two create one, beside the customer's others of the plan."""

    PAUSE = "pause"
    RESUME = "resume"
    UNDO_END = "undo an end"
    UNDO_SKIP = "undo a skip"
    SKIP = "skip"
    MOVE_ANCHOR = "move-anchor"
    MOVE_TIME = "move-time"
    CHANGE_PLAN = "change-plan"
    CHANGE_CARD = "change-card"
    END_LATER = "unsubscribe"
    END_NOW = "unsubscribe --now"
    SUBSCRIBE = "subscribe"
    TAKE_OVER = "take-over"


class State(StrEnum):
    """The states of a subscription at one instant; several may apply at once."""

    NONE = "none"
    SIGNUP = "signup"
    TAKEOVER = "takeover"
    ENDED = "ended"
    HELD = "held"
    ENDING = "ending"
    RESTING = "resting"
    PAUSED = "paused"
    BACKLOG = "backlog"
    DUE = "due now"
    SKIPPING = "skipping"
    TRIAL = "trial"
    DUNNING = "in dunning"
    SENDING = "call under way"
    UNKNOWN = "unknown"
    HELD_CHARGE = "charge held"
    STOPPED = "account stopped"
    ACTIVE = "active"


MEANINGS: Mapping[State, str] = {
    State.NONE: "there is no such subscription, and its customer has none to the plan",
    State.SIGNUP: "its first payment is under way, so that it does not exist yet",
    State.TAKEOVER: "its takeover from PortOne's schedules is not finished, so that it does not exist yet",
    State.ENDED: "it was canceled, or has reached the end that a person gave it",
    State.HELD: "it is quarantined until a person releases it",
    State.ENDING: "a person has set its end, which is in the future",
    State.RESTING: "its policy has paused it for a debt",
    State.PAUSED: "a person has paused it",
    State.BACKLOG: "several periods are due and not opened, or one has been for more than 24 hours",
    State.DUE: "one period is due and not opened",
    State.SKIPPING: "the next period is to be skipped",
    State.TRIAL: "its first period has not begun",
    State.DUNNING: "it owes a charge that was declined",
    State.SENDING: "a call for one of its charges is under way",
    State.UNKNOWN: "the outcome of a call for one of its charges is unknown",
    State.HELD_CHARGE: "one of its charges waits for an operator",
    State.STOPPED: "charging is stopped for its account, or for all",
    State.ACTIVE: "none of the others",
}


class Verdict(StrEnum):
    """Whether a verb is carried out."""

    ACCEPTED = "accepted"
    OPENS_FIRST = "opens first"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Ruling:
    """The effect of a verb in a state, and the reason."""

    verdict: Verdict
    why: str  # of a refusal, with {fields} of `Facts`
    code: Code | None = None  # of a refusal

    def __str__(self) -> str:
        return self.verdict.value


_ACCEPTED = Ruling(Verdict.ACCEPTED, "")
_OPENS = Ruling(Verdict.OPENS_FIRST, "the periods that are due are opened before the verb changes anything")
_CHANGES_SERIES = (Verb.SKIP, Verb.MOVE_ANCHOR, Verb.MOVE_TIME, Verb.CHANGE_PLAN)
_BEGINS = (Verb.SUBSCRIBE, Verb.TAKE_OVER)  # judged by what the customer has of the plan; with {plan} and {key}
_OF_ONE = tuple(verb for verb in Verb if verb not in _BEGINS)
_OPENING = (Verb.PAUSE, *_CHANGES_SERIES, Verb.CHANGE_CARD, Verb.END_LATER, Verb.END_NOW, Verb.UNDO_SKIP)


def _refused(code: Code, why: str, *verbs: Verb) -> dict[Verb, Ruling]:
    return {verb: Ruling(Verdict.REFUSED, why, code) for verb in verbs}


_NO_END = _refused(Code.ALREADY_DONE, "it has no end; nothing to undo", Verb.UNDO_END)
_NO_SKIP = _refused(Code.ALREADY_DONE, "it skips no period; nothing to undo", Verb.UNDO_SKIP)
_RUNS = _refused(Code.ALREADY_DONE, "it is not paused; nothing to resume", Verb.RESUME)
_ENDED = "it ended at {ends_at}; subscribe anew"
_RESTS = "it is paused; `again resume` it first"
_LIVE = _refused(Code.CONFLICT, "is on plan {plan!r} already, by subscription {key}", *_BEGINS)

# The first state, in the order of State, that refuses a verb gives the reason.
RULES: Mapping[State, Mapping[Verb, Ruling]] = {
    State.NONE: _refused(Code.NOT_FOUND, "it is not known; a subscription's key has 20 characters", *_OF_ONE),
    State.SIGNUP: _refused(Code.BUSY, "its first payment is under way; it begins when that is paid", *_OF_ONE)
    | _refused(
        Code.CONFLICT,
        "has a signup for plan {plan!r} under way; `again show {key}` shows its payment, and the "
        "subscription begins if it is there",
        *_BEGINS,
    ),
    State.TAKEOVER: _refused(
        Code.BUSY, "it is being taken over; wait until the takeover is finished", *_OF_ONE
    )
    | _refused(
        Code.CONFLICT, "has a takeover to plan {plan!r} under way, to become subscription {key}", Verb.SUBSCRIBE
    ),
    State.ENDED: _refused(
        Code.CONFLICT, _ENDED, *(v for v in _OF_ONE if v not in (Verb.END_LATER, Verb.END_NOW))
    )
    | _refused(Code.ALREADY_DONE, _ENDED, Verb.END_LATER, Verb.END_NOW),
    State.HELD: _refused(
        Code.HELD,
        "it is quarantined: {held_why}; `again release` it first", *(v for v in _OF_ONE if v is not Verb.END_NOW)
    ),
    State.ENDING: _refused(
        Code.CONFLICT, "it ends at {ends_at}; `again undo` that first", Verb.PAUSE, *_CHANGES_SERIES
    )
    | _refused(
        Code.CONFLICT,
        "is on plan {plan!r} until {ends_at}, by subscription {key}; `again undo {key}` lets that one go on, or "
        "give an anchor from {ends_on} on",
        *_BEGINS,
    ),
    State.RESTING: _refused(
        Code.CONFLICT,
        "it is paused until charge {rests_for} is paid; `again try`, `waive` or `paid-elsewhere` ends that, "
        "and the pause with it",
        Verb.PAUSE, Verb.RESUME, *_CHANGES_SERIES,
    )
    | _LIVE,
    State.PAUSED: _refused(Code.ALREADY_DONE, "it is paused already", Verb.PAUSE)
    | _refused(Code.CONFLICT, _RESTS, *_CHANGES_SERIES)
    | _LIVE,
    State.BACKLOG: dict.fromkeys(_OPENING, _OPENS),
    State.DUE: dict.fromkeys(_OPENING, _OPENS),
    State.SKIPPING: {},
    State.TRIAL: {},
    State.DUNNING: {},
    State.SENDING: {},
    State.UNKNOWN: {},
    State.HELD_CHARGE: {},
    State.STOPPED: {},
    State.ACTIVE: _RUNS | _LIVE,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of a subscription that determine its states."""

    status: SubscriptionStatus
    next_period_no: int
    next_due_at: datetime
    following_due_at: datetime  # of the period after the next one
    ends_at: datetime | None = None
    held_why: str | None = None
    skip_to: int = 0
    rests_for: str | None = None  # the key of a debt for which its policy paused it
    owes_declined: bool = False
    is_sending: bool = False
    is_unknown: bool = False
    has_held: bool = False  # a charge that waits for an operator
    is_stopped: bool = False  # charging, for its account
    is_taken_over: bool = True  # False while its takeover is under way


def states(facts: Facts, now: datetime) -> frozenset[State]:
    """Return all states of a subscription now; ACTIVE for one without another."""
    is_ended = facts.status is SubscriptionStatus.CANCELED or (facts.ends_at is not None and facts.ends_at <= now)
    is_active = facts.status is SubscriptionStatus.ACTIVE and not is_ended
    is_due = (
        is_active and facts.next_due_at <= now and (facts.ends_at is None or facts.next_due_at < facts.ends_at)
    )
    is_late = facts.following_due_at <= now or now - facts.next_due_at > MISSED_AFTER
    is_paused = facts.status is SubscriptionStatus.PAUSED and not is_ended
    found = {
        State.TAKEOVER: not facts.is_taken_over,
        State.ENDED: is_ended,
        State.HELD: facts.held_why is not None,
        State.ENDING: facts.ends_at is not None and not is_ended,
        State.RESTING: is_paused and facts.rests_for is not None,
        State.PAUSED: is_paused and facts.rests_for is None,
        State.BACKLOG: is_due and is_late,
        State.DUE: is_due and not is_late,
        State.SKIPPING: facts.skip_to > facts.next_period_no,
        State.TRIAL: is_active and facts.next_period_no == 0 and facts.next_due_at > now,
        State.DUNNING: facts.owes_declined,
        State.SENDING: facts.is_sending,
        State.UNKNOWN: facts.is_unknown,
        State.HELD_CHARGE: facts.has_held,
        State.STOPPED: facts.is_stopped,
        State.ACTIVE: is_active,
    }
    return frozenset(state for state, is_so in found.items() if is_so)


def ruling(verb: Verb, found: Collection[State]) -> Ruling:
    """Return the effect of a verb in these states; a refusal takes precedence, then opening first."""
    rulings = [RULES[state].get(verb, _ACCEPTED) for state in State if state in found]
    if State.ENDING not in found:
        rulings.append(_NO_END.get(verb, _ACCEPTED))
    if State.SKIPPING not in found:
        rulings.append(_NO_SKIP.get(verb, _ACCEPTED))
    for verdict in (Verdict.REFUSED, Verdict.OPENS_FIRST):
        for each in rulings:
            if each.verdict is verdict:
                return each
    return _ACCEPTED


ALONE = (State.NONE, State.SIGNUP, State.TAKEOVER, State.ENDED)
# The states that accompany the state of a row in the shown table.
BESIDE: Mapping[State, frozenset[State]] = {
    state: frozenset({state} if state in ALONE else {state, State.ACTIVE}) for state in State
} | {
    State.PAUSED: frozenset({State.PAUSED}),
    State.RESTING: frozenset({State.RESTING, State.DUNNING}),
}


def as_markdown() -> str:
    """Return the table of docs/reference/verbs.md, with the reason of each refusal below it."""
    head = ["| | " + " | ".join(f"`{verb}`" for verb in Verb) + " |", "|---|" + "---|" * len(Verb)]
    rows = [f"| **{state}** | " + " | ".join(_cell(verb, state) for verb in Verb) + " |" for state in State]
    meanings = [f"- **{state}**: {MEANINGS[state]}." for state in State]
    return "\n".join([*head, *rows, "", *meanings, "", *_reasons()])


def _cell(verb: Verb, state: State) -> str:
    found = ruling(verb, BESIDE[state])
    return "refused" if found.verdict is Verdict.REFUSED else str(found)


def _reasons() -> list[str]:
    told: dict[str, list[str]] = {}
    for state in State:
        for verb in Verb:
            found = ruling(verb, BESIDE[state])
            if found.code is not None:
                why = f"the customer {found.why}" if verb in _BEGINS else found.why
                told.setdefault(f"{why}{found.code.advice} (`{found.code}`)", []).append(f"{verb} / {state}")
    return [f"- refused because {why}: {', '.join(cells)}" for why, cells in told.items()]
