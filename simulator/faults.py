"""Faults by rule and by rate; which call is hit depends on the seed and the call alone, so that runs repeat."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum


class Fault(StrEnum):
    """What can go wrong with a call; `before` and `after` say whether money moves."""

    TIMEOUT_BEFORE = "timeout_before"
    TIMEOUT_AFTER = "timeout_after"
    RESET_BEFORE = "reset_before"
    RESET_AFTER = "reset_after"
    RESET_IN_BODY = "reset_in_body"
    HTTP_500_BEFORE = "http_500_before"
    HTTP_500_AFTER = "http_500_after"
    HTTP_502_BEFORE = "http_502_before"
    HTTP_502_AFTER = "http_502_after"
    HTTP_429 = "http_429"
    SLOW = "slow"
    GARBAGE = "garbage"
    TRUNCATED = "truncated"
    WRONG_AMOUNT = "wrong_amount"
    LATE_PAID = "late_paid"
    LATE_SHOWN = "late_shown"
    TOKEN_EXPIRED = "token_expired"  # noqa: S105 # a fault's name
    WEBHOOK_DUPLICATED = "webhook_duplicated"
    WEBHOOK_MISSING = "webhook_missing"


ANY = "any"  # every call but webhooks
WEBHOOK = "webhook"
CHARGES = ("again", "onetime")
CALLS = (
    "token", *CHARGES, "issue", "key", "find", "list", "cancel", "schedule", "prepare", WEBHOOK, ANY,
)  # fmt: skip
HANG_SECONDS = 70.0  # longer than the 60 s that PortOne asks its clients to wait
SLOW_SECONDS = 2.0


@dataclass(slots=True)
class Rule:
    """Which calls a fault hits: those that match, at a rate, at most so many times."""

    fault: Fault
    call: str = "again"
    path: str | None = None  # the beginning of the path
    merchant_uid: str | None = None
    customer_uid: str | None = None
    rate: float = 1.0
    times: int | None = None
    seconds: float = HANG_SECONDS  # of the hang or wait; of the simulated clock for late_paid and late_shown
    shown_after: float = (
        0.0  # seconds of the simulated clock until find and lists show the payment, with any fault
    )

    def matches(self, call: str, path: str, merchant_uid: str, customer_uid: str) -> bool:
        """Whether the rule is about this call."""
        return (
            (self.call == call or (self.call == ANY and call != WEBHOOK))
            and self.times != 0
            and (self.path is None or path.startswith(self.path))
            and self.merchant_uid in (None, merchant_uid)
            and self.customer_uid in (None, customer_uid)
        )


@dataclass(slots=True)
class Faults:
    """The rules in force, and the switches: where the real gateway's habits are not known for sure."""

    seed: int = 0
    rules: list[Rule] = field(default_factory=list)
    latency_ms: float = 0.0  # between the look at the uid and the charge
    rate_cap: float | None = None  # charges in any one second of real time; 429 above it
    concurrent_same_uid: str = "allow"  # or "reject"; allow is the worst case
    over_long_uid: str = "reject"  # or "truncate"; a merchant_uid of more than 40 characters
    unknown_key: int = 200  # or 404; the status of an answer about a customer_uid that is not there
    sandbox: bool = False  # whether the account's channel is a test channel
    card_contract: str = "number"  # or "birth", "birth_and_password"; what else is compared with the card
    strict: bool = False  # whether `name` and `channel_key`, required on paper only, are required
    _sends: Counter[str] = field(default_factory=Counter)

    def pick(self, call: str, path: str = "", merchant_uid: str = "", customer_uid: str = "") -> Rule | None:
        """The first rule that hits this call; a uid's first, second, … sending are different calls."""
        if not self.rules:
            return None
        name = f"{call}/{merchant_uid}/{customer_uid}"
        self._sends[name] += 1
        for place, rule in enumerate(self.rules):
            if rule.matches(call, path, merchant_uid, customer_uid) and self._share(place, name) < rule.rate:
                if rule.times is not None:
                    rule.times -= 1
                return rule
        return None

    def _share(self, place: int, name: str) -> float:
        words = f"{self.seed}/{place}/{name}/{self._sends[name]}".encode()
        return int.from_bytes(hashlib.blake2b(words, digest_size=7).digest(), "big") / 2**56

    def as_json(self) -> dict[str, object]:
        """What is in force."""
        return {
            "seed": self.seed, "rules": [_rule_as_json(rule) for rule in self.rules],
            "latency_ms": self.latency_ms, "rate_cap": self.rate_cap,
            "concurrent_same_uid": self.concurrent_same_uid, "over_long_uid": self.over_long_uid,
            "unknown_key": self.unknown_key, "sandbox": self.sandbox,
            "card_contract": self.card_contract, "strict": self.strict,
        }  # fmt: skip


def _rule_as_json(rule: Rule) -> dict[str, object]:
    match = {name: getattr(rule, name) for name in ("call", "path", "merchant_uid", "customer_uid")}
    return {
        "match": {name: wish for name, wish in match.items() if wish is not None}, "fault": rule.fault,
        "rate": rule.rate, "times": rule.times, "seconds": rule.seconds, "shown_after": rule.shown_after,
    }  # fmt: skip
