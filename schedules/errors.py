"""Errors that are shown to a person or another backend: what was wrong, with which value, and what to do.

Each has a code of a closed set beside its message. The code says whether the same request can be repeated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """The kind of an error; `REMEDIES` and docs/reference/tasks.md say what its caller does."""

    INVALID = "invalid"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    ALREADY_DONE = "already_done"
    LIMIT = "limit"
    NOT_ALLOWED = "not_allowed"
    HELD = "held"
    DECLINED = "declined"
    BUSY = "busy"
    UNAVAILABLE = "unavailable"
    UNKNOWN = "unknown"
    FAILED = "failed"

    @property
    def advice(self) -> str:
        """The advice that follows the message of an error with this code."""
        return ADVICE if REMEDIES[self].repeat is Repeat.LATER else ""


class Repeat(StrEnum):
    """Whether the same request may be sent once more."""

    NEVER = "never"  # every repetition is refused
    PERSON = "after a person"  # after a person has removed the cause
    LATER = "later"


@dataclass(frozen=True, slots=True)
class Remedy:
    """What a code means, and what its caller does."""

    means: str
    then: str
    repeat: Repeat


ADVICE = "; try again later"
WHEN_KNOWN = "; try again when its outcome is known"  # in place of ADVICE
REMEDIES: Mapping[Code, Remedy] = {
    Code.INVALID: Remedy(
        "a field is missing, unknown, of another type, or has a value that cannot be",
        "correct the request",
        Repeat.NEVER,
    ),
    Code.NOT_FOUND: Remedy(
        "the customer, card, plan, policy, subscription, charge, refund or account that the request names is not "
        "known, or was deleted",
        "correct the name, or create what is missing first",
        Repeat.NEVER,
    ),
    Code.CONFLICT: Remedy(
        "it does not fit the present state of what it names, or its request key belongs to another request",
        "read the state and decide; take a new key for another request",
        Repeat.NEVER,
    ),
    Code.ALREADY_DONE: Remedy(
        "what the request asks for is already the case", "nothing; read the state to be sure", Repeat.NEVER
    ),
    Code.LIMIT: Remedy(
        "the request is above a limit of the settings, of a policy or of Again",
        "ask for less, or have a person decide",
        Repeat.NEVER,
    ),
    Code.NOT_ALLOWED: Remedy(
        "this actor may not do it, or a person did not confirm it", "have another person do it", Repeat.NEVER
    ),
    Code.HELD: Remedy(
        "a stop, a hold or the set-up of Again prevents it: charging is stopped, the database is a copy or on "
        "hold, a clock is wrong, an account has no credentials, a person must release it first",
        "have a person clear it; then send the same request",
        Repeat.PERSON,
    ),
    Code.DECLINED: Remedy(
        "the gateway or the card company refused it",
        "read the reason; take another card, or correct the request or the set-up at the gateway",
        Repeat.NEVER,
    ),
    Code.BUSY: Remedy(
        "something of the same charge, refund, subscription or customer is under way",
        "wait for its outcome, then send the same request",
        Repeat.LATER,
    ),
    Code.UNAVAILABLE: Remedy(
        "the gateway, the broker or the database did not answer",
        "send the same request later",
        Repeat.LATER,
    ),
    Code.UNKNOWN: Remedy(
        "whether it was done is not known yet; Again asks the gateway until it is",
        "read the state until it is known; never send it under another request key",
        Repeat.NEVER,
    ),
    Code.FAILED: Remedy(
        "a fault of Again or of its servers; the log has the details", "have a person read the log", Repeat.PERSON
    ),
}  # fmt: skip


class UserError(Exception):
    """An error that is shown to a person: its message says what was wrong, with which value, and what to do.

    Every class of errors is a FixedCode or an OwnCode.
    """

    code: Code


class FixedCode(UserError):
    """An error whose class has a code: `class Bad…(FixedCode, code=Code.…)`. Its message contains the advice."""

    def __init_subclass__(cls, *, code: Code) -> None:
        super().__init_subclass__()
        cls.code = code


class OwnCode(UserError):
    """An error whose code is given where it is raised; the code's advice follows its message."""

    def __init__(self, code: Code, words: str) -> None:
        # No advice is added to a message that says when to repeat the request.
        super().__init__(words if words.endswith(WHEN_KNOWN) else words + code.advice)
        self.code = code
        self.without_advice = words


class RuleBroken(FixedCode, ValueError, code=Code.INVALID):
    """The request breaks a rule; nothing was done."""


class BadMoney(RuleBroken, code=Code.INVALID):
    """An amount that is not a positive whole number of minor units, or an unknown currency."""


class BadCadence(RuleBroken, code=Code.INVALID):
    """A cadence that yields no dates."""


class BadZone(RuleBroken, code=Code.INVALID):
    """A time zone that the IANA database does not have."""


class BadPlan(RuleBroken, code=Code.INVALID):
    """A plan with contradictory fields, or with a field that the gateway refuses."""


class BadUid(RuleBroken, code=Code.INVALID):
    """A merchant_uid, charge key or subscription key that is not ours or was mistyped."""


class BadPolicy(RuleBroken, code=Code.INVALID):
    """An invalid dunning policy."""


class BadRules(RuleBroken, code=Code.INVALID):
    """An invalid file of decline rules."""


class BadRequest(RuleBroken, code=Code.INVALID):
    """An invalid field of a request; it names the field, and its code is given where it is raised."""

    def __init__(self, code: Code, field: str, words: str) -> None:
        self.code = code
        self.field = field
        self.words = words + code.advice
        self.without_advice = words
        super().__init__(f"{field}: {self.words}")


# Errors about a row that breaks a rule: the row is quarantined, and the others continue.
BROKEN = (RuleBroken, ValueError, LookupError, ArithmeticError)


def as_markdown() -> str:
    """The table of codes for docs/reference/tasks.md."""
    asked = {Repeat.NEVER: "no", Repeat.PERSON: "after a person has acted", Repeat.LATER: "yes, later"}
    rows = [
        f"| `{code}` | {remedy.means} | {remedy.then} | {asked[remedy.repeat]} |"
        for code, remedy in REMEDIES.items()
    ]
    head = ["| `code` | what it means | what the caller does | does the same request help? |", "|---|---|---|---|"]
    return "\n".join([*head, *rows]) + "\n"
