"""Faults by rule and rate. The seed and the call alone decide which calls are hit, so runs can be repeated."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum


class Fault(StrEnum):
    """The kinds of faults of a call; `before` and `after` say whether the money moves."""

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
    """The calls that a fault hits: those that match, with a rate, at most `times`."""

    fault: Fault
    call: str = "again"
    path: str | None = None  # prefix of the path
    merchant_uid: str | None = None
    customer_uid: str | None = None
    rate: float = 1.0
    times: int | None = None
    seconds: float = HANG_SECONDS  # of the hang or wait; by the simulated clock for late_paid and late_shown
    shown_after: float = 0.0  # seconds of the simulated clock before find and lists show the payment

    def matches(self, call: str, path: str, merchant_uid: str, customer_uid: str) -> bool:
        """Whether the rule matches this call."""
        return (
            (self.call == call or (self.call == ANY and call != WEBHOOK))
            and self.times != 0
            and (self.path is None or path.startswith(self.path))
            and self.merchant_uid in (None, merchant_uid)
            and self.customer_uid in (None, customer_uid)
        )


@dataclass(slots=True)
class Faults:
    """The rules in force, and switches for behaviour of the real gateway that is not known for sure."""

    seed: int = 0
    rules: list[Rule] = field(default_factory=list)
    latency_ms: float = 0.0  # between the check of the uid and the charge
    rate_cap: float | None = None  # charges in any one second of real time; 429 above it
    concurrent_same_uid: str = "allow"  # or "reject"; allow is the worst case
    over_long_uid: str = "reject"  # or "truncate"; a merchant_uid of more than 40 characters
    unknown_key: int = 200  # or 404; HTTP status of an answer about an unknown customer_uid
    sandbox: bool = False  # whether the account's channel is a test channel
    card_contract: str = "number"  # or "birth", "birth_and_password": what else is compared
    strict: bool = False  # whether `name` and `channel_key` are required, as PortOne only documents
    _sends: Counter[str] = field(default_factory=Counter)

    def pick(self, call: str, path: str = "", merchant_uid: str = "", customer_uid: str = "") -> Rule | None:
        """The first rule that hits this call. Each repeat of a call for the same uid is drawn separately."""
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
        """The rules and switches in force."""
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
        "match": {name: value for name, value in match.items() if value is not None}, "fault": rule.fault,
        "rate": rule.rate, "times": rule.times, "seconds": rule.seconds, "shown_after": rule.shown_after,
    }  # fmt: skip
