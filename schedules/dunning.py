"""What comes after an answer: collected, send again, ask, try again by the ladder, or give up."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import assert_never

from schedules.errors import BadPolicy
from schedules.outcomes import Declined, NotSent, Outcome, Paid, Refused, Unknown, Voided

# A gateway that is down is tried often at first and hourly in the end; none of these uses up a rung.
TECHNICAL_DELAYS = tuple(timedelta(seconds=s) for s in (30, 60, 120, 300, 600, 1800, 3600))
# A fault of our own set-up needs a person; the customer is not touched, and the debt is never given up.
REFUSED_DELAYS = (timedelta(hours=1), timedelta(hours=6), timedelta(days=1))
# After downtime several rungs may be past at once; they must not be used up within one minute.
LEAST_SPACING = timedelta(hours=6)


class FinalAction(StrEnum):
    """What becomes of the subscription when the ladder has ended without money."""

    CANCEL = "cancel"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class DunningPolicy:
    """A plain ladder: offsets from the first decline, rising, and what is done after the last."""

    ladder: tuple[timedelta, ...] = (
        timedelta(days=1),
        timedelta(days=3),
        timedelta(days=7),
        timedelta(days=14),
    )
    final: FinalAction = FinalAction.KEEP

    def __post_init__(self) -> None:
        if len(self.ladder) > 20:
            raise BadPolicy(f"a ladder of {len(self.ladder)} rungs is too long; give at most 20")
        steps = (timedelta(0), *self.ladder)
        for before, after in zip(steps, self.ladder, strict=False):
            if after <= before:
                raise BadPolicy(f"ladder offset {after} does not come after {before}; give rising offsets")

    def to_json(self) -> dict[str, object]:
        """The policy as it is kept with a plan: offsets in whole seconds."""
        return {"ladder": [int(offset.total_seconds()) for offset in self.ladder], "final": self.final.value}

    @classmethod
    def from_json(cls, document: Mapping[str, object]) -> "DunningPolicy":
        """Read back what `to_json` wrote."""
        ladder = document.get("ladder")
        if not isinstance(ladder, list):
            raise BadPolicy(f"policy {dict(document)!r} has no list 'ladder' of seconds")
        return cls(tuple(timedelta(seconds=int(s)) for s in ladder), FinalAction(str(document.get("final"))))


@dataclass(frozen=True, slots=True)
class History:
    """What has come of a charge so far; three counters that are never mixed."""

    first_declined_at: datetime | None = None
    declines: int = 0
    technical_tries: int = 0
    refusals: int = 0


@dataclass(frozen=True, slots=True)
class Collected:
    """The money is there."""


@dataclass(frozen=True, slots=True)
class SendAgain:
    """Send the same merchant_uid again at this time: a technical retry."""

    at: datetime


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Start a new attempt, with a new merchant_uid, at this time."""

    at: datetime


@dataclass(frozen=True, slots=True)
class AskGateway:
    """Do nothing to the charge; the attempt is asked about until it is clear."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """Stop this charge and call a person."""

    why: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The ladder has ended."""

    final: FinalAction


Decision = Collected | SendAgain | TryAgain | AskGateway | SetAside | GiveUp


def decide(outcome: Outcome, history: History, policy: DunningPolicy, uid: str, now: datetime) -> Decision:
    """What to do after an answer; `history` is as it was before it."""
    match outcome:
        case Paid():
            return Collected()
        case Declined():
            return _next_rung(history, policy, now)
        case Refused():
            return TryAgain(now + _nth(REFUSED_DELAYS, history.refusals))
        case NotSent():
            delay = _nth(TECHNICAL_DELAYS, history.technical_tries)
            return SendAgain(now + delay * (0.5 + _jitter(uid, history.technical_tries)))
        case Voided():
            return TryAgain(now)
        case Unknown(reason, mismatch):
            return SetAside(reason) if mismatch else AskGateway()
        case _:
            assert_never(outcome)


def _next_rung(history: History, policy: DunningPolicy, now: datetime) -> TryAgain | GiveUp:
    rung = history.declines
    if rung >= len(policy.ladder):
        return GiveUp(policy.final)
    first = history.first_declined_at or now
    gap = policy.ladder[rung] - (policy.ladder[rung - 1] if rung else timedelta(0))
    return TryAgain(max(first + policy.ladder[rung], now + min(gap, LEAST_SPACING)))


def _nth(delays: tuple[timedelta, ...], n: int) -> timedelta:
    return delays[min(n, len(delays) - 1)]


def _jitter(uid: str, tries: int) -> float:
    """A share in [0, 1) that differs between attempts, so that an outage's end is no stampede."""
    return zlib.crc32(f"{uid}/{tries}".encode()) / 2**32
