"""Errors that a person or another backend meets: what was wrong, with which value, and what to do.

Each has a code of a closed set, beside its sentence. Whether the same request helps later belongs to the code.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """What kind of refusal it is; `REMEDIES` and docs/reference/tasks.md say what its caller does."""

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
        """What follows the sentence of an error with this code."""
        return ADVICE if REMEDIES[self].repeat is Repeat.LATER else ""


class Repeat(StrEnum):
    """Whether the same request may be sent once more."""

    NEVER = "never"  # it is refused each time
    PERSON = "after a person"  # when a person has changed what is in its way
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
        "what the request asks for is already the case", "nothing; read the state if in doubt", Repeat.NEVER
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
        "a stop, a hold or the set-up of Again is in the way: charging is stopped, the database is a copy or on "
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


class ToldInWords(Exception):
    """An error that a person can meet: its words say what was wrong, with which value, and what to do.

    Every class of errors is a FixedCode or an OwnCode.
    """

    code: Code


class FixedCode(ToldInWords):
    """An error whose class has a code: `class Bad…(FixedCode, code=Code.…)`. Its words say all of the advice."""

    def __init_subclass__(cls, *, code: Code) -> None:
        super().__init_subclass__()
        cls.code = code


class OwnCode(ToldInWords):
    """An error that gets its code where it is raised; the code's advice follows its words."""

    def __init__(self, code: Code, words: str) -> None:
        # Words that say themselves when the same request helps need no second advice.
        super().__init__(words if words.endswith(WHEN_KNOWN) else words + code.advice)
        self.code = code
        self.without_advice = words


class RuleBroken(FixedCode, ValueError, code=Code.INVALID):
    """What was asked for is against a rule; nothing has been done."""


class BadMoney(RuleBroken, code=Code.INVALID):
    """An amount that is not a whole, positive number of minor units, or a currency that we do not know."""


class BadCadence(RuleBroken, code=Code.INVALID):
    """A rule of dates that cannot be followed."""


class BadZone(RuleBroken, code=Code.INVALID):
    """A time zone that the IANA database does not have."""


class BadPlan(RuleBroken, code=Code.INVALID):
    """A plan whose parts do not fit together or that the gateway would not take."""


class BadUid(RuleBroken, code=Code.INVALID):
    """A merchant_uid, charge key or subscription key that is not ours or was mistyped."""


class BadPolicy(RuleBroken, code=Code.INVALID):
    """A dunning policy that cannot be followed."""


class BadRules(RuleBroken, code=Code.INVALID):
    """A file of decline rules that cannot be followed."""


class BadRequest(RuleBroken, code=Code.INVALID):
    """A field of a request that cannot be; it is named, and its code is given where it is raised."""

    def __init__(self, code: Code, field: str, words: str) -> None:
        self.code = code
        self.field = field
        self.words = words + code.advice
        self.without_advice = words
        super().__init__(f"{field}: {self.words}")


# What rules raise over a row that none of them allows: it is set aside, and the others go on.
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
